"""What commands say to people: ways out, counts in grammar, what does not count."""

from __future__ import annotations

import inspect
import json
import shlex
import shutil
from itertools import pairwise

import pytest

from dupmae_cli.main import COMMANDS
from dupmae_toolkit import Columns, HybridIndex
from dupmae_toolkit.collection.opening import open_corpus
from dupmae_toolkit.errors import counted, type_of
from dupmae_toolkit.evaluation.missed import missed_by
from dupmae_toolkit.records import Ranking, Run
from tests.cli_support import run
from tests.support import HashingEncoder

ENCODER = HashingEncoder(size=256, dim=16)


@pytest.fixture(scope="module")
def index(tmp_path_factory):
    path = tmp_path_factory.mktemp("said") / "index"
    texts = ["blue sea", "blue sky", "blue zebra", "stone", "river"]
    HybridIndex.build(path, {f"d{n}": text for n, text in enumerate(texts)}, ENCODER).close()
    return path


@pytest.fixture
def search(capsys, monkeypatch, index):
    monkeypatch.setattr("dupmae_toolkit.search.hybrid_index.load_encoder", lambda *_, **__: ENCODER)
    return lambda *words: run(capsys, "search", "-i", index, *words)


# Words.


@pytest.mark.parametrize(
    ("number", "name", "text"),
    [
        *((0, "document", "0 documents"), (1, "document", "1 document")),
        *((1, "query", "1 query"), (2, "query", "2 queries"), (12345, "hit", "12,345 hits")),
    ],
)
def test_numbers_of_things_are_grammatical(number, name, text):
    assert counted(number, name) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [(1, "an int"), ([], "a list"), (None, "a NoneType"), (object(), "an object"), ("", "a str")],
)
def test_types_have_their_article(value, text):
    assert type_of(value) == text


# Ways out.


@pytest.mark.parametrize("command", ["info", "search", "verify", "compact", "explain"])
def test_an_index_without_its_option_is_told_how_to_name_it(command, tmp_path, capsys):
    code, out, err = run(capsys, command, tmp_path)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert f"Name the index with --index {tmp_path}. See `dupmae {command} --help`." in err
    assert "--index DIR." in run(capsys, command, tmp_path / "nothing")[2]


def test_other_missing_options_are_told_as_before(capsys):
    err = run(capsys, "eval", "run.trec")[2]
    assert "Missing option '--qrels'. See `dupmae eval --help`." in err


@pytest.mark.parametrize(
    "words", [("search", "-i", "x", "-k", "ten", "q"), ("info", "-i", "x", "--nothing"), ("infoo",)]
)
def test_every_usage_error_is_made_of_sentences(words, capsys):
    code, _, err = run(capsys, *words)
    assert (code, err.count("\n")) == (2, 1)
    before = err.partition(" See `")[0]
    assert before.endswith((".", "?", "!"))
    assert ".." not in before


