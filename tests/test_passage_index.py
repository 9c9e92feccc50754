"""Documents found by their passages: searched, changed, explained, repaired."""

from __future__ import annotations

import json
import random
import shutil
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from dupmae_toolkit import Document, HybridIndex, Query
from dupmae_toolkit.collection.passages import Passages, cut, document_of
from dupmae_toolkit.encoding.corpus import EncodedCorpus
from dupmae_toolkit.encoding.parquet import read_ids
from dupmae_toolkit.encoding.passages import PassageSource
from dupmae_toolkit.encoding.source import as_source
from dupmae_toolkit.encoding.stream import encode_corpus
from dupmae_toolkit.errors import InputError
from dupmae_toolkit.index.build import build_index
from dupmae_toolkit.index.health.repair import repair_index
from dupmae_toolkit.index.health.verify import verify_index
from dupmae_toolkit.index.info import index_info
from dupmae_toolkit.index.manifest import Manifest
from dupmae_toolkit.index.updates import add_encoded
from dupmae_toolkit.search import passages
from tests.brute import BruteForcePassages
from tests.support import HashingEncoder

pytestmark = [pytest.mark.java, pytest.mark.usefixtures("quick_disk")]

#: Its largest weight is above that of all documents here.
ENCODER = HashingEncoder(size=256, dim=16, largest_weight=4.0)
WORDS = [f"word{number}" for number in range(60)]
TOPICS = [Query(f"q{n}", " ".join(random.Random(n).choices(WORDS, k=4))) for n in range(5)]
TOPICS += [Query("none", "unheard-of")]
CUT = {"passages": 12, "overlap": 4}
AGGREGATES = ("max", "sum3")


def document(number: int, version: int = 0) -> Document:
    dice = random.Random(f"{number} {version}")
    words = dice.choices([*WORDS, "end."], k=dice.choice([2, 20, 90]))
    return Document(f"d{number}", f"T{number % 3}", " ".join(words), {"year": 2000 + number})


DOCUMENTS = [document(number) for number in range(40)]
DOCUMENTS += [Document("d1#00001", "", DOCUMENTS[1].text), Document("title only", "word1 word2")]


@pytest.fixture(scope="module")
def index(tmp_path_factory):
    folder = tmp_path_factory.mktemp("passages") / "index"
    with HybridIndex.build(folder, DOCUMENTS, ENCODER, segment_size=60, **CUT) as built:
        yield built


@pytest.fixture
def own(index, tmp_path):
    """A copy of the index to change."""
    shutil.copytree(index.path, tmp_path / "own")
    with HybridIndex.open(tmp_path / "own", ENCODER) as opened:
        yield opened


def results(index: HybridIndex) -> list:
    found = []
    for aggregate in AGGREGATES:
        for mode in ("hybrid", "dense", "lexical", "bm25"):
            run = index.search_batch(TOPICS, 15, mode, aggregate=aggregate)
            found.append([(run[t].ids, run[t].scores.tolist()) for t in run])
    return found


def test_a_hit_shows_the_best_passage_of_its_document(index):
    texts = {each.id: each for each in DOCUMENTS}
    numbers = set()
    for topic in TOPICS:
        for hit in index.search(topic.text, k=8):
            whole, (number, start, end) = texts[hit.id], hit.passage
            assert hit.text == whole.text[start:end]
            assert (hit.title, hit.metadata) == (whole.title, whole.metadata)
            spans = cut(whole.text, ENCODER.token_offsets(whole.text), Passages(12, 4))
            assert spans[number] == (start, end)
            numbers.add(number)
    assert len(numbers) > 3


