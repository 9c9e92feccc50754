"""Vectors exported as JSON lines, .npy and Parquet, and imported again: the same scores."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from datetime import date
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from dupmae_toolkit import HybridIndex, Query
from dupmae_toolkit.encoding.corpus import EncodedCorpus
from dupmae_toolkit.encoding.stream import encode_corpus
from dupmae_toolkit.errors import DupMAEError, InputError
from dupmae_toolkit.index.build import build_index
from dupmae_toolkit.index.health.verify import verify_index
from dupmae_toolkit.index.reweighing import save_weights
from dupmae_toolkit.index.scoring import Origin
from dupmae_toolkit.interop import vector_formats, vector_layout, vector_writing
from dupmae_toolkit.interop.ciff_write import write_ciff
from dupmae_toolkit.interop.importing import import_index
from dupmae_toolkit.interop.live_rows import IndexRows
from dupmae_toolkit.interop.vector_writing import write_vectors
from dupmae_toolkit.records import Document
from tests.cli_support import run
from tests.index_support import age, documents_of
from tests.support import HashingEncoder

FORMATS = ("jsonl", "npy", "parquet")
ENCODER = HashingEncoder()
TOPICS = [Query("1", "w3 w17 w3"), Query("2", "the same title 4"), Query("3", "nothing")]


@pytest.fixture(autouse=True)
def small_batches(monkeypatch):
    """Several batches of a few documents."""
    for module in (vector_writing, vector_formats, vector_layout):
        monkeypatch.setattr(module, "BATCH", 16)


@pytest.fixture(scope="module")
def index(tmp_path_factory) -> Path:
    """Of several segments, with deletions, and metadata of every kind."""
    path = tmp_path_factory.mktemp("exchange") / "index"
    documents = documents_of(50)
    fields = {"year": 2020, "day": date(2024, 5, 1), "tags": ["a", "b"], "$odd": {"x": None}}
    documents[7] = Document(documents[7].id, "a title", documents[7].text, fields)
    with HybridIndex.build(path, documents[:30], ENCODER) as opened:
        opened.add(documents[30:])
        opened.delete([documents[3].id, documents[33].id])
    return path


def found(index: Path, encoder=ENCODER, **how) -> list:
    with HybridIndex.open(index, encoder) as opened:
        run = opened.search_batch(TOPICS, k=100, exact=True, **how)
        return [(t, run[t].ids, run[t].scores.tolist()) for t in run]


def documents(index: Path, names: list[str]) -> list[Document]:
    with HybridIndex.open(index, ENCODER) as opened:
        return [opened.get(name) for name in names]


def test_tuned_weights_come_with_an_index(index, tmp_path, capsys):
    tuned = tmp_path / "tuned"
    shutil.copytree(index, tuned)
    weights = {"dense": 3.0, "lexical": 0.25, "bm25": 2.0}
    save_weights(tuned, weights, 0.5, Origin("nDCG@10", "q.tsv", 3), ENCODER.info)
    assert found(tuned) != found(index)
    code, _, err = run(capsys, "export", tuned, "--format", "npy", "--output", tmp_path / "out")
    assert code == 0, err
    code, _, err = run(capsys, "import", tmp_path / "out", "--output", tmp_path / "new")
    assert code == 0, err
    assert found(tmp_path / "new") == found(tuned)
    scorings = [HybridIndex.open(path).manifest.scoring for path in (tmp_path / "new", tuned)]
    assert scorings[0] == scorings[1]


@pytest.mark.parametrize("format", FORMATS)
def test_an_index_comes_back_with_its_scores_and_documents(index, tmp_path, format, capsys):
    folder, new = tmp_path / "out", tmp_path / "new"
    code, out, err = run(capsys, "export", index, "--format", format, "--output", folder, "--json")
    assert code == 0, err
    assert json.loads(out)["documents"] == 48
    code, out, err = run(capsys, "import", folder, "--output", new, "--json")
    assert code == 0, err
    assert json.loads(out)["parts"] == ["dense", "lexical", "bm25"]
    for how in ({"mode": "dense"}, {"mode": "lexical"}, {"mode": "bm25"}, {"plain": True}, {}):
        assert found(new, **how) == found(index, **how)
    names = found(index, mode="dense")[0][1]
    assert len(names) == 48
    assert documents(new, names) == documents(index, names)
    assert verify_index(new) == []


@pytest.mark.parametrize("format", FORMATS)
def test_the_fitted_score_comes_back_too(tmp_path, format):
    encoder = HashingEncoder(largest_weight=3.3)
    built = documents_of(60)
    HybridIndex.build(tmp_path / "a", built, encoder, faiss="HNSW8").close()
    write_vectors(tmp_path / "a", tmp_path / "out", format)
    made, notes = import_index(tmp_path / "out", tmp_path / "b")
    assert notes == []
    assert (made.faiss_spec, made.encoder.largest_weight) == ("HNSW8", 3.3)
    assert found(tmp_path / "b", encoder) == found(tmp_path / "a", encoder)


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("side", ["dense", "lexical"])
def test_an_index_of_one_side_comes_back(tmp_path, format, side):
    encoder = HashingEncoder(dim=16 if side == "dense" else 0)
    if side == "lexical":
        object.__setattr__(encoder.info, "pooling", "none")
    else:
        object.__setattr__(encoder.info, "lexical_head", "none")
        encode = encoder.encode_documents

        def without(texts, ids=None):
            made = encode(texts, ids)
            made.lexical = made.lexical * 0
            made.texts = list(texts)
            return made

        encoder.encode_documents = encoder.encode_queries = without
    HybridIndex.build(tmp_path / "a", documents_of(20), encoder, bm25=False).close()
    write_vectors(tmp_path / "a", tmp_path / "out", format)
    made, _ = import_index(tmp_path / "out", tmp_path / "b")
    assert made.parts == (side,)
    assert found(tmp_path / "b", encoder) == found(tmp_path / "a", encoder)


def test_passages_come_back(tmp_path):
    texts = [Document(f"d{i}", "", " ".join(f"w{j}" for j in range(i, i + 40))) for i in range(9)]
    with HybridIndex.build(tmp_path / "a", texts, ENCODER, passages=10, overlap=2) as opened:
        wanted = opened.search("w3 w17", k=5)
    write_vectors(tmp_path / "a", tmp_path / "out", "parquet")
    made, _ = import_index(tmp_path / "out", tmp_path / "b")
    assert (made.documents, made.passages.size) == (9, 10)
    with HybridIndex.open(tmp_path / "b", ENCODER) as opened:
        assert opened.search("w3 w17", k=5) == wanted


@pytest.mark.parametrize("format", FORMATS)
def test_an_encoded_corpus_comes_back_unrounded(tmp_path, format):
    encoded = encode_corpus(documents_of(40), ENCODER, tmp_path / "e", part_size=7)
    build_index(tmp_path / "a", encoded, vocabulary=ENCODER.vocabulary)
    write_vectors(tmp_path / "e", tmp_path / "out", format)
    import_index(tmp_path / "out", tmp_path / "b")
    assert found(tmp_path / "b") == found(tmp_path / "a")


def test_pandas_opens_the_parquet_folder(index, tmp_path):
    write_vectors(index, tmp_path / "out", "parquet")
    frame = pd.read_parquet(tmp_path / "out")
    names = found(index, mode="dense")[0][1]
    assert frame["id"].tolist() == sorted(names)
    assert [f"{a}|{b}" for a, b in zip(frame["title"], frame["text"], strict=True)] == [
        f"{each.title}|{each.text}" for each in documents(index, sorted(names))
    ]
    vectors = ENCODER.encode_documents([each.contents for each in documents(index, sorted(names))])
    assert np.allclose(np.stack(frame["dense"].to_list()), vectors.dense)
    for row, (terms, weights) in enumerate(zip(frame["terms"], frame["weights"], strict=True)):
        expected = vectors.lexical[row]
        assert set(terms) == {f"t{column}" for column in expected.indices}
        by_term = dict(zip(terms, weights, strict=True))
        for column, weight in zip(expected.indices, expected.data, strict=True):
            assert by_term[f"t{column}"] == pytest.approx(weight, abs=0.02)


def test_pandas_cannot_open_a_folder_with_a_manifest_beside_the_parts(tmp_path):
    """Why the record's name begins with an underscore."""
    encode_corpus(documents_of(5), ENCODER, tmp_path / "e")
    with pytest.raises(Exception, match=r"manifest\.json|Parquet"):
        pd.read_parquet(tmp_path / "e")
    write_vectors(tmp_path / "e", tmp_path / "out", "parquet")
    assert len(pd.read_parquet(tmp_path / "out")) == 5


