"""A corpus, topics and judgements of one's own, in any formats, in place of BEIR's layout."""

from __future__ import annotations

import csv
import json
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from dupmae_cli import recording
from dupmae_cli.main import app
from dupmae_toolkit.collection.beir import all_topics, real_qrels
from dupmae_toolkit.collection.fields import Columns
from dupmae_toolkit.collection.own import OwnDataset
from dupmae_toolkit.errors import InputError
from dupmae_toolkit.evaluation.beir import BeirOptions, run_beir
from dupmae_toolkit.evaluation.sweep.study_file import load_study
from dupmae_toolkit.evaluation.sweep.sweeping import run_sweep
from tests.cli_support import run
from tests.support import HashingEncoder
from tests.test_beir import make_zip, runs_of, toy

STUDY = """\
encoders: {one: builtin}
scores: {dense: dense, bm25: bm25}
collections:
  all: {path: toy.csv, queries: topics.tsv, qrels: judged.txt}
"""


@pytest.fixture
def own(tmp_path, monkeypatch):
    """The toy data set as a CSV, a TSV and TREC's judgements, and as BEIR's zip, in this folder."""
    monkeypatch.chdir(tmp_path)
    files = toy()
    make_zip(tmp_path / "toy.zip", files)
    with Path("toy.csv").open("w", encoding="utf-8", newline="") as file:
        rows = [json.loads(line) for line in files["toy/corpus.jsonl"].splitlines()]
        writer = csv.writer(file)
        writer.writerow(["id", "title", "text"])
        writer.writerows([row["_id"], row["title"], row["text"]] for row in rows)
    judged = [line.split("\t") for line in files["toy/qrels/test.tsv"].splitlines()[1:]]
    Path("judged.txt").write_text("".join(f"{t} 0 {d} {g}\n" for t, d, g in judged))
    topics = [json.loads(line) for line in files["toy/queries.jsonl"].splitlines()]
    tested = [t for t in topics if t["_id"] in {name for name, _, _ in judged}]
    Path("topics.tsv").write_text("".join(f"{t['_id']}\t{t['text']}\n" for t in tested))
    return SimpleNamespace(topics=tested, judged=judged, rows=rows)


def options(**changes) -> BeirOptions:
    given = {"queries": "topics.tsv", "qrels": "judged.txt", "bm25": True} | changes
    return BeirOptions(**given)


@pytest.mark.java
def test_the_runs_and_figures_are_those_of_the_same_data_in_beirs_layout(own):
    (beir,) = run_beir("toy.zip", HashingEncoder(), "beir", BeirOptions(bm25=True))
    (ours,) = run_beir("toy.csv", HashingEncoder(), "own", options())
    assert len(runs_of(Path("own"))) == 5
    assert runs_of(Path("own")) == runs_of(Path("beir"))
    assert {m: s.means for m, s in ours.scores.items()} == {
        m: s.means for m, s in beir.scores.items()
    }
    assert (ours.dataset, ours.split, ours.documents) == ("toy", "test", 40)
    (again,) = run_beir("toy.csv", HashingEncoder(), "own", options())
    assert again.reused == ["documents", "index", "queries", *ours.scores]


@pytest.mark.java
def test_topics_without_judgements_are_searched_and_said(own):
    with Path("topics.tsv").open("a") as file:
        file.write("extra\tword1 word2\n")
    (found,) = run_beir("toy.csv", HashingEncoder(), "own", options(split="mine", bm25=False))
    assert (found.split, found.scores["dense"].unjudged) == ("mine", 1)
    assert (found.scores["dense"].judged, found.scores["dense"].returned) == (12, 12)
    assert "\nextra Q0 " in Path("own/toy.dense.trec").read_text()


def test_fractions_are_judgements_too(own):
    Path("judged.txt").write_text("q1 0 001 0.5\nq2 0 002 1\n")
    dataset = OwnDataset("toy.csv", "topics.tsv", "judged.txt", "mine")
    assert real_qrels(dataset, "mine") == {"q1": {"001": 0.5}, "q2": {"002": 1}}
    assert [query.id for query in dataset.queries("mine")] == ["q1", "q2"]
    assert [query.id for query in all_topics(dataset, "mine")] == [t["_id"] for t in own.topics]
    with pytest.raises(InputError, match="no split 'test' in it; available: mine"):
        dataset.qrels("test")