@pytest.mark.parametrize("fusion", ["sum", "rrf", "combsum"])
@pytest.mark.parametrize("aggregate", AGGREGATES)
def test_a_run_names_every_document_once(index, fusion, aggregate):
    run = index.search_batch(TOPICS, 1000, fusion=fusion, aggregate=aggregate)
    for topic in run:
        assert sorted(run[topic].ids) == sorted(each.id for each in DOCUMENTS)
    about = run.metadata["passages"]
    assert about == {"size": 12, "overlap": 4, "count": len(rows_of(index)), "aggregate": aggregate}
    assert run.metadata["documents"] == len(index) == len(DOCUMENTS)


def rows_of(index: HybridIndex) -> list[str]:
    folder = index.path / "segments"
    return [
        name
        for segment in sorted(folder.iterdir())
        for name in (segment / "faiss/docid").read_text("utf-8").splitlines()
    ]


def test_raw_folders_hold_the_ids_of_passages(index):
    rows = rows_of(index)
    assert len(rows) == len(set(rows)) == index.manifest.live > len(DOCUMENTS)
    assert {"d1#00000", "d1#00001#00000", "title only#00000"} < set(rows)


@pytest.mark.parametrize("aggregate", AGGREGATES)
@pytest.mark.parametrize("weights", [None, (1.0, 0.5, 0.0)])
def test_rrf_equals_brute_force_over_all_passages(index, aggregate, weights):
    from dupmae_toolkit.search.fusion import Fusion

    brute = BruteForcePassages(DOCUMENTS, ENCODER, index.manifest)
    rows = [each.id for each in brute.documents]
    for topic in TOPICS:
        scores = np.zeros(len(rows))
        listed = np.zeros(len(rows), bool)
        for mode, weight in zip(("dense", "lexical", "bm25"), weights or (1, 1, 1), strict=True):
            found = super(BruteForcePassages, brute).ranked(topic.text, mode, len(rows))
            for rank, (name, _) in enumerate(found, 1):
                scores[rows.index(name)] += weight / (60 + rank)
                listed[rows.index(name)] = True
        of: dict[str, list[float]] = {}
        for owner, score in zip(brute.owners, scores.astype(np.float32).tolist(), strict=True):
            of.setdefault(owner, []).append(score)
        most = 1 if aggregate == "max" else 3
        expected = {n: sum(sorted(own, reverse=True)[:most]) for n, own in of.items()}
        fusion = Fusion("rrf", weights)
        hits = index.search(topic.text, 1000, fusion=fusion, depth=1000, aggregate=aggregate)
        assert listed.all()
        found = {hit.id: hit.score for hit in hits}
        assert found == pytest.approx(expected, rel=1e-6)
        order = [(-hit.score, hit.id) for hit in hits]
        assert order == sorted(order)


@pytest.mark.parametrize("aggregate", AGGREGATES)
def test_ties_break_by_the_id_of_the_document(tmp_path, monkeypatch, aggregate):
    # Of the rows, "a b#00000" is before "a#00000". The first search returns one row.
    monkeypatch.setattr(passages, "_FIRST", dict.fromkeys(AGGREGATES, (1, 1)))
    same = [Document(name, "", "word1 word2") for name in ("a b", "a", "b")]
    with HybridIndex.build(tmp_path / "i", same, ENCODER, **CUT) as built:
        for k in (1, 2, 3):
            for mode in ("hybrid", "dense", "lexical", "bm25"):
                hits = built.search("word1", k, mode, aggregate=aggregate)
                assert [hit.id for hit in hits] == ["a", "a b", "b"][:k]


def test_rrf_reads_deeper_until_there_are_enough_documents(tmp_path):
    documents = [Document("long", "", "word1. word1 word2. word1. " * 60)]
    documents += [Document(f"d{n}", "", f"word{n + 3}") for n in range(9)]
    with HybridIndex.build(tmp_path / "i", documents, ENCODER, passages=3, overlap=0) as built:
        assert len(built.search("word1 word2", 10, fusion="rrf", depth=10)) == 10


