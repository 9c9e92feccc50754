"""Repairing: what stands twice in an index is rebuilt, and searches find what they found before."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import random
import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from dupmae_toolkit import HybridIndex, Query
from dupmae_toolkit.errors import BusyError, EncoderMismatchError, InputError
from dupmae_toolkit.files import write_json
from dupmae_toolkit.index.build import build_index
from dupmae_toolkit.index.deletions import read_deletions
from dupmae_toolkit.index.health.repair import Repair, repair_index
from dupmae_toolkit.index.health.verify import verify_index
from dupmae_toolkit.index.manifest import Manifest, checksums
from dupmae_toolkit.index.segment import Segment
from dupmae_toolkit.index.updates import delete_documents
from dupmae_toolkit.locks import exclusive
from tests.cli_support import run
from tests.index_support import encode
from tests.support import HashingEncoder

pytestmark = [pytest.mark.java, pytest.mark.usefixtures("quick_disk")]

ENCODER = HashingEncoder()
WORDS = [f"w{number}" for number in range(400)]
TOPICS = [Query(f"q{i}", " ".join(random.Random(i).choices(WORDS, k=12))) for i in range(4)]
TOPICS += [Query("copies", "the same"), Query("none", "nothing-known")]
SEGMENT = "segments/000002"
SOURCES = {"faiss/docid": "documents.parquet", "faiss/index": "the texts, encoded again"}
SOURCES |= {
    f"forward/impacts-{name}": "the postings in lucene"
    for name in (
        "data.npy",
        "indices.npy",
        "indptr.npy",
        "shape.npy",
        "words.txt",
        "frequencies.npy",
    )
}
SOURCES["forward/impacts-lengths.npy"] = "documents.parquet"
SOURCES |= {
    f"lucene/{name}": "forward/impacts and faiss/docid"
    for name in ("*.doc", "segments_*", "*.fdt", "*.si")
}


class OtherBits(HashingEncoder):
    """The same encoder on a machine that rounds otherwise."""

    def encode_documents(self, texts, ids=None):
        vectors = super().encode_documents(texts, ids)
        return dataclasses.replace(vectors, dense=np.nextafter(vectors.dense, np.float32(2)))


def build(folder: Path, **settings) -> Path:
    """Two segments of 16 documents, two of each deleted."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda _: None)
        encoded = encode(folder / "enc", count=32)
        build_index(
            folder / "index",
            encoded,
            vocabulary=ENCODER.vocabulary,
            **({"segment_size": 16} | settings),
        )
        ids = Segment.open(folder / "index/segments/000001").ids
        other = Segment.open(folder / "index" / SEGMENT).ids
        delete_documents(folder / "index", [ids[3], ids[9], other[0], other[15]])
    return folder / "index"


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(tmp_path_factory.mktemp("repair"))


@pytest.fixture(scope="module")
def approximate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(tmp_path_factory.mktemp("approximate"), faiss_spec="IVF2,Flat")


@pytest.fixture
def index(whole: Path, tmp_path: Path) -> Path:
    """A copy to be damaged."""
    return Path(shutil.copytree(whole, tmp_path / "index"))


@pytest.fixture(scope="module")
def expected(whole: Path) -> dict:
    return results(whole)


def results(index: Path, *, exact_only: bool = False) -> dict:
    """Ids and scores in every mode, and the documents, to the last bit."""
    found = {}
    with contextlib.closing(HybridIndex.open(index, ENCODER)) as opened:
        for mode in ("dense", "lexical", "bm25", "hybrid"):
            for exact in (True,) if exact_only else (False, True):
                run = opened.search_batch(TOPICS, 20, mode, exact=exact)
                for topic in TOPICS:
                    ranking = run[topic.id]
                    found[mode, exact, topic.id] = (ranking.ids, ranking.scores.tolist())
        found["hits"] = opened.search(TOPICS[0].text, k=32, exact=True)
    return found


def remove(path: Path) -> None:
    path.unlink()


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 8
    path.write_bytes(content)


def lost(repair: Repair) -> list[str]:
    return [problem.path for problem in repair.remaining]


