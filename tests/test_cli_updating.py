"""`dupmae add`, `delete`, `compact`, as they are run: what they say, refuse, and leave behind."""

from __future__ import annotations

import io
import json
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from dupmae_cli.main import main
from dupmae_toolkit.collection.opening import open_corpus
from dupmae_toolkit.encoding import stream
from dupmae_toolkit.encoding.stream import encode_corpus
from dupmae_toolkit.index import rows, updates
from dupmae_toolkit.index.health.verify import verify_index
from dupmae_toolkit.index.manifest import Manifest
from dupmae_toolkit.model import loading
from dupmae_toolkit.model.lean.encoder import LeanEncoder
from dupmae_toolkit.model.text_encoder import TextEncoder
from dupmae_toolkit.records import Document
from tests.cli_support import run
from tests.index_support import contents
from tests.support import HashingEncoder
from tests.tiny import save_tiny, tiny_tokenizer

pytestmark = [pytest.mark.java, pytest.mark.usefixtures("quick_disk")]


def write(path: Path, texts: dict[str, str]) -> Path:
    lines = [json.dumps({"_id": name, "text": text}) + "\n" for name, text in texts.items()]
    path.write_text("".join(lines))
    return path


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("model") / "tiny"
    save_tiny(folder)
    return folder


@pytest.fixture(scope="module")
def words() -> list[str]:
    """Words that the tiny encoder knows."""
    known = sorted(word for word in tiny_tokenizer().get_vocab() if word.isalnum())
    return known[:30]


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory, model: Path, words: list[str]) -> Path:
    folder = tmp_path_factory.mktemp("built")
    texts = {f"d{n}": f"{words[n]} {words[n + 1]} {words[n + 2]}" for n in range(12)}
    corpus = write(folder / "corpus.jsonl", texts)
    with pytest.raises(SystemExit) as raised:
        main(["index", str(corpus), "--index", str(folder / "index"), "--model", str(model)])
    assert not raised.value.code
    return folder / "index"


@pytest.fixture
def index(tmp_path: Path, built: Path) -> Path:
    shutil.copytree(built, tmp_path / "index")
    return tmp_path / "index"


def found(capsys: pytest.CaptureFixture[str], index: Path, question: str) -> list[str]:
    """The ids of all documents, best first."""
    code, out, _ = run(capsys, "search", "--index", index, "-k", 50, "--json", question)
    assert code == 0
    return [hit["id"] for hit in json.loads(out)["hits"]]


def refused(capsys: pytest.CaptureFixture[str], index: Path, *command: object) -> str:
    """What a command says that must change nothing: one line, exit code 2."""
    before = contents(index, lucene=True), (index / "manifest.json").read_bytes()
    code, out, err = run(capsys, *command)
    assert (code, out) == (2, ""), err
    assert err.count("\n") == 1
    assert (contents(index, lucene=True), (index / "manifest.json").read_bytes()) == before
    return err


def test_documents_are_added_replaced_deleted_and_found(tmp_path, index, words, capsys) -> None:
    question = f"{words[20]} {words[21]}"
    assert len(found(capsys, index, question)) == 12
    more = write(tmp_path / "more.jsonl", {"new": question, "newer": words[22]})
    code, out, err = run(capsys, "add", more, "--index", index)
    assert (code, out) == (0, "")
    assert err.startswith(
        f"{index}: 2 added; 14 documents, change 1; added: mean error of a weight "
    )
    # The documents of the build are those that the scale comes from, and there is headroom.
    error = Manifest.load(index).segments[-1].error
    assert err.endswith(f", 0 of {error.weights:,} weights clipped\n")
    assert set(found(capsys, index, question)) == {f"d{n}" for n in range(12)} | {"new", "newer"}

    changed = write(tmp_path / "changed.jsonl", {"new": words[3], "d0": question})
    message = refused(capsys, index, "add", changed, "--index", index)
    assert f"{changed}:1: the id 'new' is in the index already; pass --replace" in message
    code, out, _ = run(capsys, "add", changed, "--index", index, "--replace", "--json")
    assert code == 0
    done = json.loads(out)
    assert (done["index"], done["added"], done["replaced"]) == (str(index), 2, 2)
    assert (done["documents"], done["generation"]) == (14, Manifest.load(index).generation)
    assert done["impacts"]["error"].keys() == error.to_dict().keys()
    hits = json.loads(run(capsys, "search", "--index", index, "--json", question)[1])["hits"]
    assert {hit["id"]: hit["text"] for hit in hits}["d0"] == question

    code, out, err = run(capsys, "delete", "new", "d3", "new", "--index", index)
    assert (code, out) == (0, "")
    assert err.startswith(f"{index}: 2 deleted; 12 documents, ")
    assert not {"new", "d3"} & set(found(capsys, index, question))

    before = found(capsys, index, question)
    code, out, err = run(capsys, "compact", "--index", index)
    assert (code, out) == (0, "")
    assert "12 rewritten in merging; 12 documents" in err
    assert found(capsys, index, question) == before
    generation = Manifest.load(index).generation
    code, out, _ = run(capsys, "compact", "--index", index, "--json")
    assert json.loads(out)["merged"] == 0
    assert json.loads(out)["generation"] == generation
    assert "nothing to do; 12 documents" in run(capsys, "compact", "--index", index)[2]
    assert verify_index(index) == []
    assert not (index / ".adding").exists()