@pytest.mark.parametrize("fusion", ["rrf", "combsum"])
def test_explanations_read_lists_as_deep_as_the_search_did(tmp_path, fusion):
    long = Document("long", "", " ".join(["word1 word2"] * 200))
    rest = [Document(f"d{n}", "", f"word1 word{n + 3}") for n in range(12)]
    with HybridIndex.build(tmp_path / "index", [long, *rest], ENCODER, **CUT) as built:
        how = {"fusion": fusion, "depth": 10}
        hits = built.search("word1 word2", 10, **how)
        explained = built.explain("word1 word2", [hit.id for hit in hits], **how)
        for rank, (hit, each) in enumerate(zip(hits, explained, strict=True), 1):
            assert each.score == pytest.approx(hit.score, rel=1e-6)
            assert each.ranks["fused"].rank == rank
        assert [each.id for each in built.explain("word1 word2", None, **how)] == [
            hit.id for hit in hits
        ]


def test_scores_of_given_documents_are_those_of_a_search(index):
    for aggregate in AGGREGATES:
        for mode in ("hybrid", "dense", "lexical"):
            request = index.request(mode=mode, aggregate=aggregate)
            hits = index.search(TOPICS[0].text, 1000, mode, aggregate=aggregate)
            wanted = [*(hit.id for hit in hits), "d1#00000", "nowhere"]
            (found,) = index.scores(TOPICS[:1], [wanted], request)
            assert found == {hit.id: hit.score for hit in hits}


def test_the_parts_of_a_score_sum_to_it(index):
    for aggregate in AGGREGATES:
        for hit in index.search(TOPICS[1].text, 20, aggregate=aggregate, plain=True):
            info = ENCODER.info
            total = info.dense_weight * hit.dense + info.lexical_weight * hit.lexical
            assert hit.score == pytest.approx(total, rel=1e-5)


def test_documents_come_back_whole(index):
    wanted = {each.id: each for each in DOCUMENTS}
    assert index.get("d1") == wanted["d1"]
    assert index.get("d1#00000") is None
    assert "d1" in index
    assert "d1#00000" not in index
    assert index.get([*wanted, "d1#00000", "nowhere"]) == wanted
    assert {each.id: each for each in index.corpus()} == wanted
    assert index.corpus().count() == len(DOCUMENTS)


def test_filters_speak_of_documents(index):
    def ids(filter, **more):
        return {hit.id for hit in index.search("word1 word2", 1000, filter=filter, **more)}

    assert ids("year < 2003") == {"d0", "d1", "d2"}
    assert ids("id == 'd1'") == {"d1"}
    assert ids("startswith(id, 'd1#')") == {"d1#00001"}
    assert ids("endswith(id, '#00000')") == set()
    assert ids("title == 'T1' and year in (2001, 2002)") == {"d1"}
    with pytest.warns(UserWarning, match="2 of 3 ids in among"):
        assert ids(None, among=["d1", "d1#00000", "nowhere"]) == {"d1"}
    with pytest.warns(UserWarning, match="1 of 4 ids in among"):
        found = ids("year < 2003", among=["d1", "d2", "d9", "d9#00000"])
    assert found == {"d1", "d2"}
    run = index.search_batch(TOPICS, filter="year < 2003", among=["d1", "d2", "d9"])
    assert (run.metadata["matching"], run.metadata["among"]["unknown"]) == (2, 0)
    assert set(index.fields()) == {"year"}
    with pytest.raises(InputError, match="no whole texts"):
        ids("contains(text, 'word1')")
    with pytest.raises(InputError, match="no document has a field"):
        ids("field('$passage') == 1")