def sources(repair: Repair) -> dict[str, str]:
    return {each.path: each.source for each in repair.rebuilt}


def snapshot(folder: Path) -> dict[str, bytes]:
    return {str(p): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def sign(index: Path) -> None:
    """Make the checksums those of the files as they are, so that only the parts can disagree."""
    manifest = Manifest.load(index)
    old = manifest.checksums
    kept = {name: old[name] for name in old if not name.startswith("segments/")}
    manifest.checksums = kept | checksums(index, index / "segments")
    manifest.save(index)


def test_a_whole_index_is_left_as_it_is(index: Path) -> None:
    before = snapshot(index)
    done = repair_index(index)
    assert done.whole
    assert (done.found, done.rebuilt, done.removed) == ([], [], [])
    assert snapshot(index) == before


@pytest.mark.parametrize("damage", [remove, cut, flip])
@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("faiss/docid", "faiss/index"),
        ("forward/impacts-data.npy", "lucene/*.doc"),
        ("forward/impacts-indices.npy", "lucene/segments_*"),
        ("forward/impacts-indptr.npy", "lucene/*.fdt"),
        ("forward/impacts-shape.npy", "lucene/*.si"),
        ("forward/impacts-words.txt", "forward/impacts-lengths.npy"),
        ("forward/impacts-frequencies.npy", "lucene/*.doc"),
    ],
)
def test_each_file_is_rebuilt_and_searches_are_the_same(
    index: Path, expected: dict, damage: Callable[[Path], None], first: str, second: str
) -> None:
    """``first`` is damaged in one segment, ``second`` in the other."""
    paths = [
        next((index / segment).glob(file))
        for segment, file in (("segments/000001", first), (SEGMENT, second))
    ]
    for path in paths:
        damage(path)
    assert verify_index(index) != []
    done = repair_index(index, lambda: ENCODER)
    assert done.whole
    assert [problem.path for problem in done.found] == [
        path.relative_to(index).as_posix() for path in paths
    ]
    assert [each.source for each in done.rebuilt] == [SOURCES[first], SOURCES[second]]
    assert [each.into[:16] for each in done.rebuilt] == ["segments/000003/", "segments/000004/"]
    assert verify_index(index) == []
    assert results(index) == expected
    assert [entry.name for entry in Manifest.load(index).segments] == ["000003", "000004"]
    assert sorted(path.name for path in (index / "segments").iterdir()) == ["000003", "000004"]


def test_damage_all_over_is_repaired_in_one_step(index: Path, expected: dict) -> None:
    stands = {name: path.read_bytes() for name, path in parts(index)}
    for name in ("faiss/docid", "forward/impacts-data.npy"):
        flip(index / "segments/000001" / name)
    shutil.rmtree(index / SEGMENT / "lucene")
    remove(index / SEGMENT / "faiss/docid")
    (index / SEGMENT / "lucene").mkdir()
    (index / SEGMENT / "lucene/write.lock").touch()
    generation = Manifest.load(index).generation
    done = repair_index(index)
    assert done.whole
    assert done.removed == [f"{SEGMENT}/lucene/write.lock"]
    assert sources(done) == {
        "segments/000001/faiss/docid": "documents.parquet",
        "segments/000001/forward/impacts": SOURCES["forward/impacts-data.npy"],
        f"{SEGMENT}/faiss/docid": "documents.parquet",
        f"{SEGMENT}/lucene": "forward/impacts and documents.parquet",
    }
    assert Manifest.load(index).generation == generation + 1
    assert results(index) == expected
    assert verify_index(index) == []
    # Byte for byte, but for Lucene's, and but for the segments' names.
    again = {name: path.read_bytes() for name, path in parts(index)}
    assert list(again.values()) == list(stands.values())


def parts(index: Path) -> list[tuple[str, Path]]:
    paths = sorted((index / "segments").rglob("*"))
    return [(str(p), p) for p in paths if p.is_file() and p.parent.name != "lucene"]


