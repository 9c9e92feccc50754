"""A file that was changed is told when the index is opened or the file is used, not by answers."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from dupmae_toolkit import HybridIndex
from dupmae_toolkit.errors import InputError
from dupmae_toolkit.files import sha256_file
from dupmae_toolkit.index import integrity
from dupmae_toolkit.index.integrity import Integrity
from dupmae_toolkit.index.updates import add_corpus, compact_index, delete_documents
from tests.reliability.world import ENCODER, PlainLucene, some

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
    assert len(names(index)) == 12
    for name in names(index):
        path = flip(index, name)
        with pytest.raises(InputError, match=CHANGED) as caught:
            HybridIndex.open(index, ENCODER)
        assert str(path) in str(caught.value)
        flip(index, name)
    HybridIndex.open(index, ENCODER).close()


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

    def counted(path: Path) -> str:
        looked.append(path.name)
        return sha256_file(path)

    monkeypatch.setattr(integrity, "sha256_file", counted)
    opened = HybridIndex.open(index, ENCODER)
    opened.search("word1")
    assert sorted(looked) == sorted(name.rsplit("/", 1)[-1] for name in names(index))
    looked.clear()
    opened.add(some(40, 41))
    # The writer reads ids alone, and the searcher what is new.
    assert looked.count("documents.parquet") == 1
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


def test_what_the_manifest_does_not_state_is_not_looked_at(tmp_path):
    look = Integrity(tmp_path, {}, "full")
    look.opened("segments/000001")
    look.read("nothing")