def test_explanations_sum_to_the_score_and_rank_documents(index):
    for topic in TOPICS[:3]:
        hits = index.search(topic.text, 30)
        explained = index.explain(topic.text, [hit.id for hit in hits])
        best = {
            part: [h.id for h in index.search(topic.text, 1000, part, exact=True)]
            for part in ("dense", "lexical", "bm25")
        }
        for hit, each in zip(hits, explained, strict=True):
            assert (each.id, each.passage) == (hit.id, hit.passage)
            total = each.dense_share + sum(term.share for term in each.terms)
            assert total == pytest.approx(hit.score, abs=1e-6)
            assert each.ranks["fused"].rank == hit.rank
            for part, order in best.items():
                expected = order.index(hit.id) + 1 if hit.id in order else None
                assert each.ranks[part].rank == expected
            assert each.to_dict()["passage"] == hit.passage._asdict()
    assert [each.id for each in index.explain(TOPICS[0].text, k=4)] == [
        hit.id for hit in index.search(TOPICS[0].text, 4)
    ]
    hits = index.search(TOPICS[0].text, 5, fusion="rrf")
    explained = index.explain(TOPICS[0].text, [hit.id for hit in hits], fusion="rrf", depth=100)
    assert [each.ranks["fused"].rank for each in explained] == [1, 2, 3, 4, 5]
    assert [each.passage for each in explained] == [hit.passage for hit in hits]
    with pytest.raises(InputError, match="has no document 'd1#00000'"):
        index.explain("word1", ["d1#00000"])
    with pytest.raises(InputError, match="choose aggregate max"):
        index.explain("word1", ["d1"], fusion="rrf", aggregate="sum3")


@pytest.mark.parametrize("mode", ["hybrid", "dense", "lexical", "bm25"])
def test_explanations_of_sums_of_passages(index, mode):
    whole = index.search(TOPICS[1].text, 1000, mode, aggregate="sum3")
    alone = {
        part: [h.id for h in index.search(TOPICS[1].text, 1000, part, aggregate="sum3", exact=True)]
        for part in (("dense", "lexical", "bm25") if mode == "hybrid" else (mode,))
    }
    hits = [*whole[:12], whole[-1]]
    explained = index.explain(TOPICS[1].text, [hit.id for hit in hits], mode=mode, aggregate="sum3")
    held = Counter(map(document_of, rows_of(index)))
    for hit, each in zip(hits, explained, strict=True):
        assert (each.id, each.passage) == (hit.id, hit.passage)
        assert len(each.summed) == len(set(each.summed)) == min(3, held[hit.id])
        assert each.summed[0] == hit.passage.number
        assert each.to_dict()["passages"] == list(each.summed)
        total = each.dense_share + sum(term.share for term in each.terms)
        assert total == pytest.approx(hit.score, rel=1e-6, abs=1e-6)
        assert each.score == pytest.approx(total, rel=1e-9, abs=1e-9)
        assert each.ranks["fused"].rank == whole.index(hit) + 1
        for part, order in alone.items():
            assert each.lists[part].score == pytest.approx(getattr(hit, part), rel=1e-5, abs=1e-5)
            expected = order.index(hit.id) + 1 if hit.id in order else None
            assert each.ranks[part].rank == expected
        for term in each.terms:
            scale = each.lists["bm25" if term.kind == "word" else "lexical"].scale
            weight = each.lists["bm25" if term.kind == "word" else "lexical"].weight
            assert term.share == pytest.approx(
                weight * term.query_weight * term.impact / scale, rel=1e-6
            )
    found = index.explain(TOPICS[1].text, k=4, mode=mode, aggregate="sum3")
    assert [each.id for each in found] == [hit.id for hit in whole[:4]]


# Changes.


def test_changes_give_the_index_that_is_built_at_once(own, tmp_path):
    newer = [document(number, 1) for number in (1, 2, 3)] + [
        document(number) for number in (50, 51)
    ]
    first = own.add(newer, replace=True)
    assert (first.added, first.replaced, first.documents) == (5, 3, len(DOCUMENTS) + 2)
    gone = own.delete(["d4", "d1#00001"], filter="year == 2007")
    assert (gone.deleted, gone.documents) == (3, len(DOCUMENTS) - 1)
    left = {each.id: each for each in DOCUMENTS} | {each.id: each for each in newer}
    for name in ("d4", "d1#00001", "d7"):
        del left[name]
    with HybridIndex.build(
        tmp_path / "once",
        list(left.values()),
        ENCODER,
        mean_length=own.manifest.bm25.mean_length,
        **CUT,
    ) as once:
        assert results(own) == results(once)
        assert own.get(left) == left
        assert len(own) == len(once) == own.manifest.documents
        compacted = own.compact()
        assert compacted.documents == len(left)
        assert own.manifest.dead == 0
        assert own.get(left) == left
    assert verify_index(own.path) == []