@pytest.mark.parametrize(
    ("source", "changes", "fault"),
    [
        ("toy.csv", {"qrels": None}, "queries without qrels; a corpus of your own takes"),
        ("toy.csv", {"queries": None}, "qrels without queries"),
        (
            "toy.csv",
            {"queries": None, "qrels": None},
            "not a BEIR folder .* --queries",
        ),
        (".", {"queries": None, "qrels": None}, "no corpus.jsonl in it; .* --queries"),
        ("toy.csv", {"more_splits": ("dev",)}, "queries and qrels are one split"),
        ("toy.csv", {"queries": "none.tsv"}, "none.tsv: no such file"),
        ("toy.csv", {"qrels": "none.txt"}, "none.txt"),
        ("toy.csv", {"qrels": "toy.csv"}, "toy.csv:1: "),
        ("toy.csv", {"queries": "empty.tsv"}, "empty.tsv: no topics in it"),
        ("none.csv", {}, "none.csv: no such file"),
        (
            "toy.csv",
            {"qrels": "others.txt"},
            "topics.tsv: 1 topic of split 'test' has judgements but no",
        ),
    ],
)
def test_what_does_not_fit_is_refused_before_anything_is_written(own, source, changes, fault):
    Path("empty.tsv").write_text("")
    Path("others.txt").write_text("q1 0 001 1\nother 0 001 1\n")
    with pytest.raises(InputError, match=fault):
        run_beir(source, HashingEncoder(), "own", options(**changes))
    assert not Path("own").exists()


@pytest.mark.java
def test_judged_documents_that_the_corpus_lacks_are_counted(own):
    with Path("judged.txt").open("a") as file:
        file.write("q1 0 nowhere 1\n")
    (found,) = run_beir("toy.csv", HashingEncoder(), "own", options(bm25=False))
    assert found.metrics()["about"]["judged_not_in_corpus"] == 1


@pytest.mark.java
def test_a_beir_corpus_with_topics_of_ones_own(own):
    (found,) = run_beir("toy.zip", HashingEncoder(), "own", options(bm25=False))
    (ours,) = run_beir("toy.csv", HashingEncoder(), "csv", options(bm25=False))
    assert found.scores["hybrid"].means == ours.scores["hybrid"].means


def test_the_card_of_the_command_names_all_three(own):
    command = app_command("beir")
    values = {"dataset": "toy.csv", "queries": "topics.tsv", "qrels": "judged.txt"}
    assert dict(recording.read_by(command, values)) == {
        "DATASET": "toy.csv",
        "--queries": "topics.tsv",
        "--qrels": "judged.txt",
    }


def app_command(name: str):
    import typer

    return typer.main.get_command(app).commands[name]


@pytest.mark.java
def test_fields_with_unusual_names_are_named(own):
    text = Path("toy.csv").read_text().replace("id,title,text", "Sig.,Titel,Volltext", 1)
    Path("odd.csv").write_text(text)
    with pytest.raises(InputError, match="--text"):
        run_beir("odd.csv", HashingEncoder(), "own", options())
    assert not Path("own").exists()
    columns = Columns("Sig.", "Titel", "Volltext")
    run_beir("odd.csv", HashingEncoder(), "own", options(bm25=False, columns=columns))
    run_beir("toy.csv", HashingEncoder(), "usual", options(bm25=False))
    texts = [path.read_text() for path in sorted(Path("own").glob("*.trec"))]
    assert texts == [path.read_text() for path in sorted(Path("usual").glob("*.trec"))]
    entry = "{path: odd.csv, queries: topics.tsv, qrels: judged.txt, id: Sig., text: Volltext}"
    with pytest.raises(InputError, match=r"odd.csv:1: .*--text"):
        sweep(STUDY.replace("toy.csv", "odd.csv"))
    assert not Path("out").exists()
    found = sweep(STUDY[: STUDY.index("  all:")] + f"  all: {entry}\n")
    assert not found.made.failures


def test_fields_are_named_only_where_there_is_a_corpus_of_ones_own(own):
    with pytest.raises(InputError, match="names of fields go with --queries"):
        run_beir("toy.zip", HashingEncoder(), "own", BeirOptions(columns=Columns(id="Sig.")))
    with pytest.raises(InputError, match="id, title and text are for a corpus with queries"):
        sweep(STUDY[: STUDY.index("  all:")] + "  all: {path: toy.zip, id: Sig.}\n")


@pytest.mark.java
def test_a_first_line_that_is_invalid_is_skipped_if_asked(own, capsys, monkeypatch):
    rows = "".join(json.dumps(row) + "\n" for row in own.rows)
    Path("toy.jsonl").write_text('{"_id": "empty", "text": ""}\n' + rows)
    with pytest.raises(InputError, match=r"toy.jsonl:1: .*no text"):
        run_beir("toy.jsonl", HashingEncoder(), "own", options(bm25=False))
    (found,) = run_beir(
        "toy.jsonl", HashingEncoder(), "own", options(bm25=False), skip_invalid=True
    )
    assert (found.documents, found.skipped) == (40, 1)
    stand_in = SimpleNamespace(load_encoder=lambda *_, **__: HashingEncoder())
    monkeypatch.setitem(sys.modules, "dupmae_toolkit.model.loading", stand_in)
    words = ("--queries", "topics.tsv", "--qrels", "judged.txt", "--skip-invalid", "-o", "cli")
    assert run(capsys, "beir", "toy.jsonl", *words)[0] == 0