def test_an_encoded_folder_is_added_without_a_model(tmp_path, capsys) -> None:
    encoder = HashingEncoder()
    for name, number in (("a", 3), ("b", 2)):
        texts = [Document(f"{name}{n}", "", f"w{n} of {name}") for n in range(number)]
        encode_corpus(texts, encoder, tmp_path / name)
    index = tmp_path / "index"
    assert run(capsys, "index", tmp_path / "a", "--index", index)[0] == 0
    assert "leave out --model" in refused(
        capsys, index, "add", tmp_path / "b", "--index", index, "--model", "x"
    )
    code, out, _ = run(capsys, "add", tmp_path / "b", "--index", index, "--json")
    assert (code, json.loads(out)["added"], json.loads(out)["documents"]) == (0, 2, 5)
    assert "the id 'b0' is in the index" in refused(
        capsys, index, "add", tmp_path / "b", "--index", index
    )
    other = HashingEncoder(name="another")
    encode_corpus([Document("x", "", "y")], other, tmp_path / "other")
    message = refused(capsys, index, "add", tmp_path / "other", "--index", index)
    assert "'hashing'" in message
    assert "'another'" in message


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "no documents in it"),
        (
            '{"_id": "x", "text": "a"}\n{"_id": "x", "text": "b"}\n',
            ":2: the id 'x' is already on line 1",
        ),
        ('{"_id": "x", "text": "a"}\n{"_id": "d7", "text": "b"}\n', ":2: the id 'd7' is in the"),
        ('{"_id": "x", "text": "a"}\n{broken\n', ":2: "),
        ('{"_id": "x ", "text": "a"}\n', ":1: "),
    ],
)
def test_a_corpus_that_cannot_be_added_changes_nothing(
    tmp_path, index, capsys, content, message
) -> None:
    path = tmp_path / "bad.jsonl"
    path.write_text(content)
    said = refused(capsys, index, "add", path, "--index", index)
    assert str(path) in said
    assert message in said
    assert not (index / ".adding").exists()


