"""Adding, deleting, compacting, against an index that is built of the final documents at once."""

from __future__ import annotations

import errno
import gc
import random
import weakref
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from dupmae_toolkit import Document, HybridIndex, Query
from dupmae_toolkit.collection.fields import Columns
from dupmae_toolkit.collection.opening import open_corpus
from dupmae_toolkit.encoding.source import Memory
from dupmae_toolkit.encoding.stream import encode_corpus
from dupmae_toolkit.errors import BusyError, DupMAEError, EncoderMismatchError, InputError
from dupmae_toolkit.index import updates
from dupmae_toolkit.index.health.verify import verify_index
from dupmae_toolkit.index.info import index_info
from dupmae_toolkit.index.manifest import Manifest
from dupmae_toolkit.index.merging import FAN, tier_of
from dupmae_toolkit.index.updates import add_corpus, add_encoded, compact_index, delete_documents
from dupmae_toolkit.locks import exclusive
from tests.support import HashingEncoder

pytestmark = [pytest.mark.java, pytest.mark.usefixtures("quick_disk")]

#: Its largest weight is above that of all documents here.
ENCODER = HashingEncoder(size=128, dim=8, largest_weight=4.0)
WORDS = [f"word{i}" for i in range(150)]
TOPICS = [Query(f"q{i}", " ".join(random.Random(i).choices(WORDS, k=5))) for i in range(6)]
TOPICS += [Query("copies", "the very same words"), Query("none", "nothing-known-at-all")]
MODES = ("dense", "lexical", "bm25", "hybrid")


def document(number: int, version: int = 0) -> Document:
    dice = random.Random(f"{number} {version}")
    if number % 10 == 0:
        return Document(f"d{number}", "", "the very same words in each")
    return Document(f"d{number}", f"T{version}", " ".join(dice.choices(WORDS, k=9)))


def some(start: int, stop: int, version: int = 0) -> list[Document]:
    return [document(number, version) for number in range(start, stop)]


@pytest.fixture
def index(tmp_path) -> HybridIndex:
    built = HybridIndex.build(tmp_path / "index", some(0, 40), ENCODER, segment_size=64)
    yield built
    built.close()


def results(index: HybridIndex) -> dict:
    found = {}
    for mode in MODES:
        for exact in (False, True):
            run = index.search_batch(TOPICS, 15, mode, exact=exact)
            for topic in TOPICS:
                ranking = run[topic.id]
                found[mode, exact, topic.id] = list(
                    zip(ranking.ids, ranking.scores.tolist(), strict=True)
                )
    return found


def same_as_built_at_once(index: HybridIndex, documents: dict[str, Document], folder: Path) -> None:
    """Ids and scores of every search, and titles and texts, to the last bit.

    The scale is the encoder's. The index built at once has the same mean length; after compacting,
    that is the mean length of its own documents.
    """
    mean = index.manifest.bm25.mean_length
    fresh = HybridIndex.build(folder, list(documents.values()), ENCODER, mean_length=mean)
    assert len(index) == len(fresh) == len(documents)
    assert results(index) == results(fresh)
    for hit in index.search(TOPICS[0].text, k=5):
        assert (hit.title, hit.text) == (documents[hit.id].title, documents[hit.id].text)
    assert verify_index(index.path) == []
    fresh.close()


@pytest.mark.parametrize("seed", range(4))
def test_any_sequence_of_changes_gives_the_index_of_the_final_documents(index, tmp_path, seed):
    dice = random.Random(seed)
    documents = {d.id: d for d in some(0, 40)}
    fresh_number = 40
    for step in range(7):
        what = dice.choice(["add", "add", "replace", "delete", "compact"])
        if what == "add":
            new = some(fresh_number, fresh_number + dice.randint(1, 12))
            fresh_number += len(new)
            assert index.add(new).added == len(new)
            documents |= {d.id: d for d in new}
        elif what == "replace":
            numbers = dice.sample(range(fresh_number), 6)
            new = [document(number, step + 1) for number in numbers]
            done = index.add(new, replace=True)
            assert done.added == 6
            assert done.replaced == sum(d.id in documents for d in new)
            documents |= {d.id: d for d in new}
        elif what == "delete":
            gone = dice.sample(sorted(documents), min(len(documents) - 1, dice.randint(1, 15)))
            assert index.delete(gone).deleted == len(gone)
            documents = {name: d for name, d in documents.items() if name not in gone}
        else:
            index.compact()
            assert index.manifest.dead == 0
            assert len(index.manifest.segments) == 1 + (len(documents) > 64)
        assert len(index) == len(documents)
    same_as_built_at_once(index, documents, tmp_path / "fresh")