def test_json_lines_are_pyserinis(index, tmp_path, capsys):
    """Impacts as integers, and files that `dupmae index --vectors` reads as well."""
    write_vectors(index, tmp_path / "out", "jsonl")
    lines = (tmp_path / "out/lexical/vectors.jsonl").read_text("utf-8").splitlines()
    items = [json.loads(line) for line in lines]
    assert len(items) == 48
    assert all(item.keys() == {"id", "contents", "vector"} for item in items)
    values = {type(value) for item in items for value in item["vector"].values()}
    assert values == {int}
    for side, part in (("lexical", 0), ("dense", 1)):
        file = tmp_path / "out" / side / "vectors.jsonl"
        words = ("index", file, "--index", tmp_path / side, "--vectors", file, "--no-bm25")
        code, _, err = run(capsys, *words)
        assert code == 0, err
        with HybridIndex.open(tmp_path / side) as opened:
            assert opened.manifest.parts == (("lexical",), ("dense",))[part]
            assert len(opened) == 48


def test_arrays_are_plain(index, tmp_path):
    record = write_vectors(index, tmp_path / "out", "npy")
    from scipy.sparse import csr_matrix

    arrays = {
        name: np.load(tmp_path / f"out/lexical-{name}.npy", allow_pickle=False)
        for name in ("data", "indices", "indptr", "shape")
    }
    matrix = csr_matrix((arrays["data"], arrays["indices"], arrays["indptr"]), arrays["shape"])
    dense = np.load(tmp_path / "out/dense.npy", allow_pickle=False)
    ids = (tmp_path / "out/ids.txt").read_text("utf-8").split("\n")[:-1]
    assert (matrix.dtype, dense.dtype) == (np.uint8, np.float32)
    assert len(ids) == len(dense) == matrix.shape[0] == record["count"] == 48
    texts = [each.contents for each in documents(index, ids)]
    vectors = ENCODER.encode_documents(texts)
    assert np.array_equal(dense, vectors.dense)
    exact = np.maximum(np.rint(vectors.lexical.toarray() * record["scale"]), 0)
    assert np.abs(matrix.toarray() - exact).max() <= 1