def test_a_replaced_document_leaves_no_passage(own):
    longest = max(DOCUMENTS, key=lambda each: len(each.text))
    own.add([Document(longest.id, "", "word1")], replace=True)
    assert own.get([longest.id])[longest.id].text == "word1"
    assert len(own) == len(DOCUMENTS)
    own.delete([longest.id])
    assert longest.id not in own.get([longest.id])
    assert all(hit.id != longest.id for hit in own.search("word1 end", 1000))


def test_a_change_is_one_commit_of_all_passages(own, monkeypatch):
    before = results(own)
    saved = []

    def die(manifest, index):
        saved.append(index)
        raise KeyboardInterrupt

    for change in (
        lambda: own.add([document(number, 1) for number in range(5)], replace=True),
        lambda: own.delete(["d1", "d2"]),
    ):
        with monkeypatch.context() as patch:
            patch.setattr(Manifest, "save", die)
            with pytest.raises(KeyboardInterrupt):
                change()
        with HybridIndex.open(own.path, ENCODER) as opened:
            assert results(opened) == before
            assert len(opened) == len(DOCUMENTS)
    assert len(saved) == 2
    assert verify_index(own.path) == []


def test_an_id_that_is_there_is_refused_by_the_document(own):
    with pytest.raises(InputError, match=r"the id 'd1#00001' is in the index already"):
        own.add([Document("new", "", "x"), Document("d1#00001", "", "a b")])
    with pytest.raises(InputError, match=r"has no document 'd1#00000'; nothing was deleted"):
        own.delete(["d0", "d1#00000"])
    assert len(own) == len(DOCUMENTS)


def test_a_document_given_twice_is_named(tmp_path):
    twice = [Document("a", "", "x y"), Document("b", "", "x"), Document("a", "", "z")]
    with pytest.raises(InputError, match="the id 'a' is already"):
        HybridIndex.build(tmp_path / "index", twice, ENCODER, **CUT)
    assert not (tmp_path / "index").exists()


def test_a_damaged_segment_is_repaired(own):
    before = results(own)
    segment = sorted((own.path / "segments").iterdir())[0]
    own.close()
    for name in ("faiss/docid", "faiss/index", "forward/impacts-data.npy"):
        path = segment / name
        path.unlink()
        path.write_bytes(b"damaged")
    repaired = repair_index(own.path, ENCODER)
    assert repaired.whole
    assert len(repaired.rebuilt) >= 3
    with HybridIndex.open(own.path, ENCODER) as opened:
        assert results(opened) == before


# Encoded corpora.


def test_an_encoded_corpus_gives_the_same_index(index, tmp_path):
    encoded = encode_corpus(DOCUMENTS, ENCODER, tmp_path / "enc", passages=Passages(12, 4))
    assert EncodedCorpus.open(tmp_path / "enc").passages == Passages(12, 4)
    built = build_index(tmp_path / "index", encoded, vocabulary=ENCODER.vocabulary, segment_size=60)
    assert built.documents == len(DOCUMENTS)
    with HybridIndex.open(tmp_path / "index", ENCODER) as opened:
        assert results(opened) == results(index)


