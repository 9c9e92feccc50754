"""`dupmae index`, `info`, `verify`: what they print, what they refuse, what they leave behind."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from dupmae_toolkit.index.manifest import Manifest
from tests.cli_support import run
from tests.index_support import contents, encode
from tests.tiny import save_tiny

pytestmark = [pytest.mark.java, pytest.mark.usefixtures("quick_disk")]
DOCUMENTS = [
    {"_id": f"{n:03d}", "title": f"w{n}", "text": f"w{n % 7} w{n % 11} w{n % 13}"}
    for n in range(40)
]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("model") / "tiny"
    save_tiny(folder)
    return folder


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    path = tmp_path / "corpus.jsonl"
    path.write_text("".join(json.dumps(document) + "\n" for document in DOCUMENTS))
    return path


def test_an_encoded_corpus_becomes_an_index_without_a_model(tmp_path, capsys) -> None:
    encode(tmp_path / "enc")
    index = tmp_path / "index"
    code, out, err = run(capsys, "index", tmp_path / "enc", "--index", index, "--json")
    assert code == 0
    values = json.loads(out)
    assert values["documents"] == 50
    assert values["encoder"]["name"] == "hashing"
    assert "50 documents indexed" in err
    assert run(capsys, "verify", "--index", index)[0] == 0


def test_a_corpus_becomes_an_index(tmp_path, corpus, model, capsys) -> None:
    index = tmp_path / "index"
    words = ("index", corpus, "--index", index, "--model", model, "--faiss", "SQ8")
    code, out, err = run(
        capsys, *words, "--segment-size", 15, "--max-length", 5, "--max-impact", 99
    )
    assert (code, out) == (0, "")
    assert "40 documents indexed" in err
    assert "texts cut at 5 tokens" in err
    manifest = Manifest.load(index)
    assert [segment.count for segment in manifest.segments] == [14, 14, 12]
    assert (manifest.faiss_spec, manifest.max_impact) == ("SQ8", 99)
    assert manifest.encoder.max_length == 5
    assert manifest.source == str(corpus)
    assert sorted(path.name for path in index.iterdir()) == [
        "manifest.json",
        "segments",
        "vocabulary.json",
    ]


def test_info_tells_what_the_index_is(tmp_path, capsys) -> None:
    encode(tmp_path / "enc")
    run(capsys, "index", tmp_path / "enc", "--index", tmp_path / "index")
    code, out, _ = run(capsys, "info", "--index", tmp_path / "index")
    assert code == 0
    for part in ("50", "hashing: 16 dimensions, 512 terms", "FAISS Flat", "000001 (50)", "lucene"):
        assert part in out
    assert "(the scale of the first build)" in out
    code, out, _ = run(capsys, "info", "--index", tmp_path / "index", "--json")
    assert json.loads(out)["segments"] == [
        {
            "name": "000001",
            "documents": 50,
            "deleted": 0,
            "weights": json.loads(out)["segments"][0]["weights"],
            "words": json.loads(out)["segments"][0]["words"],
            "faiss": "Flat",
        }
    ]


def test_verify_names_each_damaged_file_and_fails(tmp_path, capsys) -> None:
    index = tmp_path / "index"
    encode(tmp_path / "enc")
    run(capsys, "index", tmp_path / "enc", "--index", index)
    path = index / "segments" / "000001" / "documents.parquet"
    content = path.read_bytes()
    path.write_bytes(content[:50] + b"x" + content[51:])
    code, out, err = run(capsys, "verify", "--index", index)
    assert code == 1
    assert out.startswith("segments/000001/documents.parquet: was changed or damaged")
    assert err.strip() == f"{index}: 1 problem"
    assert run(capsys, "verify", "--index", index, "--quick")[0] == 0
    code, out, _ = run(capsys, "verify", "--index", index, "--json")
    values = json.loads(out)
    assert (code, values["whole"]) == (1, False)
    assert values["problems"][0]["path"] == "segments/000001/documents.parquet"


@pytest.mark.parametrize("command", ["info", "verify"])
@pytest.mark.parametrize("what", ["missing", "empty", "file"])
def test_what_is_no_index_is_refused_in_one_line(tmp_path, capsys, command, what) -> None:
    place = tmp_path / "place"
    if what == "empty":
        place.mkdir()
    elif what == "file":
        place.write_text("no index")
    code, out, err = run(capsys, command, "--index", place)
    assert (code, out) == (2, "")
    faults = {
        "missing": "no such index",
        "empty": "not an index",
        "file": "is a file; name the folder of an index",
    }
    assert err.startswith(f"dupmae: {place}: {faults[what]}")
    assert err.count("\n") == 1


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "no documents in it"),
        ('{"_id": "a", "text": "x"}\n{broken\n', ":2: "),
        ('{"_id": "x"}\n', ":1: "),
        ('{"_id": "a", "text": "x"}\n{"_id": "a", "text": "y"}\n', "'a'"),
        ('{"_id": "a", "title": "", "text": ""}\n', ":1: "),
        ("\x00\x01\x02\udcff", ""),
    ],
)
def test_a_bad_corpus_leaves_nothing_behind(tmp_path, model, capsys, content, message) -> None:
    path = tmp_path / "bad.jsonl"
    path.write_bytes(content.encode("utf-8", "surrogateescape"))
    index = tmp_path / "index"
    code, out, err = run(capsys, "index", path, "--index", index, "--model", model)
    assert (code, out) == (2, "")
    assert err.count("\n") == 1
    assert str(path) in err
    assert message in err
    assert not index.exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--faiss", "Flatt"], "FAISS spec 'Flatt'"),
        (["--max-impact", "0"], "largest impact of 0"),
        (["--segment-size", "0"], "segment size 0"),
        (["--precision", "fp8"], "'fp8'"),
        (["--model", "/nowhere/at/all"], "/nowhere/at/all"),
        (["--max-length", "x"], "max-length"),
    ],
)
def test_bad_options_leave_nothing_behind(tmp_path, corpus, model, capsys, words, message) -> None:
    index = tmp_path / "index"
    model_words = [] if "--model" in words else ["--model", model]
    code, _, err = run(capsys, "index", corpus, "--index", index, *model_words, *words)
    assert code == 2
    assert message in err
    assert err.count("\n") == 1
    assert not index.exists()


def test_options_that_mean_nothing_for_an_encoded_corpus_are_refused(tmp_path, capsys) -> None:
    encode(tmp_path / "enc")
    words = ("index", tmp_path / "enc", "--index", tmp_path / "index", "--max-length", 5)
    code, _, err = run(capsys, *words)
    assert code == 2
    assert "is encoded already" in err


def test_an_existing_index_is_refused_before_anything_is_loaded(tmp_path, capsys) -> None:
    encode(tmp_path / "enc")
    index = tmp_path / "index"
    run(capsys, "index", tmp_path / "enc", "--index", index)
    before = contents(index, lucene=True)
    code, _, err = run(capsys, "index", "nowhere.jsonl", "--index", index)
    assert code == 2
    assert "already holds an index of 50 documents; pass --overwrite" in err
    assert contents(index, lucene=True) == before
    words = ("index", tmp_path / "enc", "--index", index, "--overwrite", "--segment-size", 20)
    assert run(capsys, *words)[0] == 0
    assert len(Manifest.load(index).segments) == 3


def test_an_encoded_corpus_of_another_model_is_refused(tmp_path, model, capsys) -> None:
    encode(tmp_path / "enc")
    words = ("index", tmp_path / "enc", "--index", tmp_path / "index", "--model", model)
    code, _, err = run(capsys, *words)
    assert code == 2
    assert "'hashing'" in err
    assert not (tmp_path / "index").exists()


@pytest.mark.parametrize("command", ["index", "info", "verify", "doctor"])
def test_every_command_shows_examples(capsys, command) -> None:
    code, out, _ = run(capsys, command, "--help")
    assert code == 0
    assert "Examples:" in out
    assert f"dupmae {command}" in out


@pytest.mark.slow
def test_the_command_killed_and_called_again_gives_the_same_index(tmp_path, corpus, model) -> None:
    program = [sys.executable, "-c", "from dupmae_cli.main import main; main()"]

    def command(index: Path) -> list[str]:
        arguments = ["index", str(corpus), "--index", str(index), "--model", str(model)]
        return [*program, *arguments, "--segment-size", "15"]

    began = time.perf_counter()
    subprocess.run(command(tmp_path / "whole"), check=True, capture_output=True)
    seconds = time.perf_counter() - began
    index = tmp_path / "index"
    for share in (0.8,):
        process = subprocess.Popen(command(index), stderr=subprocess.DEVNULL)
        time.sleep(share * seconds)
        process.send_signal(signal.SIGKILL)
        process.wait()
    if not (index / "manifest.json").exists() or (index / ".building").exists():
        subprocess.run(command(index), check=True, capture_output=True)
    assert contents(index) == contents(tmp_path / "whole")