def test_an_open_searcher_keeps_its_state_until_it_is_told(index, tmp_path):
    reader = HybridIndex.open(index.path, ENCODER)
    before = results(reader)
    index.delete([f"d{n}" for n in range(0, 40, 2)])
    index.add(some(40, 60))
    index.compact()
    assert results(reader) == before
    assert len(reader) == 40
    assert reader.refresh()
    assert not reader.refresh()
    assert results(reader) == results(index) != before
    # What the reader held is gone with the next change.
    assert index_info(index.path)["leftovers"] != []
    index.add(some(60, 61))
    index.add(some(61, 62))
    assert index_info(index.path)["leftovers"] == []
    reader.close()


def test_small_segments_are_searched_as_one_with_the_results_of_each_by_itself(index):
    for number in range(40, 46):
        index.add([document(number)])
    index.delete(["d41", "d3"])
    index.add([document(3, 9), document(44, 9)], replace=True)
    assert len(index.manifest.segments) > 2
    together = HybridIndex.open(index.path, ENCODER)
    apart = HybridIndex.open(index.path, ENCODER, max_postings=0)
    assert len(together._snapshot.searched) == 1
    assert len(apart._snapshot.searched) == len(index.manifest.segments)
    assert len(together) == len(apart) == 45
    assert results(together) == results(apart)
    for topic in TOPICS[:3]:
        assert together.search(topic.text, k=45) == apart.search(topic.text, k=45)
    assert {d.id: d for d in together.corpus()} == {d.id: d for d in apart.corpus()}
    assert together.get(["d44", "d41"]) == {"d44": document(44, 9)}
    together.close()
    apart.close()


def test_an_answer_is_read_in_the_state_that_gave_it(index):
    answer = index.answer(TOPICS[0].text, index.request(3))
    expected = [hit.id for hit in index.hits(answer)]
    index.delete(expected)
    assert [hit.id for hit in index.hits(answer)] == expected
    assert not set(expected) & {hit.id for hit in index.search(TOPICS[0].text, k=3)}


def test_ids_that_are_there_are_refused_before_anything_happens(index):
    before = snapshot(index.path)
    with pytest.raises(InputError, match=r":2: the id 'd7' is in the index already; pass --repl"):
        index.add([document(90), document(7)])
    assert snapshot(index.path) == before
    with pytest.raises(InputError, match="has no document 'nobody'; nothing was deleted"):
        index.delete(["d1", "nobody"])
    assert snapshot(index.path) == before
    assert index.delete(["d1", "nobody", "d1"], ignore_missing=True).deleted == 1
    with pytest.raises(InputError, match="no document 'd1'"):
        index.delete(["d1"])
    assert index.delete([], ignore_missing=True).generation == index.manifest.generation
    with pytest.raises(InputError, match="a list of strings"):
        index.delete("d2")
    # An id that was deleted is free again.
    assert index.add([document(1, 5)]).replaced == 0