@pytest.mark.parametrize("name", ["indptr.npy", "words.txt"])
def test_impacts_come_from_lucene_where_texts_are_lost(
    index: Path, expected: dict, name: str
) -> None:
    texts = (index / SEGMENT / "documents.parquet").read_bytes()
    stored = {p.name: p.read_bytes() for p in (index / SEGMENT / "forward").iterdir()}
    for each in (f"forward/impacts-{name}", "documents.parquet"):
        flip(index / SEGMENT / each)
    done = repair_index(index)
    assert lost(done) == ["segments/000003/documents.parquet"]
    assert sources(done) == {f"{SEGMENT}/forward/impacts": "the postings in lucene"}
    new = index / "segments/000003"
    assert {p.name: p.read_bytes() for p in (new / "forward").iterdir()} == stored
    (new / "documents.parquet").write_bytes(texts)
    assert verify_index(index) == []
    assert results(index) == expected


def test_lengths_are_lost_where_texts_are_too_since_words_cannot_be_counted_again(
    index: Path, expected: dict
) -> None:
    texts = (index / SEGMENT / "documents.parquet").read_bytes()
    for name in ("forward/impacts-lengths.npy", "documents.parquet"):
        flip(index / SEGMENT / name)
    done = repair_index(index)
    assert lost(done) == [
        f"{SEGMENT}/forward/impacts-lengths.npy",
        f"{SEGMENT}/documents.parquet",
    ]
    assert "whose words could be counted again; restore either" in done.remaining[0].message
    (index / SEGMENT / "documents.parquet").write_bytes(texts)
    assert repair_index(index).whole
    assert verify_index(index) == []
    assert results(index) == expected


def test_ids_come_from_lucene_where_only_it_is_left(index: Path, expected: dict) -> None:
    texts = (index / SEGMENT / "documents.parquet").read_bytes()
    for name in ("faiss/docid", "documents.parquet"):
        flip(index / SEGMENT / name)
    done = repair_index(index)
    assert lost(done) == ["segments/000003/documents.parquet"]
    assert "add its documents again with --replace (replace=True)" in done.remaining[0].message
    assert "; it held 14 documents, " in done.remaining[0].message
    assert "all its ids are in segments/000003/faiss/docid" in done.remaining[0].message
    assert set(sources(done).values()) == {"lucene"}
    # What is damaged is kept, and is still damage.
    assert [problem.path for problem in verify_index(index)] == lost(done)
    (index / "segments/000003/documents.parquet").write_bytes(texts)
    assert verify_index(index) == []
    assert results(index) == expected


def test_documents_whose_texts_are_lost_can_be_added_again(index: Path, expected: dict) -> None:
    gone = (index / SEGMENT / "documents.parquet").read_bytes()
    remove(index / SEGMENT / "documents.parquet")
    done = repair_index(index, ENCODER)
    assert not done.whole
    assert lost(done) == [f"{SEGMENT}/documents.parquet"]
    assert done.rebuilt == []
    assert (index / SEGMENT).exists()
    # As the message says: all documents once more, from the corpus.
    from dupmae_toolkit.index.documents import SegmentDocuments
    from dupmae_toolkit.index.updates import add_corpus

    store = index.parent / "texts.parquet"
    store.write_bytes(gone)
    dead = read_deletions(index, Manifest.load(index).segments[1])
    corpus = [d for n, d in enumerate(SegmentDocuments(store).get(range(16))) if n not in dead]
    assert add_corpus(index, corpus, ENCODER, replace=True).replaced == 14
    assert verify_index(index) == []
    assert results(index) == expected


def test_impacts_that_are_lost_twice_are_encoded_again(index: Path, expected: dict) -> None:
    before = Manifest.load(index)
    flip(index / SEGMENT / "forward/impacts-data.npy")
    flip(next((index / SEGMENT / "lucene").glob("*.doc")))
    done = repair_index(index)
    assert lost(done) == [f"{SEGMENT}/forward/impacts", f"{SEGMENT}/lucene"]
    assert "its encoder 'hashing' could rebuild it" in str(done.remaining[0])
    done = repair_index(index, ENCODER)
    assert done.whole
    assert done.rebuilt[0].note == "bit for bit identical"
    assert results(index) == expected
    assert verify_index(index) == []
    after = Manifest.load(index)
    assert after.segments[1].weights == before.segments[1].weights
    assert after.error.mean_absolute == pytest.approx(before.error.mean_absolute)


