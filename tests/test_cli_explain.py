"""`dupmae explain`: what it prints, as tables and as JSON, and what it refuses."""

from __future__ import annotations

import io
import json
import os

import pytest

from dupmae_toolkit import HybridIndex
from dupmae_toolkit.errors import InputError
from tests.cli_support import run
from tests.support import HashingEncoder

pytestmark = [pytest.mark.java, pytest.mark.usefixtures("quick_disk")]

ENCODER = HashingEncoder(size=256, dim=16)
NASTY = "Evil \x1b[31m date\x07 \u202eetad\u202c [red]date[/red] \x9b2J da\u0301te \U0001f600"
DOCUMENTS = [
    {"id": "dates", "title": "Dates [bold]", "text": "Parse a date from a string of text."},
    {"id": "-5", "text": "Sort a list of numbers, " + "and more words, " * 60 + "then a date."},
    {"id": "[red]", "title": "\x1b]0;x\x07", "text": NASTY},
] + [{"id": f"x{i}", "text": f"Filler text number {i} about nothing"} for i in range(30)]


@pytest.fixture(scope="module")
def index(tmp_path_factory):
    path = tmp_path_factory.mktemp("explain") / "index"
    HybridIndex.build(path, DOCUMENTS, ENCODER).close()
    return path


@pytest.fixture
def dupmae(capsys, monkeypatch, index):
    """Run `dupmae explain` on the index; gives the exit code, stdout and stderr."""

    def load(name, info, **settings):
        if name not in ("hashing", "other"):
            raise InputError(f"{name}: no such model")
        return HashingEncoder(size=256, dim=16, name=name)

    monkeypatch.setattr("dupmae_toolkit.search.hybrid_index.load_encoder", load)
    return lambda *words, index=index: run(capsys, "explain", "--index", index, *words)


def test_a_document_is_explained_in_tables(dupmae):
    code, out, err = dupmae("parse a date", "dates")
    assert (code, err) == (0, "")
    lines = [line.strip() for line in out.splitlines()]
    assert lines[0] == "dates  Dates [bold]"
    assert lines[1].startswith("score ")
    assert lines[1].endswith(", rank 1")
    assert [line.split()[0] for line in lines[2:6]] == ["part", "dense", "lexical", "bm25"]
    pars = next(line.split() for line in lines if line.startswith("pars "))
    assert pars[1] == "word"
    assert pars[3] == "×"
    assert "Parse a date from a string of text." in lines


def test_json_sums_to_the_score_and_is_alone_on_stdout(dupmae, index):
    code, out, err = dupmae("parse a date", "dates", "-k", 3, "--json")
    assert (code, err) == (0, "")
    answer = json.loads(out)
    assert answer["query"] == "parse a date"
    (hit,) = answer["hits"]
    shares = hit["dense_share"] + sum(term["share"] for term in hit["terms"])
    assert abs(shares - hit["score"]) <= 1e-6
    with HybridIndex.open(index, ENCODER) as opened:
        found = opened.search("parse a date", k=1)[0]
        assert hit == opened.explain("parse a date", "dates").to_dict()
    assert (hit["id"], hit["score"]) == (found.id, pytest.approx(found.score))
    assert hit["ranks"] == {"dense": 1, "lexical": 1, "bm25": 1, "fused": 1}
    for term in hit["terms"]:
        weight = answer_weight(answer, term)
        own = hit["lists"]["bm25" if term["kind"] == "word" else "lexical"]
        share = weight * term["query_weight"] * term["impact"] / own["scale"]
        assert term["share"] == pytest.approx(share)
    span = hit["snippet"]["highlights"][0]
    assert hit["snippet"]["text"][span[0] : span[1]] == "Parse"


def answer_weight(answer, term) -> float:
    place = answer["parts"].index("bm25" if term["kind"] == "word" else "lexical")
    return answer["fusion"]["weights"][place]


def test_without_ids_the_first_hits_are_explained(dupmae, index):
    found = json.loads(dupmae("parse a date", "-k", 4, "--json")[1])["hits"]
    with HybridIndex.open(index, ENCODER) as opened:
        assert [hit["id"] for hit in found] == [h.id for h in opened.search("parse a date", k=4)]
    assert len(json.loads(dupmae("parse a date", "--json")[1])["hits"]) == 10
    code, out, err = dupmae("unheardofword", "--mode", "bm25")
    assert (code, out, err) == (0, "", "no document matches\n")