def test_other_passages_are_refused(own, tmp_path):
    more = [Document("new", "", "word1 " * 30)]
    for number, other in enumerate((None, Passages(12, 3), Passages(11, 4))):
        encoded = encode_corpus(more, ENCODER, tmp_path / str(number), passages=other)
        with pytest.raises(InputError, match=r"encoded as .* holds passages of 12 tokens that ov"):
            add_encoded(own.path, encoded)
    encoded = encode_corpus(more, ENCODER, tmp_path / "same", passages=Passages(12, 4))
    assert add_encoded(own.path, encoded).added == 1
    plain = tmp_path / "plain"
    HybridIndex.build(plain, DOCUMENTS[:3], ENCODER).close()
    with pytest.raises(InputError, match=r"encoded as passages .* holds whole documents"):
        add_encoded(plain, encoded)
    with pytest.raises(InputError, match="made with passages"):
        encode_corpus(more, ENCODER, tmp_path / "same")
    with pytest.raises(InputError, match="made with passages None"):
        encode_corpus(more, ENCODER, tmp_path / "0", passages=Passages(12, 4))


@pytest.mark.parametrize("value", ["200", {"size": 5}, {"size": 0, "overlap": 0}, [1, 2]])
def test_a_manifest_that_states_no_valid_passages_is_refused(tmp_path, value):
    encode_corpus(DOCUMENTS[:3], ENCODER, tmp_path / "enc")
    edit(tmp_path / "enc/manifest.json", passages=value)
    encoded = EncodedCorpus.open(tmp_path / "enc")
    with pytest.raises(InputError, match=r"manifest\.json"):
        build_index(tmp_path / "index", encoded, vocabulary=ENCODER.vocabulary)


def edit(path: Path, **values) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


def test_rows_of_another_engine_that_are_no_passages_are_refused(tmp_path):
    encode_corpus(DOCUMENTS[:3], ENCODER, tmp_path / "enc")
    edit(tmp_path / "enc/manifest.json", passages={"size": 12, "overlap": 4})
    encoded = EncodedCorpus.open(tmp_path / "enc")
    with pytest.raises(InputError, match="'d0' names no passage"):
        build_index(tmp_path / "index", encoded, vocabulary=ENCODER.vocabulary)
    named = [Document(f"d{n}#00000", "", "word1") for n in range(3)]
    encode_corpus(named, ENCODER, tmp_path / "named")
    edit(tmp_path / "named/manifest.json", passages={"size": 12, "overlap": 4})
    encoded = EncodedCorpus.open(tmp_path / "named")
    assert read_ids(encoded.files()[0])[0] == "d0#00000"
    with pytest.raises(InputError, match="'d0#00000' do not give the span"):
        build_index(tmp_path / "index", encoded, vocabulary=ENCODER.vocabulary)
    assert not (tmp_path / "index").exists()
    old = [Document("d#00000", "", "word1", {"$passage": [0, 5]})]
    encode_corpus(old, ENCODER, tmp_path / "old")
    edit(tmp_path / "old/manifest.json", passages={"size": 12, "overlap": 4})
    said = "as an unreleased version wrote it; encode again into a new folder"
    with pytest.raises(InputError, match=said):
        build_index(
            tmp_path / "index",
            EncodedCorpus.open(tmp_path / "old"),
            vocabulary=ENCODER.vocabulary,
        )


@pytest.mark.parametrize("lost", ["last", "first", "inner"])
@pytest.mark.parametrize("shuffled", [False, True])
def test_a_document_that_lacks_some_of_its_passages_is_refused(tmp_path, lost, shuffled):
    class Losing(PassageSource):
        def numbered(self):
            rows = list(super().numbered())
            assert len(rows) > 4
            del rows[{"last": -1, "first": 0, "inner": 2}[lost]]
            if shuffled:
                random.Random(3).shuffle(rows)
            return iter(rows)

    text = " ".join(f"word{n}." for n in range(60))
    source = Losing(as_source([Document("d", "", text)]), Passages(12, 4), ENCODER)
    encoded = encode_corpus(source, ENCODER, tmp_path / "enc")
    with pytest.raises(InputError, match=r"the text of 'd' from character [0-9]+ is in no row"):
        build_index(tmp_path / "index", encoded, vocabulary=ENCODER.vocabulary)
    assert not (tmp_path / "index").exists()


