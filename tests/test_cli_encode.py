"""`dupmae encode`: what it prints, what it refuses, what it leaves behind."""

from __future__ import annotations

import gzip
import json
import os
import signal
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import pytest

from dupmae_toolkit.encoding.corpus import EncodedCorpus
from tests.cli_support import run

WORDS = ["one", "two", "three", "four", "five", "six", "seven", "eight"]
WORDS += ["nine", "ten", "cat", "dog", "tree", "house", "river"]
SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
DOCUMENTS = [
    {"_id": f"{i:03d}", "title": WORDS[i % 15], "text": " ".join(WORDS[: i % 15 + 1])}
    for i in range(30)
]


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """A masked language model of one small layer with random weights, as a folder."""
    import torch
    from transformers import BertConfig, BertForMaskedLM, BertTokenizerFast

    folder = tmp_path_factory.mktemp("model") / "tiny"
    folder.mkdir()
    (folder / "vocab.txt").write_text("\n".join(SPECIAL + WORDS) + "\n")
    BertTokenizerFast(str(folder / "vocab.txt")).save_pretrained(folder)
    torch.manual_seed(3)
    config = BertConfig(
        vocab_size=20,
        hidden_size=8,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=16,
        max_position_embeddings=64,
    )
    config.dupmae = {}
    BertForMaskedLM(config).save_pretrained(folder)
    return folder


@pytest.fixture
def corpus(tmp_path):
    return write(tmp_path / "corpus.jsonl", DOCUMENTS)


def write(path, documents):
    path.write_text("".join(json.dumps(document) + "\n" for document in documents))
    return path


@pytest.fixture
def dupmae(capsys, model):
    """Run `dupmae encode …` with the small model; return the exit code, stdout and stderr."""

    def encode(*words, model=model, device="cpu"):
        return run(capsys, "encode", *words, "--model", model, "--device", device)

    return encode


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_a_corpus_becomes_a_folder_and_a_line_says_so(dupmae, corpus, tmp_path):
    output = tmp_path / "out"
    code, out, err = dupmae(corpus, "--output", output, "--part-size", 10)
    assert code == 0
    assert out == ""
    assert err.count("\n") == 1
    assert f"{output}: 30 texts encoded in " in err
    assert "a second; 0 cut at " in err
    encoded = EncodedCorpus.open(output)
    assert encoded.representations().ids == [d["_id"] for d in DOCUMENTS]
    assert Path(encoded.info.name).name == "tiny"
    assert encoded.vocabulary() == SPECIAL + WORDS


def test_vectors_are_those_of_the_encoder(dupmae, model, corpus, tmp_path):
    import numpy as np

    from dupmae_toolkit.model.encoder import DupMAEEncoder

    dupmae(corpus, "--output", tmp_path / "out", "--precision", "fp32")
    encoder = DupMAEEncoder.from_pretrained(model, device="cpu", precision="fp32")
    expected = encoder.encode_documents([f"{d['title']} {d['text']}" for d in DOCUMENTS])
    read = EncodedCorpus.open(tmp_path / "out").representations()
    np.testing.assert_array_equal(read.dense, expected.dense)
    assert (read.lexical != expected.lexical).nnz == 0
    assert read.lexical.nnz > 0


def test_json_is_one_document_on_stdout(dupmae, corpus, tmp_path):
    output = tmp_path / "out"
    code, out, _ = dupmae(
        corpus, "--output", output, "--json", "--part-size", 20, "--precision", "fp32"
    )
    assert code == 0
    summary = json.loads(out)
    expected = {
        "output": str(output),
        "kind": "documents",
        "source": str(corpus),
        "count": 30,
        "newly_encoded": 30,
        "truncated": 0,
        "skipped": 0,
        "parts": 2,
        "part_size": 20,
        "dense_dtype": "float32",
        "precision": "fp32",
        "bytes": sum(len(data) for data in contents(output).values()),
    }
    assert {key: summary[key] for key in expected} == expected
    assert Path(summary["encoder"]["name"]).name == "tiny"


def test_a_second_call_uses_what_stands_and_says_so(dupmae, corpus, tmp_path):
    dupmae(corpus, "--output", tmp_path / "out")
    before = contents(tmp_path / "out")
    code, out, err = dupmae(corpus, "--output", tmp_path / "out", "--json")
    assert code == 0
    assert "30 texts already encoded, in the same way" in err
    assert json.loads(out)["newly_encoded"] == 0
    assert contents(tmp_path / "out") == before


