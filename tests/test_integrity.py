"""A file that was changed is told when the index is opened or the file is used, not by answers."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from scipy.sparse import csr_matrix

from dupmae_toolkit import HybridIndex, Query
from dupmae_toolkit.errors import InputError
from dupmae_toolkit.files import wrong_contents
from dupmae_toolkit.index import integrity
from dupmae_toolkit.index.dense import write_vectors
from dupmae_toolkit.index.documents import write_documents
from dupmae_toolkit.index.forward import write_dense, write_impacts
from dupmae_toolkit.index.health.verify import verify_index
from dupmae_toolkit.index.integrity import LEVELS
from dupmae_toolkit.index.manifest import Manifest, checksums
from dupmae_toolkit.index.updates import add_corpus, compact_index, delete_documents
from tests.reliability.world import ENCODER, PlainLucene, answers, some

CHANGED = r"was changed or damaged \(its checksum differs\)"


@pytest.fixture(autouse=True)
def _plain(monkeypatch: pytest.MonkeyPatch) -> None:
    from dupmae_toolkit.index import segment

    monkeypatch.setattr(segment, "write_lucene", PlainLucene.write)
    monkeypatch.setattr(segment, "LuceneImpacts", PlainLucene)
    monkeypatch.setattr(os, "fsync", lambda _: None)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from dupmae_toolkit.index import segment

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(segment, "write_lucene", PlainLucene.write)
        patch.setattr(segment, "LuceneImpacts", PlainLucene)
        patch.setattr(os, "fsync", lambda _: None)
        path = tmp_path_factory.mktemp("integrity") / "index"
        HybridIndex.build(path, some(0, 30), ENCODER, faiss="HNSW8").close()
        delete_documents(path, ["d3", "d7"])
    return path


@pytest.fixture
def index(whole: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(whole, tmp_path / "index"))


def flip(index: Path, name: str, at: int = -1) -> Path:
    path = index / name
    data = bytearray(path.read_bytes())
    data[at] ^= 1
    path.write_bytes(data)
    return path


def names(index: Path) -> list[str]:
    paths = sorted(p for p in index.rglob("*") if p.is_file() and p.name != "manifest.json")
    return [path.relative_to(index).as_posix() for path in paths]


def test_any_bit_of_a_small_file_is_told_on_opening(whole, index):
    assert len(names(index)) == 15
    texts = "segments/000001/documents.parquet"
    for name in names(index):
        path = flip(index, name)
        check = "full" if name == texts else "quick"
        with pytest.raises(InputError, match=CHANGED) as caught:
            HybridIndex.open(index, ENCODER, check=check)
        assert str(path) in str(caught.value)
        flip(index, name)
    HybridIndex.open(index, ENCODER, check="full").close()


def lose(path: Path) -> None:
    path.unlink()


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-9])


def flip_the_footer(path: Path) -> None:
    flip(path.parent, path.name, -40)


@pytest.mark.parametrize("damage", [lose, cut, flip_the_footer])
def test_an_index_that_lost_its_texts_ranks_and_says_so_when_it_is_asked_for_them(
    whole, index, damage
):
    queries = [Query("1", "word1 word2")]
    with HybridIndex.open(whole, ENCODER) as untouched:
        expected = untouched.search_batch(queries, k=20).topics["1"]
    path = index / "segments/000001/documents.parquet"
    damage(path)
    with HybridIndex.open(index, ENCODER) as opened:
        for _ in range(2):
            found = opened.search_batch(queries, k=20).topics["1"]
            assert (found.ids, found.scores.tolist()) == (expected.ids, expected.scores.tolist())
            with pytest.raises(InputError, match="no other file holds its texts") as caught:
                opened.search("word1 word2")
            assert str(caught.value).startswith(f"{path}: ")
    with pytest.raises(InputError, match="no other file holds its texts"):
        compact_index(index)


@pytest.mark.parametrize(
    ("part", "mode"),
    [("faiss/index", "dense"), ("forward/impacts-data.npy", "lexical"), ("faiss/docid", "")],
)
def test_a_large_file_that_is_read_whole_is_told_when_it_is_read(index, monkeypatch, part, mode):
    monkeypatch.setattr(integrity, "SMALL", 0)
    path = flip(index, f"segments/000001/{part}")
    if not mode:
        with pytest.raises(InputError, match=CHANGED):
            HybridIndex.open(index, ENCODER)
        return
    opened = HybridIndex.open(index, ENCODER)
    for which in (mode, "hybrid"):
        with pytest.raises(InputError, match=CHANGED) as caught:
            opened.search("word1 word2", mode=which)
        assert str(path) in str(caught.value)
    other = {"dense": "lexical", "lexical": "dense"}[mode]
    assert opened.search("word1 word2", mode=other)
    opened.close()


def test_a_damaged_page_of_the_documents_is_told_when_it_is_read(index, monkeypatch):
    monkeypatch.setattr(integrity, "SMALL", 0)
    flip(index, "segments/000001/documents.parquet", 120)
    opened = HybridIndex.open(index, ENCODER)
    with pytest.raises(InputError, match=r"documents\.parquet: not readable"):
        opened.search("word1 word2", k=28)
    opened.close()


def test_how_much_is_looked_at_can_be_chosen(index, monkeypatch):
    monkeypatch.setattr(integrity, "SMALL", 0)
    flip(index, "segments/000001/forward/dense.npy")
    HybridIndex.open(index, ENCODER).close()  # mapped, and left to verify
    with pytest.raises(InputError, match=rf"dense\.npy: {CHANGED}"):
        HybridIndex.open(index, ENCODER, check="full")
    flip(index, "segments/000001/forward/dense.npy")
    flip(index, "segments/000001/faiss/docid", 0)
    HybridIndex.open(index, ENCODER, check="sizes").close()
    with pytest.raises(InputError, match="there is no check 'deep'; choose one of sizes, quick"):
        HybridIndex.open(index, ENCODER, check="deep")


def test_contents_are_looked_at_once(index, monkeypatch):
    looked: list[str] = []

    def counted(path: Path, sha256: str) -> str:
        looked.append(path.name)
        return wrong_contents(path, sha256)

    monkeypatch.setattr(integrity, "wrong_contents", counted)
    opened = HybridIndex.open(index, ENCODER)
    opened.search("word1")
    assert sorted(looked) == sorted(name.rsplit("/", 1)[-1] for name in names(index))
    looked.clear()
    opened.add(some(40, 41))
    # The writer reads ids alone, and the searcher what is new, but for texts.
    assert looked.count("documents.parquet") == 0
    assert looked.count("impacts-data.npy") == 1
    assert looked.count("docid") == 3  # before encoding, before adding, and the new one
    opened.close()


@pytest.mark.parametrize(
    "part", ["documents.parquet", "forward/impacts-data.npy", "forward/dense.npy"]
)
def test_damage_does_not_get_into_a_new_segment(index, monkeypatch, part):
    monkeypatch.setattr(integrity, "SMALL", 0)
    flip(index, f"segments/000001/{part}")
    before = (index / "manifest.json").read_bytes()
    with pytest.raises(InputError, match=CHANGED):
        compact_index(index)
    assert (index / "manifest.json").read_bytes() == before
    assert len(list((index / "segments").iterdir())) == 1


def test_other_deletions_bring_nobody_back(index):
    path = next((index / "deletions").iterdir())
    data = path.read_bytes()
    # 22 -> 23: in the range, in order, and wrong.
    at = len(data) - 16
    path.write_bytes(data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :])
    for act in (
        lambda: HybridIndex.open(index, ENCODER),
        lambda: add_corpus(index, some(3, 4), ENCODER),
        lambda: delete_documents(index, ["d3"]),
        lambda: compact_index(index),
    ):
        with pytest.raises(InputError, match=CHANGED):
            act()


@pytest.mark.parametrize("level", LEVELS)
def test_a_file_of_a_segment_that_the_manifest_does_not_state_is_refused(index, level):
    # The names of what stands for Lucene here are not those of Lucene's files.
    for name in (name for name in names(index) if "/lucene/" not in name):
        manifest = Manifest.load(index)
        stated = manifest.checksums.pop(name)
        manifest.save(index)
        unstated = rf"manifest\.json: has no checksum of {name}, .* run `dupmae verify`"
        with pytest.raises(InputError, match=unstated):
            HybridIndex.open(index, ENCODER, check=level)
        if not name.endswith(("/faiss/index", "vocabulary.json")):  # which no change reads
            with pytest.raises(InputError, match=unstated):
                delete_documents(index, ["d5"]) if "docid" in name else compact_index(index)
        assert name in " ".join(map(str, verify_index(index)))
        manifest.checksums[name] = stated
        manifest.save(index)
    with HybridIndex.open(index, ENCODER, check=level) as opened:
        assert len(opened) == 28
    assert compact_index(index).merged == 28


def test_an_index_of_format_1_is_opened_searched_and_changed(tmp_path):
    HybridIndex.build(tmp_path / "i", some(0, 30), ENCODER, faiss="HNSW8").close()
    manifest = Manifest.load(tmp_path / "i")
    manifest.format_version = 1
    manifest.save(tmp_path / "i")
    with HybridIndex.open(tmp_path / "i", ENCODER, check="full") as opened:
        assert len(opened.search("word1 word2", k=30)) == 30
        opened.delete(["d1"])
    # Who reads format 1 alone must not find d1 again.
    assert Manifest.load(tmp_path / "i").format_version == 3
    assert (compact_index(tmp_path / "i").merged, verify_index(tmp_path / "i")) == (29, [])


def test_a_stray_file_is_not_taken_for_the_vectors_and_is_told(tmp_path):
    index = tmp_path / "index"
    HybridIndex.build(index, some(0, 30), ENCODER).close()
    with HybridIndex.open(index, ENCODER) as opened:
        expected = answers(opened, "dense", 30)
    stray = index / "segments/000001/forward/dense.npy"
    np.save(stray, np.zeros((30, ENCODER.info.dense_dim), np.float32))
    (stray.parent / ".DS_Store").touch()
    with HybridIndex.open(index, ENCODER) as opened:
        assert answers(opened, "dense", 30) == expected
        told = [problem.path for problem in verify_index(index)]
        assert told == [f"segments/000001/forward/{name}" for name in (".DS_Store", "dense.npy")]
        opened.delete(["d1"])
        opened.compact()
        kept = [[hit for hit in hits if hit[0] != "d1"] for hits in expected]
        assert answers(opened, "dense", 29) == kept


def test_a_later_commit_of_lucene_that_was_put_there_is_not_read(index):
    (index / "segments/000001/lucene/segments_7").touch()
    with pytest.raises(InputError, match=r"has no checksum of .*/lucene/segments_7, .* not used"):
        HybridIndex.open(index, ENCODER)


def test_segments_whose_vectors_have_other_lengths_are_refused(tmp_path):
    index = tmp_path / "index"
    with HybridIndex.build(index, some(0, 30), ENCODER) as opened:
        opened.add(some(30, 40))
        write_vectors(index / "segments/000002/faiss", np.ones((10, 5), np.float32))
        manifest = Manifest.load(index)
        manifest.checksums |= checksums(index, index / "segments")
        manifest.generation += 1
        manifest.save(index)
        message = r"000002: its vectors have 5 dimensions, those of segments/000001 8; run `dupmae"
        with pytest.raises(InputError, match=message):
            HybridIndex.open(index, ENCODER)
        with pytest.raises(InputError, match="000002: its vectors have 5 dimensions, the enc"):
            compact_index(index)


@pytest.mark.parametrize(("spec", "added"), [("Flat", 0), ("Flat", 10), ("HNSW8", 0)])
def test_vectors_of_another_length_than_the_encoders_are_told_in_one_line(tmp_path, spec, added):
    index = tmp_path / "index"
    HybridIndex.build(index, some(0, 30), ENCODER, faiss=spec).close()
    if added:
        add_corpus(index, some(30, 30 + added), ENCODER)
    manifest = Manifest.load(index)
    for entry in manifest.segments:
        vectors = np.ones((entry.count, 5), np.float32)
        write_vectors(index / "segments" / entry.name / "faiss", vectors, spec)
        if spec != "Flat":
            write_dense(index / "segments" / entry.name / "forward", vectors)
    manifest.checksums |= checksums(index, index / "segments")
    manifest.generation += 1
    manifest.save(index)
    for mode in ("dense", "hybrid"):
        with (
            HybridIndex.open(index, ENCODER) as opened,
            pytest.raises(InputError, match=r"000001: its vectors have 5 dimensions, the enc.* 8;"),
        ):
            opened.search("word1 word2", mode=mode)


def fewer_texts(segment: Path) -> None:
    write_documents(segment / "documents.parquet", *[[f"d{n}" for n in range(29)]] * 3)


def fewer_impacts(segment: Path) -> None:
    write_impacts(segment / "forward", csr_matrix((29, 128), dtype=np.uint8))


def other_terms(segment: Path) -> None:
    write_impacts(segment / "forward", csr_matrix((30, 127), dtype=np.uint8))


def fewer_vectors(segment: Path) -> None:
    write_vectors(segment / "faiss", np.ones((29, 8), np.float32))


def fewer_ids(segment: Path) -> None:
    ids = (segment / "faiss/docid").read_text("utf-8").splitlines()
    (segment / "faiss/docid").write_text("".join(f"{name}\n" for name in ids[:-1]), "utf-8")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (fewer_texts, "documents.parquet holds 29 documents; the manifest states 30"),
        (fewer_impacts, "30 dense vectors for 29 documents"),
        (other_terms, r"holds 127 terms; the manifest states \d+"),
        (fewer_vectors, "FAISS holds 29 documents; the manifest states 30"),
        (fewer_ids, "does not name 30 documents in the order of their ids"),
    ],
)
def test_a_part_of_another_shape_is_refused_by_a_search_and_by_a_change(tmp_path, change, message):
    index = tmp_path / "index"
    HybridIndex.build(index, some(0, 30), ENCODER).close()
    delete_documents(index, ["d1"])
    change(index / "segments/000001")
    manifest = Manifest.load(index)
    manifest.checksums |= checksums(index, index / "segments")  # so that only the shape is wrong
    manifest.save(index)
    with (
        pytest.raises(InputError, match=message),
        HybridIndex.open(index, ENCODER) as opened,
    ):
        opened.search("word1 word2", k=30)
    # Deleting reads the ids, compacting all the rest.
    with pytest.raises(InputError, match=message):
        delete_documents(index, ["d2"]) if change is fewer_ids else compact_index(index)