@pytest.mark.parametrize("command", list(COMMANDS))
@pytest.mark.parametrize("columns", [60, 80, 100])
def test_paragraphs_of_the_help_fill_the_terminal(command, columns, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", str(columns))
    shown = run(capsys, command, "--help")[1].partition("Examples:")[0]
    lines = [line.rstrip() for line in shown.splitlines()]
    for line, following in pairwise(lines):
        if line.strip() and following.strip() and "Usage:" not in line:
            word = following.split()[0]
            assert len(line) + 1 + len(word) > columns - 2, (line, following)


@pytest.mark.java
def test_wrong_weights_name_the_parts(search):
    code, _, err = search("blue", "--weights", "40,1")
    assert code == 2
    assert "2 weights for the 3 parts of the score; give one each for dense, lexical, bm25" in err
    assert "such as 40,1,1.5" in search("blue", "--weights", "a,b")[2]


@pytest.mark.java
@pytest.mark.parametrize(
    ("words", "last"),
    [((), 5), (("--mode", "lexical"), 3), (("--mode", "dense"), 5), (("--mode", "bm25"), 3)],
)
def test_a_page_past_the_end_says_where_the_end_is(search, words, last):
    for offset in (last, last + 7, 10**9):
        code, out, err = search("blue", "--offset", offset, *words)
        assert (code, out) == (0, "")
        assert err.endswith(f": the ranking ends at rank {last}\n")
    assert "the ranking ends" not in search("blue", "--offset", last - 1, *words)[2]


@pytest.mark.java
def test_a_page_past_the_end_of_what_matches(search, tmp_path):
    (tmp_path / "ids").write_text("d0\nd3\n")
    err = search("blue", "--offset", 4, "--among", tmp_path / "ids")[2]
    assert "0 of 2 that match, of 5 documents, hybrid: the ranking ends at rank 2\n" in err


# Measures of what does not meet.


def test_relevant_documents_that_a_run_lacks_are_counted():
    qrels = {"1": {"a": 1, "b": 0, "c": 2}, "2": {"a": 1}, "3": {"x": 0}, "4": {"y": -1}}
    given = Run({"1": Ranking(["z", "c", "b"], None), "2": Ranking([], None)})  # type: ignore[arg-type]
    assert missed_by(qrels, given) == (3, 2, None)
    assert missed_by(qrels, Run({"1": Ranking(["z"], None)})) == (3, 3, ("a", "z"))  # type: ignore[arg-type]
    assert missed_by(qrels, Run({"9": Ranking(["a"], None)})) == (3, 3, None)  # type: ignore[arg-type]
    assert missed_by({}, given) == (0, 0, None)


@pytest.fixture
def judged(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "qrels").write_text("1 0 MED-10 1\n1 0 MED-11 0\n2 0 MED-12 1\n")
    (tmp_path / "other").write_text("1 Q0 10 1 9 t\n2 Q0 12 1 9 t\n")
    (tmp_path / "half").write_text("1 Q0 MED-10 1 9 t\n2 Q0 12 1 9 t\n")
    (tmp_path / "whole").write_text("1 Q0 MED-10 1 9 t\n2 Q0 MED-12 1 9 t\n")


@pytest.mark.parametrize("form", ["table", "csv", "jsonl", "trec"])
def test_ids_of_another_kind_are_told(judged, capsys, form):
    code, _, err = run(capsys, "eval", "--qrels", "qrels", "other", "--format", form)
    assert code == 0
    assert err == (
        "other: holds none of the 2 relevant documents; are the ids of one kind? A relevant "
        "one is 'MED-10', the run's first is '10'\n"
    )
    assert run(capsys, "eval", "--qrels", "qrels", "half", "--format", form)[2] == (
        "half: lacks 1 of 2 relevant documents\n"
    )
    assert run(capsys, "eval", "--qrels", "qrels", "whole", "--format", form)[2] == ""


def test_json_counts_them_too(judged, capsys):
    code, out, err = run(capsys, "eval", "--qrels", "qrels", "half", "whole", "--json")
    assert (code, err) == (0, "")
    runs = json.loads(out)["runs"]
    assert [(each["relevant"], each["relevant_missed"]) for each in runs] == [(2, 1), (2, 0)]


@pytest.mark.parametrize("kind", ["folder", "zip"])
def test_judgements_of_a_data_set_want_a_split(judged, capsys, tmp_path, kind):
    folder = tmp_path / "toy"
    (folder / "qrels").mkdir(parents=True)
    (folder / "corpus.jsonl").write_text('{"_id": "a", "text": "x"}\n')
    (folder / "queries.jsonl").write_text('{"_id": "1", "text": "x"}\n')
    (folder / "qrels" / "test.tsv").write_text("query-id\tcorpus-id\tscore\n1\ta\t1\n")
    if kind == "zip":
        shutil.make_archive(str(tmp_path / "toy"), "zip", tmp_path, "toy")
    name = "toy.zip" if kind == "zip" else "toy"
    code, _, err = run(capsys, "eval", "--qrels", name, "whole")
    assert (code, err.count("\n")) == (2, 1)
    assert f"{name}: a {kind}; " in err
    assert "--split" in err
    assert run(capsys, "eval", "--qrels", name, "--split", "test", "whole")[0] == 0


# Columns, which messages name.


def test_columns_are_at_hand():
    records = [{"sku": "a", "note": "blue", "text": "not this"}]
    (document,) = open_corpus(records, columns=Columns(id="sku", text="note"))
    assert (document.id, document.text) == ("a", "blue")


# Examples in the help.


@pytest.mark.parametrize("command", list(COMMANDS))
def test_long_examples_go_on_as_a_shell_takes_them(command, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    shown = run(capsys, command, "--help")[1].partition("Examples:")[2].partition("╭")[0]
    text = "\n".join(line.rstrip() for line in shown.splitlines())
    text = text.replace("\\\n", " ")
    examples = [shlex.split(each) for each in text.split("\n\n") if each.strip()]
    written = inspect.cleandoc(COMMANDS[command].__doc__ or "").partition("Examples:[/bold]")[2]
    expected = [shlex.split(each) for each in written.split("\n\n") if each.strip()]
    assert examples == expected
