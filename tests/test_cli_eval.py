"""`dupmae eval`, as it is typed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.cli_support import run

QRELS = "query-id\tcorpus-id\tscore\n001\tNA\t2\n001\tb\t1\n2\tz\t1\n"
GOOD = "001 Q0 NA 1 2.0 t\n001 Q0 b 2 1.0 t\n2 Q0 z 1 1.0 t\n"
HALF = "001 Q0 b 1 2.0 t\n001 Q0 NA 2 1.0 t\nother Q0 z 1 1.0 t\n"


@pytest.fixture
def files(tmp_path, monkeypatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "qrels.tsv").write_text(QRELS)
    (tmp_path / "good.trec").write_text(GOOD)
    (tmp_path / "half.trec").write_text(HALF)
    return tmp_path


def test_a_table_shows_every_run_with_both_counts(files, capsys):
    code, out, err = run(capsys, "eval", "--qrels", "qrels.tsv", "good.trec", "half.trec")
    assert code == 0
    rows = [line.split() for line in out.splitlines()]
    assert rows[0] == ["run", "nDCG@10", "R@100", "RR@10", "AP@1000", "topics"]
    assert ["good.trec", "1.0000", "1.0000", "1.0000", "1.0000", "2/2"] in rows
    half = next(row for row in rows if row and row[0] == "half.trec")
    assert half[2:] == ["0.5000", "0.5000", "0.5000", "1/2"]
    assert err == (
        "half.trec: lacks 1 judged topic, counted as 0\n"
        "half.trec: 1 topic without judgements ignored\n"
        "half.trec: lacks 1 of 3 relevant documents\n"
    )


def test_json_is_one_document_on_stdout(files, capsys):
    code, out, err = run(
        capsys,
        "eval",
        "--qrels",
        "qrels.tsv",
        "half.trec",
        "--json",
        "--measures",
        "P@1, AP",
        "--per-topic",
    )
    assert code == 0
    assert err == ""
    document = json.loads(out)
    assert document["judged"] == 2
    (entry,) = document["runs"]
    assert entry["run"] == "half.trec"
    assert (entry["returned"], entry["unjudged"]) == (1, 1)
    assert entry["measures"] == {"P@1": 0.5, "AP": 0.5}
    assert entry["per_topic"]["P@1"] == {"001": 1.0, "2": 0.0}


def test_values_of_topics_are_printed_one_a_line(files, capsys):
    code, out, _ = run(
        capsys, "eval", "--qrels", "qrels.tsv", "good.trec", "--per-topic", "--measures", "P@2"
    )
    assert code == 0
    assert out.splitlines()[:2] == ["good.trec\t001\tP@2\t1.0000", "good.trec\t2\tP@2\t0.5000"]


def test_judgements_of_a_beir_folder_are_named_by_split(files, capsys):
    (files / "toy" / "qrels").mkdir(parents=True)
    (files / "toy" / "corpus.jsonl").write_text('{"_id": "b", "text": "x"}\n')
    (files / "toy" / "qrels" / "dev.tsv").write_text(QRELS)
    code, _, _ = run(capsys, "eval", "--qrels", "toy", "--split", "dev", "good.trec")
    assert code == 0
    code, _, err = run(capsys, "eval", "--qrels", "toy", "--split", "test", "good.trec")
    assert code == 2
    assert "no split 'test' in it; available: dev" in err


@pytest.mark.parametrize(
    ("words", "fault"),
    [
        (["--qrels", "missing.tsv", "good.trec"], "missing.tsv: no such file"),
        (["--qrels", "qrels.tsv", "missing.trec"], "missing.trec: no such file"),
        (["--qrels", "qrels.tsv", "two.tsv"], "two.tsv:1: 2 columns; a run has six"),
        (["--qrels", "two.tsv", "good.trec"], "two.tsv:1: 2 columns; expected three"),
        (["--qrels", "good.trec", "good.trec"], "good.trec:1: 6 columns; expected three"),
        (["--qrels", "empty", "good.trec"], "empty: no judgements in it"),
        (["--qrels", "qrels.tsv", "empty"], "empty: no lines in it: an empty run"),
        (
            ["--qrels", "qrels.tsv", "foreign.trec"],
            "none of the run's 1 topic is judged",
        ),
        (
            ["--qrels", "qrels.tsv", "good.trec", "--measures", "nDCG@0"],
            "cutoff must be a whole number from",
        ),
        (["--qrels", "qrels.tsv", "good.trec", "--measures", ""], "no measure named"),
        (["--qrels", "qrels.tsv"], "Missing argument"),
        (["good.trec"], "Missing option"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(files, capsys, words, fault):
    (files / "two.tsv").write_text("001\tNA\n")
    (files / "empty").write_text("")
    (files / "foreign.trec").write_text("9 Q0 b 1 1.0 t\n")
    code, out, err = run(capsys, "eval", *words)
    assert code == 2
    assert out == ""
    assert fault in err
    assert err.count("\n") == 1


def test_the_help_has_examples(capsys):
    code, out, _ = run(capsys, "eval", "--help")
    assert code == 0
    assert "Examples:" in out
    assert "dupmae eval --qrels" in out