def test_standard_input_is_refused_because_it_can_be_read_once(own):
    for changes in ({"queries": "-"}, {"qrels": "-"}):
        with pytest.raises(InputError, match="name files, not -"):
            run_beir("toy.csv", HashingEncoder(), "own", options(**changes))


@pytest.mark.java
def test_a_count_is_left_out_of_the_report_and_records_of_others_are_too(own, capsys):
    measures = ("NumRet", "nDCG@3")
    run_beir("toy.csv", HashingEncoder(), "own", options(measures=measures, bm25=False))
    assert run(capsys, "report", "own", "--topics", 0)[0] == 0
    page = Path("own/report.html").read_text()
    assert ("nDCG@3" in page, "NumRet" in page) == (True, False)
    told = json.loads(Path("own/metrics.json").read_text())
    told |= {mode: {"accuracy": 1} for mode in ("dense", "lexical", "bm25", "hybrid")}
    Path("own/metrics.json").write_text(json.dumps(told))
    assert run(capsys, "report", "own", "--topics", 0)[0] == 0
    assert "R@100" in Path("own/report.html").read_text()


@pytest.mark.java
def test_judgements_may_be_those_of_a_split_of_beirs(own):
    (found,) = run_beir("toy.csv", HashingEncoder(), "own", options(qrels="toy.zip", bm25=False))
    (ours,) = run_beir("toy.csv", HashingEncoder(), "csv", options(bm25=False))
    assert found.scores["hybrid"].means == ours.scores["hybrid"].means


@pytest.mark.java
def test_the_report_has_the_measures_that_were_computed(own, capsys):
    Path("judged.txt").write_text("q1 0 001 0.5\nq1 0 nowhere 1\nq2 0 002 1\n")
    run_beir("toy.csv", HashingEncoder(), "own", options(measures=("nDCG@3", "ERR@5"), bm25=False))
    code, _, err = run(capsys, "report", "own", "--topics", 0)
    assert code == 0, err
    page = Path("own/report.html").read_text()
    assert all(name in page for name in ("nDCG@3", "ERR@5"))
    assert "R@100" not in page
    assert "1 of 3 judged documents is not in the corpus." in page


# Studies.


def sweep(text: str = STUDY, output: str = "out"):
    Path("study.yaml").write_text(text)
    study = load_study("study.yaml")
    return run_sweep(study, output, load=lambda entry: HashingEncoder())


@pytest.mark.java
def test_a_study_takes_them_too_and_encodes_documents_once(own):
    more = STUDY + "  few: {path: toy.csv, queries: few.jsonl, qrels: few.json, split: dev}\n"
    few = own.topics[:3]
    Path("few.jsonl").write_text("".join(f"{json.dumps(t)}\n" for t in few))
    Path("few.json").write_text(json.dumps({t["_id"]: {"001": 1} for t in few}))
    found = sweep(more)
    assert not found.made.failures
    (beir,) = run_beir("toy.zip", HashingEncoder(), "beir", BeirOptions())
    for mode, label in (("dense", "one.flat.dense"), ("bm25", "bm25")):
        assert found.sections["all"].measured.scores[label].means == beir.scores[mode].means
    assert len(found.sections["few"].qrels) == 3
    (texts,) = Path("out/work").iterdir()
    (encoded,) = texts.glob("*/encoded")
    names = sorted(path.name.rsplit("-", 1)[0] for path in encoded.iterdir())
    assert names == ["documents", "queries-dev", "queries-test"]


@pytest.mark.java
def test_topics_that_have_changed_are_encoded_again(own):
    sweep()
    Path("topics.tsv").write_text("".join(f"{t['_id']}\tword7\n" for t in own.topics))
    found = sweep()
    assert not found.made.failures
    fresh = sweep(output="fresh")
    for label, path in found.made.runs["all"].items():
        assert path.read_bytes() == fresh.made.runs["all"][label].read_bytes()


@pytest.mark.parametrize(
    ("entry", "fault"),
    [
        ("{path: toy.csv, queries: topics.tsv}", "queries without qrels"),
        ("{path: toy.csv, qrels: judged.txt}", "qrels without queries"),
        ("{queries: topics.tsv, qrels: judged.txt}", "the key 'path' is missing"),
        ("{kind: demonstration, queries: a, qrels: b}", "has nothing but its kind"),
        ("{path: toy.csv}", "name --queries"),
    ],
)
def test_a_study_that_names_half_of_it_is_refused(own, entry, fault):
    with pytest.raises(InputError, match=fault):
        sweep(STUDY[: STUDY.index("  all:")] + f"  all: {entry}\n")
    assert not Path("out").exists()


def test_a_study_reads_all_three(own):
    Path("study.yaml").write_text(STUDY)
    assert load_study("study.yaml").reads() == {
        "STUDY": "study.yaml",
        "collection all": "toy.csv",
        "collection all queries": "topics.tsv",
        "collection all qrels": "judged.txt",
    }
