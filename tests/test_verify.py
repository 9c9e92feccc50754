"""Whatever is damaged in an index is found, and named."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from scipy.sparse import csr_matrix

from dupmae_toolkit import HybridIndex
from dupmae_toolkit.errors import InputError
from dupmae_toolkit.index.build import build_index
from dupmae_toolkit.index.dense import write_faiss
from dupmae_toolkit.index.documents import write_documents
from dupmae_toolkit.index.forward import ForwardStore
from dupmae_toolkit.index.health.problems import some_ids
from dupmae_toolkit.index.health.verify import verify_index
from dupmae_toolkit.index.info import index_info
from dupmae_toolkit.index.lucene import write_lucene
from dupmae_toolkit.index.manifest import Manifest, checksums
from dupmae_toolkit.index.segment import Segment
from dupmae_toolkit.index.updates import delete_documents
from dupmae_toolkit.index.vocabulary import word_terms
from tests.index_support import encode
from tests.support import HashingEncoder

pytestmark = pytest.mark.java
VOCABULARY = HashingEncoder().vocabulary
SEGMENT = "segments/000002"


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("verify")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda _: None)
        encoded = encode(folder / "enc", count=40)
        build_index(folder / "index", encoded, vocabulary=VOCABULARY, segment_size=20)
    return folder / "index"


@pytest.fixture
def index(whole: Path, tmp_path: Path) -> Path:
    """A copy to be damaged."""
    return Path(shutil.copytree(whole, tmp_path / "index"))


def files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


def paths(index: Path, deep: bool = True) -> list[str]:
    return [problem.path for problem in verify_index(index, deep)]


def sign(index: Path) -> None:
    """Make the checksums those of the files as they are, so that only the parts can disagree."""
    manifest = Manifest.load(index)
    vocabulary = {"vocabulary.json": manifest.checksums["vocabulary.json"]}
    manifest.checksums = vocabulary | checksums(index, index / "segments")
    manifest.save(index)


def segment(index: Path) -> Segment:
    return Segment.open(index / SEGMENT, VOCABULARY)


def test_a_whole_index_has_no_problems(whole: Path) -> None:
    assert verify_index(whole) == []
    assert verify_index(whole, deep=False) == []


def test_every_file_that_is_missing_cut_or_flipped_is_found(index: Path) -> None:
    for path in files(index):
        name, content = path.relative_to(index).as_posix(), path.read_bytes()
        path.unlink()
        assert name in paths(index, deep=False)
        path.write_bytes(content[:-1])
        assert name in paths(index, deep=False)
        place = len(content) // 3
        flipped = content[:place] + bytes([content[place] ^ 4]) + content[place + 1 :]
        path.write_bytes(flipped)
        assert name in paths(index), name
        path.write_bytes(content)
    assert verify_index(index) == []


def test_damage_in_one_segment_does_not_hide_damage_in_another(index: Path) -> None:
    for number in (1, 2):
        (index / f"segments/00000{number}/faiss/docid").write_text("x\n")
    assert paths(index) == [f"segments/00000{number}/faiss/docid" for number in (1, 2)]


@pytest.mark.parametrize("deep", [False, True])
def test_the_documents_whose_texts_are_lost_are_named(index: Path, deep: bool) -> None:
    ids = segment(index).ids
    delete_documents(index, ids[3:5])
    (index / SEGMENT / "documents.parquet").unlink()
    living = ids[:3] + ids[5:]
    (problem,) = verify_index(index, deep)
    assert f"; it held 18 documents, {', '.join(living[:10])} and 8 more (" in problem.message
    assert f"all its ids are in {SEGMENT}/faiss/docid, one per line" in problem.message
    (index / SEGMENT / "faiss/docid").unlink()
    told = {each.path: each.message for each in verify_index(index, deep)}
    assert "it held" not in told[f"{SEGMENT}/documents.parquet"]


def test_ids_are_named_in_a_list_that_is_bounded() -> None:
    assert some_ids(["a"]) == "1 document, a"
    assert some_ids(["a", "b"], {0}) == "1 document, b"
    assert some_ids([f"{n}" for n in range(10)]) == "10 documents, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9"
    assert len(some_ids(["x" * 2000] * 5000)) < 700
    assert some_ids(["x" * 2000] * 5000).endswith("… and 4,990 more")


def test_lucene_reads_no_file_that_the_manifest_does_not_name(index: Path) -> None:
    manifest = Manifest.load(index)
    name = next(name for name in manifest.checksums if "/lucene/segments_" in name)
    manifest.checksums.pop(name)
    manifest.save(index)
    with pytest.raises(InputError, match=f"has no checksum of {name}"):
        HybridIndex.open(index, HashingEncoder())
    assert name in paths(index)


def test_a_missing_segment_and_a_missing_manifest_are_found(index: Path) -> None:
    shutil.rmtree(index / SEGMENT)
    assert SEGMENT in paths(index)
    (index / "manifest.json").unlink()
    assert paths(index) == ["manifest.json"]


def test_a_file_that_was_put_there_is_found(index: Path) -> None:
    (index / SEGMENT / "lucene" / "write.lock").touch()
    assert paths(index) == [f"{SEGMENT}/lucene/write.lock"]


def test_leftovers_of_an_interrupted_build_are_no_damage(index: Path) -> None:
    (index / ".building").mkdir()
    (index / "segments" / "000009").mkdir()
    assert verify_index(index) == []
    assert index_info(index)["leftovers"] == [".building", "segments/000009"]


def test_ids_in_another_order_are_found(index: Path) -> None:
    path = index / SEGMENT / "faiss" / "docid"
    path.write_text("".join(f"{name}\n" for name in reversed(segment(index).ids)))
    sign(index)
    found = {problem.path: problem.message for problem in verify_index(index)}
    assert "not in ascending order" in found[f"{SEGMENT}/faiss/docid"]
    assert "from row 0 on" in found[f"{SEGMENT}/documents.parquet"]
    assert "from row 0 on" in found[f"{SEGMENT}/lucene"]


def test_a_document_less_in_any_part_is_found(index: Path) -> None:
    ids = segment(index).ids
    write_documents(index / SEGMENT / "documents.parquet", ids[:-1], ids[:-1], ids[:-1])
    write_faiss(index / SEGMENT / "faiss", ids, np.ones((19, 16)))
    sign(index)
    found = {problem.path: problem.message for problem in verify_index(index)}
    assert "from row 19 on" in found[f"{SEGMENT}/documents.parquet"]
    assert "has 19 vectors for 20 documents" in found[f"{SEGMENT}/faiss/index"]


def test_one_impact_that_differs_is_found_with_its_document(index: Path) -> None:
    part = segment(index)
    impacts = csr_matrix(part.forward.impacts, copy=True)
    place = int(impacts.indptr[7])
    impacts.data[place] = impacts.data[place] % 255 + 1
    ids = part.ids
    part.lucene.close()
    ForwardStore.write(index / SEGMENT / "forward", impacts, None)
    sign(index)
    (problem,) = verify_index(index)
    assert problem.path == f"{SEGMENT}/lucene"
    assert f"of 1 documents differ from those in forward; {ids[7]!r} is the first" in str(problem)


def test_a_lucene_index_of_other_documents_is_found(index: Path) -> None:
    part = segment(index)
    ids, impacts = part.ids, csr_matrix(part.forward.impacts, copy=True)
    part.lucene.close()
    shutil.rmtree(index / SEGMENT / "lucene")
    terms = [*VOCABULARY, *word_terms(part.words)]
    write_lucene(index / SEGMENT / "lucene", ids, impacts[::-1], terms)
    sign(index)
    (problem,) = verify_index(index)
    assert "impacts of 20 documents differ" in problem.message


@pytest.mark.parametrize(
    ("file", "message"),
    [
        ("impacts-frequencies.npy", "states frequencies of terms that are not those of its impa"),
        ("impacts-lengths.npy", "has documents of "),
        ("impacts-words.txt", "that are not "),
        ("fewer lengths", "has 19 lengths for 20 documents"),
        ("no lengths", "is missing"),
    ],
)
def test_words_lengths_and_frequencies_that_do_not_fit_are_found(
    index: Path, file: str, message: str
) -> None:
    """With right checksums."""
    forward = index / SEGMENT / "forward"
    name = "impacts-lengths.npy" if "lengths" in file else file
    if file == "no lengths":
        (forward / name).unlink()
    elif file.endswith(".txt"):
        first, *rest = (forward / name).read_text().splitlines(keepends=True)
        (forward / name).write_text("".join([*rest, first]))  # in another order
    else:
        numbers = np.load(forward / name)
        numbers[0] += 1
        np.save(forward / name, numbers[: 19 if file == "fewer lengths" else None])
    sign(index)
    found = [str(problem) for problem in verify_index(index)]
    assert any(message in each for each in found), found
    assert all(SEGMENT in each for each in found)


def test_an_id_that_stands_in_two_segments_is_found(index: Path) -> None:
    shutil.rmtree(index / SEGMENT)
    shutil.copytree(index / "segments/000001", index / SEGMENT)
    sign(index)
    assert any("is already in segment 000001" in str(each) for each in verify_index(index))


def test_vectors_that_are_no_numbers_and_another_kind_of_index_are_found(index: Path) -> None:
    ids = segment(index).ids
    dense = np.ones((20, 16), np.float32)
    dense[3, 3] = np.nan
    write_faiss(index / SEGMENT / "faiss", ids, dense)
    sign(index)
    assert any("NaN or infinity" in str(problem) for problem in verify_index(index))
    write_faiss(index / SEGMENT / "faiss", ids, np.ones((20, 8)), "SQ8")
    sign(index)
    found = " ".join(str(problem) for problem in verify_index(index))
    assert "8 dimensions" in found
    assert "not of the kind 'Flat'" in found


def test_what_is_no_index_is_one_problem(tmp_path: Path) -> None:
    assert paths(tmp_path) == ["manifest.json"]
    with pytest.raises(InputError, match="not an index"):
        index_info(tmp_path)


def test_an_index_tells_about_itself(whole: Path) -> None:
    values = index_info(whole)
    assert values["documents"] == 40
    assert [segment["documents"] for segment in values["segments"]] == [20, 20]
    assert values["encoder"]["name"] == "hashing"
    assert values["impacts"]["error"]["weights"] > 0
    assert values["impacts"]["step"] == 1 / values["impacts"]["scale"]
    total = sum(path.stat().st_size for path in files(whole))
    assert values["bytes"]["total"] == total - (whole / "manifest.json").stat().st_size
    assert all(size > 0 for size in values["bytes"].values())