def snapshot(folder: Path) -> dict[str, bytes]:
    return {str(p): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def test_everything_can_be_deleted_and_the_index_filled_again(index, tmp_path):
    index.delete([f"d{n}" for n in range(40)])
    assert len(index) == 0
    assert all(not hits for hits in results(index).values())
    assert index.search("the very same words") == []
    assert verify_index(index.path) == []
    assert index.compact().merged == 0
    index.add(some(0, 3))
    same_as_built_at_once(index, {d.id: d for d in some(0, 3)}, tmp_path / "fresh")
    assert len(index.manifest.segments) == 1


def test_many_small_additions_leave_few_segments_and_rewrite_little(tmp_path):
    index = HybridIndex.build(tmp_path / "index", some(0, 40), ENCODER)
    rewritten = 0
    for number in range(40, 88):
        rewritten += add_corpus(index.path, [document(number)], ENCODER).merged
        segments = Manifest.load(index.path).segments
        tiers = [tier_of(entry.live) for entry in segments]
        assert all(tiers.count(tier) < FAN for tier in tiers)
    index.refresh()
    assert len(index) == 88
    assert rewritten <= 48 * (tier_of(88) + 1)


def test_an_addition_larger_than_a_segment_becomes_several(index, tmp_path):
    done = index.add(some(40, 240))
    assert (done.added, done.documents) == (200, 240)
    assert max(entry.count for entry in index.manifest.segments) <= 64
    index.compact()
    assert [entry.count for entry in index.manifest.segments] == [60] * 4
    same_as_built_at_once(index, {d.id: d for d in some(0, 240)}, tmp_path / "fresh")


def test_encoded_documents_are_added_and_other_encoders_are_refused(index, tmp_path):
    encoded = encode_corpus(some(40, 50), ENCODER, tmp_path / "encoded")
    assert add_encoded(index.path, encoded).added == 10
    with pytest.raises(InputError, match="the id 'd40' is in the index already"):
        add_encoded(index.path, encoded)
    assert add_encoded(index.path, encoded, replace=True).replaced == 10
    assert (tmp_path / "encoded").is_dir()
    other = HashingEncoder(size=128, dim=8, name="other")
    with pytest.raises(EncoderMismatchError, match="'hashing', opened with 'other'"):
        add_corpus(index.path, some(50, 51), other)
    strange = encode_corpus(some(50, 51), other, tmp_path / "strange")
    with pytest.raises(EncoderMismatchError, match="'other'"):
        add_encoded(index.path, strange)


def test_additions_too_small_for_the_spec_are_searched_one_by_one(tmp_path):
    index = HybridIndex.build(tmp_path / "ivf", some(0, 60), ENCODER, faiss="IVF8,Flat")
    index.add(some(60, 63))
    assert [e.faiss_spec for e in index.manifest.segments] == ["", "Flat"]
    assert verify_index(index.path) == []
    index.compact()
    assert [e.faiss_spec for e in index.manifest.segments] == [""]
    exact = index.search_batch(TOPICS, 15, "dense", exact=True)
    fresh = HybridIndex.build(tmp_path / "flat", some(0, 63), ENCODER)
    plain = fresh.search_batch(TOPICS, 15, "dense", exact=True)
    for topic in TOPICS:
        assert exact[topic.id].ids == plain[topic.id].ids


def test_a_heavier_weight_than_any_before_is_clipped_and_counted(tmp_path):
    light = [Document(f"a{n}", "", f"word{n} word{n + 1}") for n in range(8)]
    silent = HashingEncoder(size=128, dim=8)
    index = HybridIndex.build(tmp_path / "index", light, silent)
    assert index.add([Document("heavy", "", "word3 " * 50)]).error.clipped == 1
    assert index.manifest.segments[-1].error.clipped == 1
    assert index.search("word3", mode="lexical")[0].id == "heavy"


def test_an_interrupted_build_must_be_finished_first(index):
    (index.path / ".building").mkdir()
    with pytest.raises(InputError, match="a build was interrupted there; finish it"):
        delete_documents(index.path, ["d1"])


def test_no_index_no_change(tmp_path):
    with pytest.raises(InputError, match="no such index"):
        delete_documents(tmp_path / "nothing", ["d1"])
    with pytest.raises(InputError, match="no such index"):
        compact_index(tmp_path / "nothing")
    assert not (tmp_path / "nothing").exists()


@pytest.mark.parametrize("damage", ["cut", "other rows", "gone", "no array"])
def test_damaged_deletions_are_told(index, damage):
    index.delete(["d1", "d2"])
    entry = index.manifest.segments[0]
    path = index.path / entry.deletions
    if damage == "cut":
        path.write_bytes(path.read_bytes()[:-3])
    elif damage == "other rows":
        np.save(path, np.array([5, 4], np.int64))
    elif damage == "gone":
        path.unlink()
    else:
        path.write_bytes(b"no array")
    with pytest.raises(DupMAEError, match="deletions"):
        HybridIndex.open(index.path, ENCODER)
    assert any("deletions" in str(problem) for problem in verify_index(index.path))


def test_a_file_cut_short_is_told_on_opening(index):
    path = next(index.path.glob("segments/*/faiss/index"))
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(InputError, match="bytes instead of"):
        HybridIndex.open(index.path, ENCODER)


def test_what_another_process_encodes_for_an_addition_is_left_alone(index):
    encoding = index.path / ".adding" / "0123456789ab"
    started = updates.adding_folder(index.path, Memory([]))
    for folder in (encoding, started):
        folder.mkdir(parents=True)
        (folder / "part").write_text("hours of work")
    with exclusive(started), exclusive(encoding):
        with pytest.raises(BusyError, match="another process is writing there"):
            updates.add_corpus(index.path, some(40, 41), ENCODER, wait=0)
        index.compact()
        HybridIndex.build(index.path, some(0, 5), ENCODER, overwrite=True).close()
        assert (started / "part").exists()
        assert (encoding / "part").exists()
    index.refresh()
    index.compact()
    assert not (index.path / ".adding").exists()


def test_what_is_encoded_stays_until_it_is_added(index, monkeypatch):
    encode = updates.encode_afresh

    def then_another_changes_the_index(*words, **settings):
        encoded = encode(*words, **settings)
        updates.compact_index(index.path)
        updates.delete_documents(index.path, [some(0, 1)[0].id])
        return encoded

    monkeypatch.setattr(updates, "encode_afresh", then_another_changes_the_index)
    assert updates.add_corpus(index.path, some(40, 43), ENCODER).added == 3
    assert not (index.path / ".adding").exists()


def test_several_add_at_once(index):
    before = len(index)
    lists = [some(start, start + 4) for start in range(40, 64, 4)]
    with ThreadPoolExecutor(len(lists)) as pool:
        done = list(pool.map(lambda own: updates.add_corpus(index.path, own, ENCODER), lists))
    assert [update.added for update in done] == [4] * len(lists)
    index.refresh()
    assert len(index) == before + 24
    assert not (index.path / ".adding").exists()


def test_states_that_are_left_are_forgotten(index):
    states = []
    for number in range(40, 50):
        index.search(TOPICS[0].text)
        states.append(weakref.ref(index._snapshot))
        index.add(some(number, number + 1))
    gc.collect()
    assert [state() for state in states] == [None] * 10
    assert len(index.search("the very same words", k=50)) > 0


@pytest.mark.parametrize("most", [0, 10**6])
def test_segments_that_were_merged_away_are_let_go_when_no_search_needs_them(index, most):
    reader = HybridIndex.open(index.path, ENCODER, max_postings=most)
    topic = TOPICS[0].text
    answer = reader.answer(topic, reader.request(3))
    segment = weakref.ref(reader._snapshot.segments[0])
    opened = list(segment().opened)
    index.delete(["d1"])
    index.compact()
    assert reader.refresh()
    gc.collect()
    assert segment() is not None  # the answer can still be read
    assert len(reader.hits(answer)) == 3
    answer = None
    gc.collect()
    assert segment() is None
    assert len(reader._left) == 1
    index.add(some(40, 41))
    assert reader.refresh()
    assert reader._left == []
    assert len(opened) == (most == 0)
    for lucene in opened:
        with pytest.raises(DupMAEError, match="closed"):
            lucene.search_terms([{"t1": 1.0}], 3)
    assert len(reader.search(topic, k=3)) == 3
    reader.close()


def test_a_state_stays_on_the_disk_as_long_as_an_answer_needs_it(index):
    reader = HybridIndex.open(index.path, ENCODER)
    answer = reader.answer(TOPICS[0].text, reader.request(3))
    index.delete(["d1"])
    index.compact()
    assert reader.refresh()
    index.add(some(40, 41))  # removes what nobody holds
    assert len(reader.hits(answer)) == 3
    reader.close()


def test_an_index_that_is_replaced_may_have_another_vocabulary(index):
    reader = HybridIndex.open(index.path)
    other = HashingEncoder(size=64, dim=8)
    HybridIndex.build(index.path, some(0, 5), other, overwrite=True).close()
    assert reader.refresh()
    assert len(reader.search_batch(other.encode_queries(["word1 word2"], ["q"])).topics["q"]) == 5
    reader.close()


def test_an_index_that_is_replaced_is_another_state_though_it_counts_from_nothing(index):
    reader = HybridIndex.open(index.path, ENCODER)
    HybridIndex.build(index.path, some(0, 5), ENCODER, overwrite=True).close()
    assert reader.manifest.generation == Manifest.load(index.path).generation == 0
    assert len(reader) == 40
    assert reader.refresh()
    assert len(reader) == 5
    reader.close()


def test_an_addition_that_replaces_damaged_documents_is_made_and_said_to_be(index):
    name = index.manifest.segments[0].name
    (index.path / "segments" / name / "documents.parquet").write_bytes(b"")
    before = len(index)
    # One document of the damaged segment is left, so it is due to be written anew.
    done = updates.add_corpus(index.path, some(0, before - 1), ENCODER, replace=True)
    assert (done.added, done.replaced, done.documents) == (before - 1, before - 1, before)
    assert done.merged == 0
    assert "documents.parquet" in done.put_off
    assert name in {entry.name for entry in Manifest.load(index.path).segments}
    updates.delete_documents(index.path, [some(before - 1, before)[0].id])
    assert name not in {entry.name for entry in Manifest.load(index.path).segments}
    assert verify_index(index.path) == []


def test_an_index_is_closed_by_leaving_it(index):
    with HybridIndex.open(index.path, ENCODER) as opened:
        assert opened.search(TOPICS[0].text)
    with pytest.raises(RuntimeError):
        opened._pool.submit(print)


@pytest.mark.parametrize(
    "failure", [OSError(errno.ENOSPC, "No space left on device"), DupMAEError("Java is not there")]
)
def test_a_change_is_made_though_what_follows_it_fails(index, monkeypatch, failure):
    for number in range(40, 40 + FAN - 1):
        assert index.add([document(number)]).put_off == ""
    rewrite = updates._rewrite

    def failing(*given):
        raise failure

    monkeypatch.setattr(updates, "_rewrite", failing)
    last = 40 + FAN - 1
    done = index.add([document(last)])
    assert (done.added, done.merged, done.documents) == (1, 0, last + 1)
    assert done.put_off in ("No space left on device", "Java is not there")
    assert len(index) == last + 1
    done = index.delete([f"d{number}" for number in range(35)])
    assert (done.deleted, done.merged) == (35, 0)
    assert done.put_off
    assert index_info(index.path)["leftovers"] == []
    monkeypatch.setattr(updates, "_rewrite", rewrite)
    done = index.add([document(last + 1)])
    assert done.merged > 0
    assert done.put_off == ""
    same_as_built_at_once(
        index,
        {each.id: each for each in some(35, last + 2)},
        index.path.with_name("fresh"),
    )


def test_whole_numbers_are_ids_to_delete_as_they_are_to_add(index):
    index.add([{"id": 5, "text": "five"}])
    assert index.delete([5]).deleted == 1
    for wrong in (True, 1.5, None, ["d1"], b"d1"):
        with pytest.raises(InputError, match="neither a string nor a whole number"):
            index.delete([wrong] if not isinstance(wrong, list) else [tuple(wrong)])
    assert len(index) == 40


@pytest.mark.filterwarnings("ignore:no field is an id")
def test_row_numbers_that_are_there_are_named_as_such(tmp_path):
    first, second = tmp_path / "first.csv", tmp_path / "second.csv"
    first.write_text("key,text\na,one word\nb,two words\n", "utf-8")
    second.write_text("key,text\nc,three words\n", "utf-8")
    with HybridIndex.build(tmp_path / "index", open_corpus(first), ENCODER) as opened:
        before = snapshot(opened.path)
        for source in (open_corpus(second), [{"text": "three words", "key": "c"}]):
            with pytest.raises(InputError, match="it is a row number, for want of an id") as error:
                opened.add(source)
            assert "--id (Columns(id=…))" in str(error.value)
            assert "\n" not in str(error.value)
        encoded = encode_corpus(open_corpus(second), ENCODER, tmp_path / "encoded")
        with pytest.raises(InputError, match="it is a row number, for want of an id"):
            add_encoded(opened.path, encoded)
        assert snapshot(opened.path) == before
        assert opened.add(open_corpus(second, columns=Columns(id="key"))).added == 1