def test_vectors_encoded_to_other_bits_are_told(index: Path, expected: dict) -> None:
    remove(index / SEGMENT / "faiss/index")
    done = repair_index(index)
    assert lost(done) == [f"{SEGMENT}/faiss/index"]
    assert "was not given" in str(done.remaining[0])
    done = repair_index(index, OtherBits())
    assert done.whole
    assert "not bit for bit identical" in str(done.rebuilt[0])
    assert verify_index(index) == []
    with contextlib.closing(HybridIndex.open(index, ENCODER)) as opened:
        run = opened.search_batch(TOPICS, 20, "dense", exact=True)
        scores, before = run["q0"].scores, expected["dense", True, "q0"][1]
        np.testing.assert_allclose(scores, before, atol=1e-6)


@pytest.mark.parametrize("stated", ["bf16", "fp32", None, "Odd!"])
@pytest.mark.parametrize("lost_parts", [("faiss/index",), ("forward/impacts-data.npy", "lucene")])
def test_documents_encoded_to_other_bits_count_in_the_precision_of_the_repair(
    index: Path, stated: str | None, lost_parts: tuple[str, ...], capsys
) -> None:
    class InAPrecision(OtherBits):
        def encode_documents(self, texts, ids=None):
            made = super().encode_documents(texts, ids)
            # Enough for other impacts, not only for other vectors.
            return dataclasses.replace(made, lexical=made.lexical * 1.1, precision=stated)

    def lose() -> Manifest:
        manifest = Manifest.load(index)
        folder = index / manifest.segments[-1].path
        for part in lost_parts:
            path = folder / part
            flip(next(path.glob("*.doc")) if path.is_dir() else path)
        return manifest

    before = lose()
    assert repair_index(index, InAPrecision()).whole
    after = Manifest.load(index)
    known = stated if stated in ("bf16", "fp32") else "unknown"
    wanted = Counter(before.precision) + Counter({known: before.segments[-1].count})
    assert after.precision == wanted
    if known != "unknown":
        assert f" {wanted[known]} in {known}" in run(capsys, "info", "--index", index)[1]
    # The same bits again are of the same precision.
    lose()
    assert repair_index(index, InAPrecision()).whole
    assert Manifest.load(index).precision == wanted


def test_the_encoder_is_asked_for_only_when_it_is_needed_and_must_be_the_right_one(
    index: Path, expected: dict
) -> None:
    def never() -> HashingEncoder:
        raise AssertionError("not needed")

    flip(index / SEGMENT / "faiss/docid")
    with pytest.raises(EncoderMismatchError, match="'other'"):
        repair_index(index, HashingEncoder(name="other"))
    assert repair_index(index, never).whole
    flip(index / "segments/000003/faiss/index")
    done = repair_index(index, lambda: HashingEncoder(name="other"))
    assert lost(done) == ["segments/000003/faiss/index"]
    assert "opened with 'other'" in str(done.remaining[0])

    def absent() -> HashingEncoder:
        raise InputError("hashing: no such folder here")

    assert "no such folder here" in str(repair_index(index, absent).remaining[0])
    assert repair_index(index, ENCODER).whole
    assert results(index) == expected


@pytest.mark.parametrize("damage", [remove, cut, flip])
def test_where_the_spec_is_not_flat_faiss_and_the_vectors_come_from_each_other(
    approximate: Path, tmp_path: Path, damage: Callable[[Path], None]
) -> None:
    index = Path(shutil.copytree(approximate, tmp_path / "index"))
    stored = (index / SEGMENT / "forward/dense.npy").read_bytes()
    damage(index / SEGMENT / "forward/dense.npy")
    damage(index / "segments/000001/faiss/index")
    done = repair_index(index)
    assert done.whole
    assert sources(done) == {
        "segments/000001/faiss/index": "forward/dense.npy",
        f"{SEGMENT}/forward/dense.npy": "faiss/index",
    }
    assert (index / "segments/000004/forward/dense.npy").read_bytes() == stored
    assert verify_index(index) == []
    # Training another index of the same vectors may put them into other cells.
    assert results(index, exact_only=True) == results(approximate, exact_only=True)