def test_what_cannot_be_exported_is_refused_in_one_line(index, tmp_path, capsys):
    (tmp_path / "full").mkdir()
    (tmp_path / "full/x").write_text("")
    encode_corpus(documents_of(5), ENCODER, tmp_path / "e")
    write_vectors(tmp_path / "e", tmp_path / "out", "npy")
    cases = [
        (("export", index), "give either --format"),
        (("export", index, "--format", "npy"), "name it"),
        (("export", index, "--format", "npy", "--output", tmp_path / "full"), "not empty"),
        (("export", index, "--format", "npy", "--output", tmp_path / "full/x"), "is a file"),
        (("export", index, "--format", "ciff", "--output", tmp_path / "full"), "is a folder"),
        (("export", tmp_path, "--format", "npy", "--output", tmp_path / "n"), "not an index"),
        (("export", tmp_path, "--format", "ciff", "--output", tmp_path / "n"), "not an index"),
        (("export", tmp_path / "no", "--format", "npy", "--output", tmp_path / "n"), "no such"),
        (
            ("export", index, "--format", "npy", "--output", tmp_path / "n", "--terms", "words"),
            "--terms goes with",
        ),
        (
            ("export", index, "--format", "npy", "--output", tmp_path / "n", "--public"),
            "--public goes with",
        ),
        (("import", tmp_path / "full", "--output", tmp_path / "n"), "no export"),
        (("import", tmp_path / "no", "--output", tmp_path / "n"), "no such file"),
        (("import", index, "--output", tmp_path / "n"), "no export"),
        (("import", tmp_path / "full/x", "--output", tmp_path / "n", "--device", "cpu"), "--model"),
        (("import", tmp_path / "full/x", "--output", tmp_path / "n"), "empty"),
        (("import", tmp_path / "e", "--output", tmp_path / "n"), "not an export but encoded texts"),
        (("index", tmp_path / "out", "--index", tmp_path / "n"), "`dupmae import`"),
        (("search", "--index", tmp_path / "out", "q"), "`dupmae import"),
        (("import", "hf:a/b", "--output", tmp_path / "n", "--scale", "2"), "leave out --scale"),
    ]
    for words, said in cases:
        code, out, err = run(capsys, *words)
        assert (code, out, len(err.splitlines())) == (2, "", 1), words
        assert said in err, words
    assert sorted(path.name for path in tmp_path.iterdir()) == ["e", "full", "out"]


