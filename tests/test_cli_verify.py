"""`dupmae verify --repair`: what it prints, how it ends, when it loads an encoder."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli_support import run
from tests.index_support import encode
from tests.tiny import save_tiny

pytestmark = [pytest.mark.java, pytest.mark.usefixtures("quick_disk")]


@pytest.fixture
def index(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Path:
    """Of an encoder that is nowhere to be had."""
    encode(tmp_path / "enc", count=20)
    assert run(capsys, "index", tmp_path / "enc", "--index", tmp_path / "index")[0] == 0
    return tmp_path / "index"


def test_damage_is_named_with_the_way_out_and_repaired(index: Path, capsys) -> None:
    segment = index / "segments/000001"
    (segment / "faiss/docid").unlink()
    (segment / "lucene/write.lock").touch()
    code, out, err = run(capsys, "verify", "--index", index)
    assert code == 1
    assert out.splitlines() == [
        "segments/000001/faiss/docid: is missing; run `dupmae verify --repair`",
        "segments/000001/lucene/write.lock: is not in the manifest; it was put there later: delete "
        "it, or run `dupmae verify --repair`",
    ]
    code, out, err = run(capsys, "verify", "--index", index, "--repair")
    assert code == 0
    assert out.splitlines() == [
        "found    segments/000001/faiss/docid: is missing",
        "found    segments/000001/lucene/write.lock: is not in the manifest",
        "removed  segments/000001/lucene/write.lock",
        "rebuilt  segments/000001/faiss/docid: rebuilt from documents.parquet, as "
        "segments/000002/faiss/docid",
    ]
    assert err == f"{index}: 2 problems found; the index is intact now\n"
    assert run(capsys, "verify", "--index", index, "--repair") == (
        0,
        "",
        f"{index}: no damage found\n",
    )
    assert run(capsys, "verify", "--index", index)[0] == 0


def test_what_is_left_is_told_and_ends_with_1(index: Path, capsys) -> None:
    segment = index / "segments/000001"
    for name in ("faiss/index", "forward/impacts-data.npy"):
        (segment / name).write_bytes(b"")
    code, out, err = run(capsys, "verify", "--index", index, "--repair", "--json")
    values = json.loads(out)
    assert (code, values["whole"]) == (1, False)
    assert [each["path"] for each in values["found"]] == [
        "segments/000001/faiss/index",
        "segments/000001/forward/impacts-data.npy",
    ]
    (rebuilt,) = values["rebuilt"]
    assert rebuilt == {
        "path": "segments/000001/forward/impacts",
        "into": "segments/000002/forward/impacts",
        "source": "the postings in lucene",
        "note": "",
    }
    (left,) = values["remaining"]
    assert left["path"] == "segments/000002/faiss/index"
    assert "its encoder 'hashing' could rebuild it, but cannot be used" in left["message"]
    assert err == f"{index}: 2 problems found, 1 problem left\n"
    code, out, _ = run(capsys, "verify", "--index", index, "--repair")
    assert code == 1
    assert out.splitlines()[-1].startswith("left     segments/000002/faiss/index: is lost: ")


def test_vectors_are_encoded_again_by_the_encoder_that_the_index_names(tmp_path, capsys) -> None:
    save_tiny(tmp_path / "tiny")
    corpus, index = tmp_path / "corpus.jsonl", tmp_path / "index"
    documents = [{"_id": f"{n}", "text": f"w{n % 7} w{n % 11} w{n % 13}"} for n in range(12)]
    corpus.write_text("".join(json.dumps(document) + "\n" for document in documents))
    words = ("index", corpus, "--index", index, "--model", tmp_path / "tiny")
    assert run(capsys, *words)[0] == 0
    (index / "segments/000001/faiss/index").unlink()
    # The folder has moved since.
    (tmp_path / "tiny").rename(tmp_path / "moved")
    code, out, _ = run(capsys, "verify", "--index", index, "--repair")
    assert code == 1
    assert f"{tmp_path / 'tiny'}: no such folder here" in out
    words = ("verify", "--index", index, "--repair", "--model", tmp_path / "moved")
    code, out, _ = run(capsys, *words)
    assert code == 0
    assert "rebuilt from the texts, encoded again" in out
    assert run(capsys, "verify", "--index", index)[0] == 0


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--repair", "--quick"), "leave out --quick"),
        (("--model", "builtin"), "for --repair"),
        (("--repair", "--wait", "soon"), "--wait"),
    ],
)
def test_options_that_make_no_sense_are_refused(index: Path, capsys, words, message) -> None:
    code, out, err = run(capsys, "verify", "--index", index, *words)
    assert (code, out) == (2, "")
    assert message in err


def test_what_is_no_index_is_refused(tmp_path: Path, capsys) -> None:
    code, _, err = run(capsys, "verify", "--index", tmp_path / "nothing", "--repair")
    assert code == 2
    assert err.count("\n") == 1
    (tmp_path / "damaged/segments").mkdir(parents=True)
    code, out, _ = run(capsys, "verify", "--index", tmp_path / "damaged", "--repair")
    assert code == 1
    assert "left     manifest.json" in out


@pytest.mark.slow
def test_a_repair_that_needs_no_encoder_loads_no_torch(index: Path) -> None:
    (index / "segments/000001/faiss/docid").unlink()
    code = (
        "import sys; from dupmae_cli.main import _run; "
        f"assert _run(['verify', '--repair', '--index', {str(index)!r}], False) == 0; "
        "assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)


@pytest.mark.parametrize("content", [None, "", "{"], ids=["missing", "empty", "cut"])
def test_an_index_whose_manifest_is_lost_is_built_again_as_the_messages_say(
    index: Path, tmp_path: Path, capsys, content: str | None
) -> None:
    manifest = index / "manifest.json"
    if content is None:
        manifest.unlink()
    else:
        manifest.write_text(content)
    advice = "restore it from a copy, or rebuild the index in its place (--overwrite, "
    for words in (["verify"], ["verify", "--repair"], ["search", "w1"], ["info"], ["delete", "1"]):
        code, out, err = run(capsys, *words, "--index", index)
        said = [line for line in (out + err).splitlines() if advice in line]
        assert len(said) == 1, (words, out, err)
        assert said[0].count("--overwrite") == said[0].count("from a copy") == 1
        assert code == (1 if words[0] == "verify" else 2)
    encoded = tmp_path / "enc"
    code, _, err = run(capsys, "index", encoded, "--index", index)
    assert (code, err.count("\n"), "--overwrite" in err) == (2, 1, True)
    assert run(capsys, "index", encoded, "--index", index, "--overwrite")[0] == 0
    assert run(capsys, "verify", "--index", index)[0] == 0