def test_vectors_that_faiss_only_approximates_are_encoded_again(tmp_path: Path) -> None:
    index = build(tmp_path, faiss_spec="SQ8")
    before = results(index)
    stored = (index / SEGMENT / "forward/dense.npy").read_bytes()
    flip(index / SEGMENT / "forward/dense.npy")
    done = repair_index(index)
    assert lost(done) == [f"{SEGMENT}/forward/dense.npy"]
    assert [problem.path for problem in verify_index(index)] == lost(done)
    done = repair_index(index, ENCODER)
    assert done.whole
    ending = "(bit for bit identical), as segments/000003/forward/dense.npy"
    assert str(done.rebuilt[0]).endswith(ending)
    assert (index / "segments/000003/forward/dense.npy").read_bytes() == stored
    assert results(index) == before
    # Other bits in the forward store ask for a FAISS index of the same.
    flip(index / "segments/000003/forward/dense.npy")
    done = repair_index(index, OtherBits())
    assert [each.path.split("/", 2)[2] for each in done.rebuilt] == [
        "forward/dense.npy",
        "faiss/index",
    ]
    assert verify_index(index) == []
    # And both lost are both encoded again.
    for name in ("forward/dense.npy", "faiss/index"):
        remove(index / "segments/000004" / name)
    done = repair_index(index)
    assert lost(done) == [
        f"segments/000004/{name}" for name in ("forward/dense.npy", "faiss/index")
    ]
    assert repair_index(index, ENCODER).whole
    assert results(index) == before


def test_impacts_of_two_bytes_come_back_from_lucene_byte_for_byte(tmp_path: Path) -> None:
    index = build(tmp_path, max_impact=65_535)
    stored = {p.name: p.read_bytes() for p in (index / SEGMENT / "forward").iterdir()}
    assert np.load(index / SEGMENT / "forward/impacts-data.npy").max() > 255
    for path in (index / SEGMENT / "forward").iterdir():
        path.unlink()
    assert repair_index(index).whole
    new = index / "segments/000003/forward"
    assert {p.name: p.read_bytes() for p in new.iterdir()} == stored


def test_deletions_are_carried_over_and_cannot_be_made_up(index: Path, expected: dict) -> None:
    entry = Manifest.load(index).segments[1]
    rows = read_deletions(index, entry)
    content = (index / entry.deletions).read_bytes()
    flip(index / SEGMENT / "faiss/docid")
    remove(index / entry.deletions)
    done = repair_index(index)
    assert lost(done) == [entry.deletions]
    assert "no other file records which documents were deleted" in str(done.remaining[0])
    assert list(sources(done)) == [f"{SEGMENT}/faiss/docid"]
    assert [problem.path for problem in verify_index(index)] == [entry.deletions]
    (index / entry.deletions).write_bytes(content)
    moved = Manifest.load(index).segments[1]
    assert moved.name == "000003"
    np.testing.assert_array_equal(read_deletions(index, moved), rows)
    assert verify_index(index) == []
    assert results(index) == expected
    # And they go on from there.
    with contextlib.closing(HybridIndex.open(index, ENCODER)) as opened:
        opened.delete([opened.search(TOPICS[0].text)[0].id])
        opened.compact()
        assert len(opened) == 27
    assert verify_index(index) == []


def test_a_segment_that_is_gone_is_one_line_and_the_rest_is_repaired(index: Path) -> None:
    shutil.rmtree(index / SEGMENT)
    flip(index / "segments/000001/faiss/docid")
    done = repair_index(index, ENCODER)
    assert lost(done) == [SEGMENT]
    assert "its 14 documents are lost: restore it from a copy" in str(done.remaining[0])
    assert list(sources(done)) == ["segments/000001/faiss/docid"]
    assert {problem.path.split("/")[1] for problem in verify_index(index)} == {"000002"}