def test_an_index_whose_documents_are_all_deleted_has_nothing_to_export(tmp_path):
    with HybridIndex.build(tmp_path / "i", documents_of(4), ENCODER) as opened:
        opened.delete([each.id for each in documents_of(4)])
    with pytest.raises(InputError, match="all its documents are deleted"):
        write_vectors(tmp_path / "i", tmp_path / "out", "npy")
    assert not (tmp_path / "out").exists()


def test_an_existing_index_is_replaced_only_on_request(index, tmp_path):
    write_vectors(index, tmp_path / "out", "npy")
    HybridIndex.build(tmp_path / "i", documents_of(4), ENCODER).close()
    with pytest.raises(InputError, match="already holds an index of 4"):
        import_index(tmp_path / "out", tmp_path / "i")
    made, _ = import_index(tmp_path / "out", tmp_path / "i", overwrite=True)
    assert made.count == 48


@pytest.mark.parametrize("format", ["ciff", *FORMATS])
def test_an_export_that_is_interrupted_leaves_nothing(index, tmp_path, format, monkeypatch):
    """Wherever it stops: the n-th time that a document is read or a file is flushed."""
    from dupmae_toolkit import files

    def export() -> None:
        if format == "ciff":
            write_ciff(index, tmp_path / "out", "both")
        else:
            write_vectors(index, tmp_path / "out", format)

    flush, calls = files.fsync_path, []

    def stop(path: Path) -> None:
        calls.append(path)
        if len(calls) == 1:
            raise KeyboardInterrupt
        flush(path)

    monkeypatch.setattr(files, "fsync_path", stop)
    with pytest.raises(KeyboardInterrupt):
        export()
    assert list(tmp_path.iterdir()) == []
    full = OSError(28, "No space left on device")
    monkeypatch.setattr(files, "fsync_path", lambda path: (_ for _ in ()).throw(full))
    with pytest.raises(DupMAEError, match="the disk is full"):
        export()
    assert list(tmp_path.iterdir()) == []


KILLED = """
import os, sys
from pathlib import Path
from dupmae_toolkit import files
from dupmae_toolkit.interop.ciff_write import write_ciff
from dupmae_toolkit.interop.vector_writing import write_vectors

index, format, output, last = sys.argv[1:]
flush, calls = files.fsync_path, []

def stop(path):
    calls.append(path)
    if len(calls) == int(last):
        os.kill(os.getpid(), 9)
    flush(path)

files.fsync_path = stop
write = write_ciff if format == "ciff" else write_vectors
write(index, output, "tokens" if format == "ciff" else format)
"""