@pytest.mark.parametrize("command", ["add", "index", "encode"])
@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "no such file"),
        ("", ": no documents in it"),
        ('{"_id": "x", "text": "a"}\n{broken\n', ":2: broken JSON"),
        ('{"_id": "x"}\n', ":1: no text (one of text, contents"),
        ('{"_id": "x ", "text": "a"}\n', ":1: "),
    ],
)
def test_a_broken_corpus_is_told_before_an_encoder_is_loaded(
    tmp_path, index, model, capsys, monkeypatch, command, content, message
) -> None:
    def load(*_: object, **__: object) -> None:
        raise AssertionError("an encoder is loaded")

    monkeypatch.setattr(loading, "load_encoder", load)
    path = tmp_path / "bad.jsonl"
    if content is not None:
        path.write_text(content)
    place = index if command == "add" else tmp_path / "new"
    option = "--output" if command == "encode" else "--index"
    code, out, err = run(capsys, command, path, option, place, "--model", model)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert str(path) in err
    assert message in err
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("encoded", [False, True], ids=["before-encoding", "after-encoding"])
@pytest.mark.parametrize("command", ["add", "index", "encode"])
def test_ctrl_c_says_what_stands_and_the_same_command_goes_on(
    tmp_path, index, model, words, capsys, monkeypatch, command, encoded
) -> None:
    more = write(tmp_path / "more.jsonl", {"new": words[0]})
    new = tmp_path / "new"
    adding = updates.adding_folder(index, open_corpus(more))
    where = {"add": adding, "index": new / ".building", "encode": new}[command]
    place = index if command == "add" else new
    option = "--output" if command == "encode" else "--index"
    typed = (command, more, option, place, "--model", model)
    # What another addition keeps is not kept for this one.
    other = index / ".adding" / "0123456789ab" / "encoded" / "part-00000.parquet"
    other.parent.mkdir(parents=True)
    other.write_text("of another addition")

    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    after = {"add": (rows, "quantize"), "index": (rows, "quantize")}
    before = [(encoder, "encode_documents") for encoder in (TextEncoder, LeanEncoder)]
    with monkeypatch.context() as patch:
        for step in [after.get(command, (stream, "_complete"))] if encoded else before:
            patch.setattr(*step, interrupt)
        code, out, err = run(capsys, *typed)
    assert (code, out, err.strip().count("\n")) == (130, "", 0)
    assert err.strip().startswith("dupmae: interrupted; ")
    assert len([*where.rglob("part-*.parquet")]) == encoded
    kept = f"finished work is kept in {where}; run the same command to continue\n"
    nothing = "there is no finished work to keep; run the same command to start over\n"
    assert err.endswith(kept if encoded else nothing)
    if command == "add":
        assert f"{index} is unchanged; " in err
        info = run(capsys, "info", "--index", index)[1]
        assert ".adding: of an addition, running or interrupted; the same `dupmae add`" in info
    assert run(capsys, *typed)[0] == 0
    if command == "add":
        assert len(found(capsys, index, words[0])) == 13


def test_ctrl_c_after_the_step_says_that_the_index_was_changed(
    tmp_path, index, words, model, capsys, monkeypatch
) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    more = write(tmp_path / "more.jsonl", {"new": words[0]})
    monkeypatch.setattr(updates, "_merge", interrupt)
    code, _, err = run(capsys, "add", more, "--index", index)
    assert code == 130
    assert f"interrupted; {index} was changed, by this command or another: `dupmae info`" in err
    # The next command knows nothing of it.
    monkeypatch.setattr(Manifest, "load", interrupt)
    code, _, err = run(capsys, "info", "--index", index)
    assert (code, err.strip()) == (130, "dupmae: interrupted")


def test_what_an_index_was_built_of_is_told_apart_from_what_came_later(
    tmp_path, index, words, capsys
) -> None:
    built_of = Manifest.load(index).source
    assert f"source       {built_of}\n" in run(capsys, "info", "--index", index)[1]
    run(capsys, "add", write(tmp_path / "more.jsonl", {"new": words[0]}), "--index", index)
    told = run(capsys, "info", "--index", index)[1]
    assert f"source       {built_of}, when it was built; 1 change since\n" in told
    run(capsys, "delete", "new", "--index", index)
    assert "when it was built; 2 changes since\n" in run(capsys, "info", "--index", index)[1]


def test_ids_that_look_like_options_are_deleted_as_the_message_says(
    tmp_path, index, words, capsys
) -> None:
    more = write(tmp_path / "more.jsonl", {"-x": words[0], "--y": words[1]})
    assert run(capsys, "add", more, "--index", index)[0] == 0
    said = refused(capsys, index, "delete", "-x", "--index", index)
    assert "Ids that begin with a dash go after -- at the end, or into a --file." in said
    code, _, err = run(capsys, "delete", "--index", index, "--", "-x", "--y")
    assert (code, "2 deleted" in err) == (0, True)
    said = refused(capsys, index, "search", "--index", index, "-flag of a compiler")
    assert "An argument that begins with a dash goes after -- at the end." in said


def test_lines_that_were_left_out_are_counted(tmp_path, index, words, capsys) -> None:
    path = tmp_path / "half.jsonl"
    path.write_text(f'{{"_id": "x", "text": "{words[0]}"}}\n{{broken\n')
    code, _, err = run(capsys, "add", path, "--index", index, "--skip-invalid")
    assert code == 0
    assert f"1 line that is not a document was skipped: {path}:2 (broken JSON" in err
    assert "1 added; 13 documents" in err