def test_a_segment_without_ids_says_so(index: Path) -> None:
    for name in ("faiss/docid", "documents.parquet"):
        flip(index / SEGMENT / name)
    flip(next((index / SEGMENT / "lucene").glob("*.fdt")))
    before = snapshot(index)
    done = repair_index(index, ENCODER)
    assert lost(done) == [
        f"{SEGMENT}/{part}" for part in ("faiss/docid", "lucene", "documents.parquet")
    ]
    assert "in documents.parquet and lucene too" in str(done.remaining[0])
    assert snapshot(index) == before


def test_a_damaged_manifest_is_told_and_nothing_is_touched(index: Path, tmp_path: Path) -> None:
    path = index / "manifest.json"
    content = path.read_bytes()
    for broken in (content.replace(b'"count": 16', b'"count": 17'), content[:-9], b"", None):
        path.unlink(missing_ok=True)
        if broken is not None:
            path.write_bytes(broken)
        before = snapshot(index)
        done = repair_index(index, ENCODER)
        assert lost(done) == ["manifest.json"]
        assert "--overwrite" in done.remaining[0].message
        assert snapshot(index) == before
    with pytest.raises(InputError, match="no such index"):
        repair_index(tmp_path / "nothing")


def test_a_manifest_in_other_bytes_is_written_anew(index: Path) -> None:
    content = (index / "manifest.json").read_bytes()
    (index / "manifest.json").write_bytes(content.replace(b"  ", b" "))
    done = repair_index(index)
    assert done.whole
    assert len(done.found) == 1
    assert (index / "manifest.json").read_bytes() == content


@pytest.mark.parametrize("damage", [remove, cut, flip])
def test_the_vocabulary_comes_from_the_encoder(
    index: Path, expected: dict, damage: Callable[[Path], None]
) -> None:
    content = (index / "vocabulary.json").read_bytes()
    damage(index / "vocabulary.json")
    remove(next((index / SEGMENT / "lucene").glob("segments_*")))
    flip(index / "segments/000001/faiss/docid")
    done = repair_index(index)
    assert lost(done) == ["vocabulary.json", f"{SEGMENT}/lucene"]
    assert "which is lost too: see there" in str(done.remaining[1])
    assert list(sources(done)) == ["segments/000001/faiss/docid"]  # that needs no vocabulary
    done = repair_index(index, ENCODER)
    assert done.whole
    assert sources(done)["vocabulary.json"] == "the encoder's tokenizer"
    assert (index / "vocabulary.json").read_bytes() == content
    assert verify_index(index) == []
    assert results(index) == expected


def test_a_vocabulary_in_other_bytes_needs_no_encoder(index: Path) -> None:
    content = (index / "vocabulary.json").read_bytes()
    (index / "vocabulary.json").write_bytes(content.replace(b"\n", b" "))
    # Parts that could not be compared before are compared now.
    path = index / SEGMENT / "faiss/docid"
    path.write_text("".join(f"x{number:02}\n" for number in range(16)))
    manifest = Manifest.load(index)
    stated = dict(manifest.checksums["vocabulary.json"])
    sign(index)
    done = repair_index(index)
    assert sources(done) == {"vocabulary.json": "its own tokens"}
    assert Manifest.load(index).checksums["vocabulary.json"] == stated
    assert (index / "vocabulary.json").read_bytes() == content
    assert any("its ids differ" in str(problem) for problem in done.remaining)
    assert {problem.path for problem in verify_index(index)} == set(lost(done))


def test_files_that_do_not_belong_are_removed_before_anything_is_read(
    index: Path, expected: dict
) -> None:
    np.save(index / SEGMENT / "forward/dense.npy", np.zeros((16, 16), np.float32))
    # Lucene would open the newest of these, of another index, in place of its own.
    (index / SEGMENT / "lucene/segments_9").write_bytes(b"no such thing")
    flip(index / SEGMENT / "forward/impacts-data.npy")
    (index / "segments/000001/note.txt").write_text("mine")
    done = repair_index(index)
    assert done.whole
    assert sorted(done.removed) == [
        "segments/000001/note.txt",
        f"{SEGMENT}/forward/dense.npy",
        f"{SEGMENT}/lucene/segments_9",
    ]
    assert list(sources(done)) == [f"{SEGMENT}/forward/impacts"]
    assert verify_index(index) == []
    assert results(index) == expected