@pytest.mark.skipif(os.name == "nt", reason="no such signal")
@pytest.mark.parametrize(("format", "last"), [("ciff", 1), ("npy", 1), ("parquet", 7)])
def test_an_export_that_is_killed_leaves_no_half_file(index, tmp_path, format, last):
    words = [sys.executable, "-c", KILLED, index, format, tmp_path / "out", str(last)]
    done = subprocess.run(words, capture_output=True, check=False)
    assert done.returncode == -9, done.stderr
    assert not (tmp_path / "out").exists()
    words[-1] = "0"
    done = subprocess.run(words, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "out").exists()


def test_an_import_that_is_interrupted_starts_over(index, tmp_path, monkeypatch):
    from dupmae_toolkit.interop import importing

    write_vectors(index, tmp_path / "out", "jsonl")
    write, calls = importing.write_part, []

    def stop(*arguments) -> None:
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt
        write(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(importing, "write_part", stop)
        with pytest.raises(KeyboardInterrupt):
            import_index(tmp_path / "out", tmp_path / "i")
        assert not (tmp_path / "i").exists()
        patch.setattr(importing, "write_part", write)
        patch.setattr(importing, "build_held", lambda *a: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            import_index(tmp_path / "out", tmp_path / "i")
    assert [path.name for path in (tmp_path / "i").iterdir()] == [".building"]
    write_vectors(index, tmp_path / "other", "npy")
    with pytest.raises(InputError, match="a different build was interrupted"):
        import_index(tmp_path / "other", tmp_path / "i")
    import_index(tmp_path / "out", tmp_path / "i")
    assert found(tmp_path / "i", mode="dense") == found(index, mode="dense")
    assert not (tmp_path / "i/.building").exists()


def test_a_corpus_without_its_vocabulary_is_refused(tmp_path):
    encoded = encode_corpus(documents_of(5), ENCODER, tmp_path / "e")
    (tmp_path / "e/vocabulary.json").unlink()
    assert EncodedCorpus.is_one(encoded.folder)
    with pytest.raises(InputError, match=r"has no vocabulary.json"):
        write_vectors(tmp_path / "e", tmp_path / "out", "npy")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("format", ["ciff", *FORMATS])
def test_a_damaged_index_is_refused(index, tmp_path, format):
    copied = shutil.copytree(index, tmp_path / "i")
    path = copied / "segments/000001/forward/impacts-data.npy"
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(bytes(data))
    words = () if format == "ciff" else (format,)
    write = write_ciff if format == "ciff" else write_vectors
    with pytest.raises(InputError, match=r"impacts-data\.npy: .*verify --repair"):
        write(copied, tmp_path / "out", *words)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("version", [1, 2])
def test_an_index_of_an_earlier_version_is_exported(tmp_path, version):
    HybridIndex.build(tmp_path / "i", documents_of(20), ENCODER, bm25=False).close()
    write_ciff(tmp_path / "i", tmp_path / "new.ciff")
    age(tmp_path / "i", version)
    write_ciff(tmp_path / "i", tmp_path / "old.ciff")
    assert (tmp_path / "old.ciff").read_bytes() == (tmp_path / "new.ciff").read_bytes()
    write_vectors(tmp_path / "i", tmp_path / "out", "npy")
    made, _ = import_index(tmp_path / "out", tmp_path / "b")
    assert (made.count, made.parts) == (20, ("dense", "lexical"))


def test_an_export_reads_one_state_whatever_happens_meanwhile(index, tmp_path):
    copied = shutil.copytree(index, tmp_path / "i")
    with IndexRows.opened(copied) as rows:
        with HybridIndex.open(copied, ENCODER) as opened:
            opened.delete([rows.ids[0]])
            opened.compact()
            assert len(opened) == 47
        read = [name for batch in rows.batches(16) for name in batch.ids]
        assert read == rows.ids
        assert len(read) == 48
    record = write_vectors(copied, tmp_path / "out", "npy")
    assert record["count"] == 47


def test_an_empty_folder_is_taken(index, tmp_path):
    (tmp_path / "out").mkdir()
    assert write_vectors(index, tmp_path / "out", "npy")["count"] == 48
    assert (tmp_path / "out/ids.txt").exists()