def test_a_continued_call_says_how_much_stood_there(dupmae, corpus, tmp_path):
    output = tmp_path / "out"
    dupmae(corpus, "--output", output, "--part-size", 10)
    (output / "part-00001.parquet").unlink()
    code, _, err = dupmae(corpus, "--output", output, "--part-size", 10)
    assert code == 0
    assert "10 texts encoded" in err
    assert "(20 of 30 were already encoded)" in err


def test_texts_that_are_cut_are_counted_at_the_limit_asked_for(dupmae, corpus, tmp_path):
    output = tmp_path / "out"
    code, out, err = dupmae(corpus, "--output", output, "--max-length", 10, "--json")
    assert code == 0
    # Title, words, and two special tokens.
    expected = sum(1 + len(d["text"].split()) + 2 > 10 for d in DOCUMENTS)
    assert json.loads(out)["truncated"] == expected > 0
    assert f"{expected} cut at 10 tokens" in err
    assert EncodedCorpus.open(output).info.max_length == 10
    code, _, err = dupmae(corpus, "--output", output, "--max-length", 11)
    assert code == 2
    assert "max_length 10" in err
    assert "max_length 11" in err


def test_a_limit_beyond_the_models_is_lowered_and_said(dupmae, corpus, tmp_path):
    code, _, err = dupmae(corpus, "--output", tmp_path / "out", "--max-length", 1000)
    assert code == 0
    assert "has room for 64 tokens, not for --max-length 1000" in err
    assert EncodedCorpus.open(tmp_path / "out").info.max_length == 64


def test_queries_are_encoded_as_queries(dupmae, tmp_path):
    (tmp_path / "q.tsv").write_text("001\tcat dog\nNA\t" + "tree " * 20 + "\n")
    code, out, err = dupmae(
        tmp_path / "q.tsv", "--queries", "--output", tmp_path / "out", "--max-length", 8, "--json"
    )
    assert code == 0
    assert "2 queries encoded" in err
    encoded = EncodedCorpus.open(tmp_path / "out")
    assert encoded.kind == json.loads(out)["kind"] == "queries"
    assert encoded.representations().ids == ["001", "NA"]
    assert encoded.info.query_max_length == 8
    assert encoded.manifest["truncated"] == 1


def test_zips_and_compressed_files_give_what_the_plain_file_gives(dupmae, corpus, tmp_path):
    (tmp_path / "c.jsonl.gz").write_bytes(gzip.compress(corpus.read_bytes()))
    with zipfile.ZipFile(tmp_path / "beir.zip", "w") as archive:
        archive.write(corpus, "beir/corpus.jsonl")
    folders = []
    for source in (corpus, tmp_path / "c.jsonl.gz", tmp_path / "beir.zip"):
        folders.append(tmp_path / f"out-{source.name}")
        assert dupmae(source, "--output", folders[-1])[0] == 0
    parts = [(folder / "part-00000.parquet").read_bytes() for folder in folders]
    assert parts[0] == parts[1] == parts[2]


def test_half_precision_vectors_are_stored_when_asked_for(dupmae, corpus, tmp_path):
    code, out, _ = dupmae(
        corpus, "--output", tmp_path / "out", "--dense-dtype", "float16", "--json"
    )
    assert code == 0
    assert json.loads(out)["dense_dtype"] == "float16"