def test_nothing_is_removed_where_the_manifest_names_too_little(index: Path) -> None:
    manifest = Manifest.load(index)
    names = [name for name in manifest.checksums if not name.startswith(f"{SEGMENT}/faiss/")]
    manifest.checksums = {name: manifest.checksums[name] for name in names}
    manifest.save(index)
    before = snapshot(index)
    done = repair_index(index, ENCODER)
    assert lost(done) == [f"{SEGMENT}/faiss/docid", f"{SEGMENT}/faiss/index"]
    assert done.removed == []
    assert snapshot(index) == before


def test_parts_that_disagree_with_right_checksums_are_left_alone(index: Path) -> None:
    path = index / SEGMENT / "forward/impacts-data.npy"
    impacts = np.load(path)
    impacts[0] = impacts[0] % 255 + 1
    np.save(path, impacts)
    sign(index)
    before = snapshot(index)
    done = repair_index(index, ENCODER)
    assert lost(done) == [f"{SEGMENT}/lucene"]
    assert "nothing shows which is wrong" in str(done.remaining[0])
    assert snapshot(index) == before
    # Damage elsewhere in that segment is not mended into something that looks whole.
    flip(index / SEGMENT / "faiss/docid")
    before = snapshot(index)
    done = repair_index(index, ENCODER)
    assert f"{SEGMENT}/lucene" in lost(done)
    assert done.rebuilt == []
    assert snapshot(index) == before


def test_killed_before_the_step_the_index_is_as_it_was(
    index: Path, expected: dict, monkeypatch: pytest.MonkeyPatch
) -> None:
    flip(index / SEGMENT / "faiss/docid")
    before = snapshot(index)

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Manifest, "save", killed)
        with pytest.raises(KeyboardInterrupt):
            repair_index(index)
    assert snapshot(index) == before  # the new segment has gone with the call that failed
    assert repair_index(index).whole
    assert results(index) == expected


def test_a_searcher_that_is_open_notices_nothing(index: Path, expected: dict) -> None:
    with contextlib.closing(HybridIndex.open(index, ENCODER)) as opened:
        before = opened.search(TOPICS[0].text, k=32, exact=True)
        remove(index / SEGMENT / "forward/impacts-indices.npy")
        assert repair_index(index).whole
        assert (index / SEGMENT).exists()  # it is read
        assert opened.search(TOPICS[0].text, k=32, exact=True) == before == expected["hits"]
        assert opened.refresh()
        assert opened.search(TOPICS[0].text, k=32, exact=True) == before


def test_one_repairs_at_a_time(index: Path) -> None:
    flip(index / SEGMENT / "faiss/docid")
    with exclusive(index), pytest.raises(BusyError, match="another process is writing there"):
        repair_index(index, wait=0.05)
    (index / ".building").mkdir()
    with pytest.raises(InputError, match="a build was interrupted there"):
        repair_index(index)


@pytest.mark.parametrize("name", ["../../other", "/etc", "segments/000001/../../../other", "a//b"])
@pytest.mark.parametrize("where", ["segment", "vocabulary", "file"])
def test_a_manifest_that_names_what_lies_outside_is_refused(
    index: Path, name: str, where: str
) -> None:
    manifest = Manifest.load(index)
    if where == "segment":
        manifest.segments[0] = dataclasses.replace(manifest.segments[0], name=name)
    elif where == "vocabulary":
        manifest.vocabulary_file = name
    else:
        manifest.checksums[name] = {"sha256": "", "bytes": 0}
    write_json(index / "manifest.json", manifest.to_dict())
    before = snapshot(index.parent)
    report = repair_index(index, ENCODER)
    assert "which is not a valid name in an index" in str(report.remaining[0])
    assert not report.rebuilt
    assert snapshot(index.parent) == before