# What is stated, and refused.


def test_info_counts_documents_and_passages(index, tmp_path):
    values = index_info(index.path)
    assert values["documents"] == len(DOCUMENTS)
    assert values["passages"] == {"size": 12, "overlap": 4, "count": len(rows_of(index))}
    assert values["format_version"] == 4
    HybridIndex.build(tmp_path / "plain", DOCUMENTS[:3], ENCODER).close()
    plain = index_info(tmp_path / "plain")
    assert (plain["format_version"], plain["passages"], plain["documents"]) == (3, None, 3)


class WithoutOffsets(HashingEncoder):
    token_offsets = None


@pytest.mark.parametrize(
    ("documents", "encoder", "cutting", "said"),
    [
        (DOCUMENTS, WithoutOffsets(), CUT, "cannot say where its tokens stand"),
        (DOCUMENTS, ENCODER, {"passages": 257}, "of which encoder hashing would read 256"),
        (DOCUMENTS, ENCODER, {"passages": 0}, "at least 1"),
        (DOCUMENTS, ENCODER, {"passages": "12"}, "whole number"),
        (DOCUMENTS, ENCODER, {"overlap": 4}, "goes with passages"),
        ([Document("a", "", "x", {"$passage": 1})], ENCODER, CUT, "rename it"),
        ([Document("a", "", " ")], ENCODER, CUT, "has no text"),
    ],
)
def test_what_cannot_be_cut_is_refused(tmp_path, documents, encoder, cutting, said):
    with pytest.raises(InputError, match=said):
        HybridIndex.build(tmp_path / "index", documents, encoder, **cutting)
    assert not (tmp_path / "index").exists()


def test_only_passages_are_aggregated(index, tmp_path):
    with (
        HybridIndex.build(tmp_path / "plain", DOCUMENTS[:3], ENCODER) as plain,
        pytest.raises(InputError, match="have no passages to aggregate"),
    ):
        plain.search("word1", aggregate="max")
    for wrong in ("mean", "MAX", ""):
        with pytest.raises(InputError, match="choose one of max, sum3"):
            index.search("word1", aggregate=wrong)


def test_queries_have_no_passages(tmp_path):
    with pytest.raises(InputError, match="queries have no passages"):
        encode_corpus(TOPICS, ENCODER, tmp_path / "q", kind="queries", passages=Passages(12, 4))


@pytest.mark.slow
def test_the_end_of_a_long_text_is_found_by_the_built_in_encoder(tmp_path):
    from dupmae_toolkit.model.loading import load_encoder

    encoder = load_encoder("builtin")
    filler = "The weather was fine that day, and nobody had much to do. " * 60
    documents = [
        Document("cats", "Diary", filler + "In the evening our cat caught a mouse in the kitchen."),
        Document("boats", "Diary", filler + "At night the boat left the harbour for the island."),
        Document("bread", "Diary", filler + "Then we baked bread with rye flour and salt."),
    ]
    with HybridIndex.build(tmp_path / "index", documents, encoder, passages=60) as index:
        assert index.manifest.live > 3 * 10
        assert index.manifest.truncated == 0
        for question, name in (
            ("cat mouse kitchen", "cats"),
            ("ship leaving the harbour", "boats"),
            ("how to bake rye bread", "bread"),
        ):
            hit, *_ = index.search(question, exact=True)
            assert hit.id == name
            text = {each.id: each.text for each in documents}[name]
            assert hit.text == text[hit.passage.start : hit.passage.end]
            assert hit.passage.end == len(text)
        lengths = [
            sum(1 for _ in encoder.token_offsets(each.text[a:b]))
            for each in documents
            for a, b in cut(each.text, encoder.token_offsets(each.text), Passages(60, 15))
        ]
        assert 40 < max(lengths) <= 60