def test_invalid_lines_are_left_out_and_counted_only_when_asked_for(dupmae, tmp_path):
    path = tmp_path / "c.jsonl"
    path.write_text('{"_id": "a", "text": "cat"}\n{broken\n{"_id": "b", "text": ""}\n')
    code, _, err = dupmae(path, "--output", tmp_path / "out")
    assert code == 2
    assert "c.jsonl:2: broken JSON" in err
    code, out, err = dupmae(path, "--output", tmp_path / "out", "--skip-invalid", "--json")
    assert code == 0
    assert (
        f"2 lines that are not documents were skipped: {path}:2, {path}:3 (the first: broken JSON"
        in err
    )
    assert (json.loads(out)["skipped"], json.loads(out)["count"]) == (2, 1)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "no documents"),
        (b"\n\n", "no documents"),
        (b'{"_id": "a", "text": "cat"}\n{"_id": ', "c.jsonl:2: broken JSON"),
        (b'{"n": "cat"}\n', "c.jsonl:1: no text"),
        (b'{"_id": "a"}\n', "c.jsonl:1: no text"),
        (b'{"_id": "a", "text": ""}\n', "c.jsonl:1: document a has no text"),
        (b'{"_id": "a", "text": "x"}\n' * 2, "c.jsonl:2: the id 'a' is already on line 1"),
        (b"\x7fELF\x02\x01\x01\x00\x00\xff\xfe", "c.jsonl"),
        (b'["a", "b"]\n', "c.jsonl:1: not a JSON object"),
    ],
)
def test_bad_input_is_one_line_and_nothing_is_written(dupmae, tmp_path, content, message):
    (tmp_path / "c.jsonl").write_bytes(content)
    code, out, err = dupmae(tmp_path / "c.jsonl", "--output", tmp_path / "out", "--json")
    assert code == 2
    assert out == ""
    assert err.startswith("dupmae: ")
    assert err.count("\n") == 1
    assert message in err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["c.jsonl"]


def test_bad_arguments_are_one_line(dupmae, corpus, tmp_path):
    (tmp_path / "file").touch()
    out = ("--output", tmp_path / "out")
    for words, message in (
        ((corpus,), "--output"),
        ((tmp_path / "absent.jsonl", *out), "absent.jsonl"),
        ((corpus, "--output", tmp_path / "file"), "cannot be created"),
        ((corpus, "--output", tmp_path / "file" / "x"), "cannot be created"),
        ((corpus, "--output", "/proc/nowhere"), "/proc/nowhere: cannot be created"),
        ((corpus, *out, "--part-size", 0), "--part-size"),
        ((corpus, *out, "--max-length", 0), "max_length 0"),
        ((corpus, *out, "--max-length", -5), "max_length -5"),
        ((corpus, *out, "--precision", "fp8"), "--precision"),
        ((corpus, *out, "--dense-dtype", "int8"), "--dense-dtype"),
        ((corpus, *out, "--queries", "--skip-invalid"), "--skip-invalid"),
    ):
        code, stdout, err = dupmae(*words)
        assert (code, stdout, err.count("\n")) == (2, "", 1), err
        assert message in err
    assert not (tmp_path / "out").exists()


def test_a_missing_model_or_device_is_one_line(dupmae, corpus, tmp_path):
    code, _, err = dupmae(corpus, "--output", tmp_path / "out", model=tmp_path / "no-model")
    assert (code, err.count("\n")) == (2, 1)
    assert "no-model" in err
    code, _, err = dupmae(corpus, "--output", tmp_path / "out", device="quantum")
    assert (code, err.count("\n")) == (2, 1)
    assert "quantum" in err
    assert not (tmp_path / "out").exists()


def test_the_help_has_examples(capsys):
    code, out, _ = run(capsys, "encode", "--help")
    assert code == 0
    assert "Examples:" in out
    assert "dupmae encode scifact.zip --output encoded/scifact" in out


@pytest.mark.slow
def test_a_killed_command_continues_to_the_same_folder(dupmae, model, tmp_path):
    documents = [{"_id": str(i), "text": " ".join(WORDS[i % 7 :]) + f" {i}"} for i in range(3000)]
    corpus = write(tmp_path / "c.jsonl", documents)
    options = ["--part-size", "100", "--device", "cpu", "--model", str(model)]
    output = tmp_path / "out"
    command = [sys.executable, "-c", "from dupmae_cli.main import main; main()", "encode"]
    with subprocess.Popen(
        [*command, str(corpus), "--output", str(output), *options],
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    ) as process:
        wait_for(lambda: len(list(output.glob("part-*.parquet"))) >= 3, process)
        process.send_signal(signal.SIGKILL)
    stood = len(list(output.glob("part-*.parquet")))
    assert 3 <= stood < 30, "the kill came too late to show anything"
    code, out, _ = dupmae(corpus, "--output", output, "--part-size", 100, "--json")
    assert code == 0
    assert json.loads(out)["newly_encoded"] == 3000 - 100 * stood
    dupmae(corpus, "--output", tmp_path / "undisturbed", "--part-size", 100)
    assert contents(output) == contents(tmp_path / "undisturbed")


def wait_for(condition, process, seconds=120):
    end = time.monotonic() + seconds
    while not condition():
        assert process.poll() is None, "the command ended early"
        assert time.monotonic() < end
        time.sleep(0.002)