@pytest.mark.parametrize(
    "words",
    [
        ("--mode", "dense"),
        ("--mode", "lexical"),
        ("--mode", "bm25"),
        ("--plain",),
        ("--idf-power", 0),
        ("--weights", "70,1.5,1.5"),
        ("--fusion", "linear", "--norm", "none"),
    ],
)
def test_every_score_that_is_a_sum(dupmae, words):
    code, out, _ = dupmae("then a date", *words, "--json", "--", "dates", "-5")
    assert code == 0
    hits = json.loads(out)["hits"]
    assert [hit["id"] for hit in hits] == ["dates", "-5"]
    for hit in hits:
        assert hit["additive"]
        shares = hit["dense_share"] + sum(term["share"] for term in hit["terms"])
        assert abs(shares - hit["score"]) <= 1e-6


def test_fusions_of_ranks(dupmae):
    answer = json.loads(dupmae("a date", "dates", "--fusion", "rrf", "--depth", 10, "--json")[1])
    assert answer["depth"] == 10
    (hit,) = answer["hits"]
    assert not hit["additive"]
    added = {part: own["contribution"] for part, own in hit["lists"].items()}
    assert added == {p: pytest.approx(1 / (60 + own["rank"])) for p, own in hit["lists"].items()}
    assert sum(added.values()) == pytest.approx(hit["score"])
    _, out, _ = dupmae("a date", "x7", "--fusion", "rrf", "-k", 1, "--depth", 1)
    assert "no score: it is in none of the lists that were fused" in out


def test_nothing_in_a_document_steers_the_terminal(dupmae, monkeypatch):
    monkeypatch.setenv("FORCE_COLOR", "1")
    _, out, _ = dupmae("etad date", "[red]")
    assert "[red]" in out.splitlines()[0]
    assert "\x1b[1;33mdate\x1b[0m" in out  # a highlight, and our own escapes only
    for sign in ("\x07", "\x9b", "\u202e", "\u202c", "\x1b[31m", "\x1b]"):
        assert sign not in out
    assert "/red]" in out
    assert "da\u0301te" in out


def test_smaller_shares_are_added_up(dupmae):
    _, out, _ = dupmae("parse a date from a string of text", "dates", "--terms", 3)
    whole = json.loads(dupmae("parse a date from a string of text", "dates", "--json")[1])
    terms = whole["hits"][0]["terms"]
    line = next(line for line in out.splitlines() if " more " in line)
    assert line.split()[0] == f"{len(terms) - 3}"
    assert float(line.split()[2]) == pytest.approx(sum(t["share"] for t in terms[3:]), abs=1e-4)
    _, out, _ = dupmae("parse a date from a string of text", "dates", "--terms", 0)
    assert " more " not in out


def test_a_passage_far_into_a_long_text(dupmae):
    _, out, _ = dupmae("then a date", "--", "-5")
    assert "then a date." in out.replace("\n", " ")
    assert "…" in out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("a date", "dates", "nowhere", "x"), "has no document 'nowhere', 'x'; give ids as"),
        (("a date", ""), "has no document ''"),
        ((" ", "dates"), "the question has no text"),
        ((), "Missing argument 'QUESTION'"),
        (("a date", "-5"), "goes after --"),
        (("a date", "-k", 0), "k is 0"),
        (("a date", "--terms", -1), "--terms"),
        (("a date", "--fusion", "rrf", "--exact"), "cannot be certified"),
        (("a date", "--mode", "dense", "--fusion", "rrf"), "mode dense fuses nothing"),
        (("a date", "--weights", "1"), "1 weight for the 3 parts"),
        (("a date", "--plain", "--mode", "bm25"), "the plain score has no BM25"),
        (("a date", "--model", "missing"), "no such model"),
    ],
)
def test_bad_usage_is_one_line_and_exit_2(dupmae, words, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code, out, err = dupmae(*words)
    assert (code, out) == (2, "")
    assert message in err
    assert err.count("\n") == 1
    assert os.listdir(tmp_path) == []


def test_folders_that_are_no_index(dupmae, tmp_path):
    from dupmae_toolkit.index.dense import write_faiss

    write_faiss(tmp_path / "faiss", ["a", "b"], ENCODER.encode_documents(["x", "y"]).dense)
    for folder in (tmp_path / "nothing", tmp_path / "faiss"):
        code, out, err = dupmae("a date", index=folder)
        assert (code, out, err.count("\n")) == (2, "", 1)
        assert str(folder) in err


def test_a_dash_is_the_question_on_standard_input(dupmae, monkeypatch):
    expected = dupmae("parse a date", "dates")
    monkeypatch.setattr("sys.stdin", io.StringIO("\nparse a date\n"))
    assert dupmae("-", "dates") == expected
    monkeypatch.setattr("sys.stdin", io.StringIO("one\ntwo\n"))
    code, out, err = dupmae("-", "dates")
    assert (code, out) == (2, "")
    assert "2 lines on standard input" in err
    monkeypatch.setattr("sys.stdin", io.StringIO(""))
    assert "the question has no text" in dupmae("-")[2]