def test_another_model_and_places_without_an_index_are_refused(
    tmp_path, index, words, capsys
) -> None:
    more = write(tmp_path / "more.jsonl", {"new": words[0]})
    save_tiny(tmp_path / "other", seed=5)
    capsys.readouterr()
    said = refused(capsys, index, "add", more, "--index", index, "--model", tmp_path / "other")
    assert "they differ in weights_sha256" in said
    (tmp_path / "empty").mkdir()
    for name, fault in (("nowhere", "no such index"), ("empty", "not an index")):
        place = tmp_path / name
        for command in (["add", more], ["delete", "d1"], ["compact"]):
            code, out, err = run(capsys, *command, "--index", place)
            assert (code, out) == (2, "")
            assert err.startswith(f"dupmae: {place}: {fault}")
            assert err.count("\n") == 1
    assert not (tmp_path / "nowhere").exists()


def test_unknown_ids_are_refused_or_passed_over(index, capsys) -> None:
    said = refused(capsys, index, "delete", "d1", "nobody", "--index", index)
    assert f"{index}: has no document 'nobody'; nothing was deleted" in said
    assert "give ids" in refused(capsys, index, "delete", "--index", index)
    code, out, _ = run(
        capsys, "delete", "d1", "nobody", "--index", index, "--ignore-missing", "--json"
    )
    done = json.loads(out)
    assert (code, done["deleted"], done["missing"], done["documents"]) == (0, 1, 1, 11)
    words = ("delete", "d1", "d2", "--index", index, "--ignore-missing")
    assert f"{index}: 1 deleted, 1 not in the index; 10 documents" in run(capsys, *words)[2]
    assert f"{index}: 2 not in the index; 10 documents" in run(capsys, *words)[2]
    assert "no document 'd1'" in refused(capsys, index, "delete", "d1", "--index", index)


@pytest.mark.parametrize(
    "data",
    [
        b"d1\nd2\n",
        b"d1\r\n\r\nd2",
        b"\xef\xbb\xbfd1\n d2 \n",
        "d1\r\nd2\r\n".encode("utf-16"),
        "\ufeffd1\nd2".encode("utf-16-be"),
    ],
)
@pytest.mark.parametrize("stdin", [False, True])
def test_ids_come_from_a_file_in_whatever_way_it_was_written(
    tmp_path, index, capsys, monkeypatch, data, stdin
) -> None:
    path = tmp_path / "gone.txt"
    path.write_bytes(data)
    if stdin:
        monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(data)))
    file = "-" if stdin else path
    code, out, _ = run(capsys, "delete", "d5", "--file", file, "--index", index, "--json")
    assert (code, json.loads(out)["deleted"]) == (0, 3)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (None, "cannot be read"),
        (b"", "no ids in it"),
        (b"\n \r\n", "no ids in it"),
        (b"d1\n\xff\n", "not UTF-8"),
        (b"\xff\xfed\x001", "not UTF-16"),
        (b"d1\nd2\td3\n", ":2: a control character"),
        ("d1\nd2\n".encode("utf-16-le"), ":1: a control character"),
    ],
)
def test_files_that_hold_no_ids_are_refused(tmp_path, index, capsys, data, message) -> None:
    path = tmp_path / "gone.txt"
    if data is not None:
        path.write_bytes(data)
    said = refused(capsys, index, "delete", "--file", path, "--index", index)
    assert said.startswith(f"dupmae: {path}")
    assert message in said
    said = refused(capsys, index, "delete", "--file", tmp_path, "--index", index)
    assert said == f"dupmae: {tmp_path}: is a folder; name a file of ids\n"


@pytest.mark.parametrize("command", ["add", "delete", "compact"])
def test_an_index_that_another_process_changes_is_named_with_the_process(
    tmp_path, index, words, capsys, command
) -> None:
    more = write(tmp_path / "more.jsonl", {"new": words[0]})
    script = (
        "import sys; from pathlib import Path; from dupmae_toolkit.locks import exclusive\n"
        "with exclusive(Path(sys.argv[1])): print('held', flush=True); sys.stdin.read()"
    )
    holder = subprocess.Popen(
        [sys.executable, "-c", script, index], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    try:
        assert holder.stdout.readline() == b"held\n"
        own = {"add": [more], "delete": ["d1"], "compact": []}[command]
        said = refused(capsys, index, command, *own, "--index", index, "--wait", 0)
    finally:
        holder.communicate()
    assert f"{index}: another process is writing there" in said
    if sys.platform == "linux":
        assert f"({holder.pid}: " in said


@pytest.mark.parametrize("command", ["add", "delete", "compact"])
def test_every_command_shows_examples(capsys, command) -> None:
    code, out, _ = run(capsys, command, "--help")
    assert code == 0
    assert "Examples:" in out
    assert f"dupmae {command}" in out
