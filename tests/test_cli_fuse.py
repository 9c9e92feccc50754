"""`dupmae fuse`: TREC runs in, one TREC run out."""

from __future__ import annotations

import gzip
import json
import os
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from dupmae_cli.fuse import RunMethod, RunNorm, fuse
from dupmae_cli.options import Missing
from dupmae_toolkit.collection.trec import read_run
from dupmae_toolkit.fusing.method import MISSING, NORMS
from dupmae_toolkit.fusing.registry import METHODS
from tests.cli_support import run


@pytest.fixture
def dupmae(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    return partial(run, capsys, "fuse")


@pytest.fixture
def runs(tmp_path):
    """Two runs: topic 001 in both, 2 in the first, 3 in the second."""
    first = [("001", "NA", 9.5), ("001", "007", 4.0), ("001", "c", 2.0), ("2", "a", 1.0)]
    second = [("001", "c", 0.9), ("001", "007", 0.5), ("001", "d", 0.1), ("3", "z", 0.0)]
    paths = (tmp_path / "first.trec", tmp_path / "second.trec.gz")
    for path, lines, opened in zip(paths, (first, second), (open, gzip.open), strict=True):
        with opened(path, "wt") as file:
            for rank, (topic, document, score) in enumerate(lines):
                file.write(f"{topic} Q0 {document} {rank} {score} tag\n")
    return paths


def scores(path, topic):
    ranking = read_run(path)[topic]
    return dict(zip(ranking.ids, ranking.scores, strict=True))


EXPECTED = {
    (): {"c": 1 / 63 + 1 / 61, "007": 1 / 62 + 1 / 62, "NA": 1 / 61, "d": 1 / 63},
    ("--rrf-k", 1): {"c": 1 / 4 + 1 / 2, "007": 1 / 3 + 1 / 3, "NA": 1 / 2, "d": 1 / 4},
    ("--method", "sum"): {"NA": 9.5, "007": 4.5, "c": 2.9, "d": 0.1},
    ("--method", "combsum"): {"NA": 1, "007": 2 / 7.5 + 0.5, "c": 1, "d": 0},
    ("--method", "combmnz"): {"NA": 1, "007": 2 * (2 / 7.5 + 0.5), "c": 2, "d": 0},
    ("--method", "linear", "--weights", "0.25,0.75", "--norm", "none"): {
        "NA": 0.25 * 9.5,
        "007": 1 + 0.375,
        "c": 0.5 + 0.675,
        "d": 0.075,
    },
    ("--method", "sum", "--missing", "min"): {"NA": 9.6, "007": 4.5, "c": 2.9, "d": 2.1},
    ("--method", "combmax", "--norm", "none"): {"NA": 9.5, "007": 4.0, "c": 2.0, "d": 0.1},
    ("--method", "combmin", "--norm", "none", "--missing", "zero"): {
        "NA": 0,
        "007": 0.5,
        "c": 0.9,
        "d": 0,
    },
    ("--method", "rbc", "--persistence", 0.5): {"NA": 0.5, "007": 0.5, "c": 0.625, "d": 0.125},
    ("--method", "borda"): {"NA": 5, "007": 6, "c": 6, "d": 3},
    ("--method", "linear", "--norm", "theoretical", "--low", "0,-0.1"): {
        "NA": 0.5,
        "007": 2 / 9.5 + 0.3,
        "c": 1 / 9.5 + 0.5,
        "d": 0.1,
    },
}


@pytest.mark.parametrize("settings", EXPECTED)
def test_fused_scores_are_those_worked_out_by_hand(dupmae, runs, settings):
    code, out, err = dupmae(*runs, "--output", "out.trec", *settings)
    assert (code, out) == (0, "")
    assert "out.trec: 3 topics" in err
    found, expected = scores("out.trec", "001"), EXPECTED[settings]
    assert set(found) == set(expected)
    np.testing.assert_allclose(
        [found[document] for document in expected], list(expected.values()), rtol=1e-6, atol=1e-6
    )


def test_every_topic_of_any_run_is_kept_as_text(dupmae, runs):
    dupmae(*runs, "--output", "out.trec")
    assert list(read_run("out.trec")) == ["001", "2", "3"]


def test_the_policies_stand_beside_the_run(dupmae, runs):
    code, out, _ = dupmae(
        *runs, "-o", "out.trec", "--method", "linear", "--missing", "min", "--json", "-k", 2
    )
    assert code == 0
    story = json.loads(out)
    assert json.loads(Path("out.trec.json").read_text())["fusion"] == story["fusion"]
    assert story["fusion"]["normalisation"] == "min-max"
    assert "smallest" in story["fusion"]["missing"]
    assert "descending" in story["fusion"]["ties"]
    assert story["runs"] == [str(path) for path in runs]
    assert story["hits"] == 4


def test_three_runs_are_fused_as_well_as_two(dupmae, runs):
    assert dupmae(*runs, runs[0], "--output", "out.trec", "--method", "sum")[0] == 0
    assert scores("out.trec", "2") == {"a": 2.0}


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (("-k", 0), "k is 0"),
        (("--method", "bordo"), "Did you mean borda?"),
        (("--method", "nothing"), "'condorcet'"),
        (("--norm", "rank"), "use linear"),
        (("--method", "linear", "--norm", "theoretical"), "--low"),
        (("--method", "linear", "--norm", "theoretical", "--low", "1,2,3"), "3 given for 2"),
        (("--method", "linear", "--norm", "theoretical", "--low", "x"), "low 'x'"),
        (("--method", "linear", "--norm", "theoretical", "--low", "5"), "below 5"),
        (("--method", "rbc", "--persistence", 0), "between 0 and 1"),
        (("--method", "linear", "--weights", "1,2,3"), "3 given for 2"),
        (("--method", "combsum", "--weights", "1,2"), "use linear"),
        (("--weights", "1,x"), "such as"),
        (("--norm", "min-max"), "use linear"),
        (("--rrf-k", 0), "more than 0"),
        (("--missing", "mean"), "zero"),
        (("--tag", "two words"), "white space"),
        (("missing.trec",), "missing.trec"),
        (("five.trec",), "five.trec:1"),
    ],
)
def test_bad_usage_is_one_line_and_exit_2(dupmae, runs, settings, message, tmp_path):
    (tmp_path / "five.trec").write_text("1 Q0 d 1 0.5\n")
    before = sorted(os.listdir(tmp_path))
    code, out, err = dupmae(*runs, "--output", "out.trec", *settings)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert message in err
    assert sorted(os.listdir(tmp_path)) == before


def test_one_run_alone_and_an_output_among_the_runs_are_refused(dupmae, runs):
    before = runs[0].read_bytes()
    code, _, err = dupmae(runs[0], "--output", "out.trec")
    assert (code, "two or more" in err) == (2, True)
    code, _, err = dupmae(*runs, "--output", runs[0])
    assert (code, "one of the runs" in err) == (2, True)
    assert runs[0].read_bytes() == before


def test_the_help_has_examples_and_explains_every_method(capsys):
    code, out, _ = run(capsys, "fuse", "--help")
    assert code == 0
    assert "Examples:" in out
    for name in METHODS:
        said = " ".join(fuse.__doc__.split()).replace("combmin, combmax, combmed:", NAMES)
        assert f"{name}:" in said
        assert name in out


NAMES = "combmin: combmax: combmed:"


def test_the_choices_are_those_of_the_registry():
    assert set(RunMethod) == set(METHODS)
    assert tuple(RunNorm) == NORMS
    assert tuple(Missing) == MISSING


def test_options_that_a_method_does_not_read_are_named(dupmae, runs):
    options = ("--missing", "min", "--rrf-k", 5, "--persistence", 0.5)
    code, _, err = dupmae(*runs, "-o", "a.trec", "--method", "borda", *options)
    assert code == 0
    for option in ("--missing", "--rrf-k", "--persistence"):
        assert f"{option}: method borda does not use it" in err
    assert "does not use" not in dupmae(*runs, "-o", "a.trec", "--rrf-k", 5)[2]


def test_what_a_method_reads_stands_beside_the_run(dupmae, runs):
    assert dupmae(*runs, "-o", "a.trec", "--method", "rbc", "--persistence", 0.5)[0] == 0
    fusion = json.loads(Path("a.trec.json").read_text())["fusion"]
    assert (fusion["persistence"], fusion["missing"]) == (0.5, "adds 0")
    options = ("--method", "combmin", "--norm", "theoretical", "--low", "-1")
    assert dupmae(*runs, "-o", "b.trec", *options)[0] == 0
    fusion = json.loads(Path("b.trec.json").read_text())["fusion"]
    assert fusion["low"] == [-1, -1]
    assert "left out" in fusion["missing"]


@pytest.mark.parametrize("form", ["trec", "json", "jsonl", "csv"])
@pytest.mark.parametrize("ending", ["", ".gz"])
def test_an_earlier_run_in_any_form_is_replaced(dupmae, runs, form, ending):
    words = (*runs, "-o", f"out.{form}{ending}", "--format", form)
    assert dupmae(*words)[0] == 0
    first = Path(f"out.{form}{ending}").read_bytes()
    assert dupmae(*words, "-k", 1)[0] == 0
    assert Path(f"out.{form}{ending}").read_bytes() != first
    assert dupmae(*words)[0] == 0
    assert Path(f"out.{form}{ending}").read_bytes() == first


@pytest.mark.parametrize(
    "content",
    [
        b"q1\thow do I parse a date\n",
        b'{"_id": "q1", "text": "a tag, rank and hits"}\n',
        b'{\n"q1": "a question"\n}\n',
        b"q1 0 d1 1\n",
        b"\xff\xfe\x00binary",
        b"topic,document\n",
        b"q1\thow do vaccines work today\n",
        b'{"topic": "q1", "text": "how do vaccines work"}\n',
        b"q1 0 d1 one 1 x\n",
        b"q1 0 d1 1 nan x\n",
    ],
)
def test_a_file_that_is_no_run_is_not_replaced(dupmae, runs, content):
    Path("mine.txt").write_bytes(content)
    code, out, err = dupmae(*runs, "-o", "mine.txt")
    assert (code, out) == (2, "")
    assert err == "dupmae: mine.txt: exists, and is no run; name another output\n"
    assert Path("mine.txt").read_bytes() == content
    Path("mine.txt").write_bytes(b"")
    assert dupmae(*runs, "-o", "mine.txt")[0] == 0


@pytest.mark.parametrize("name", ["mine.json", "mine.card.json"])
def test_neither_is_a_file_that_would_be_written_beside_a_run(dupmae, runs, name):
    Path(name).write_text('{"q1": "how do vaccines work"}')
    code, out, err = dupmae(*runs, "-o", "mine")
    assert (code, out) == (2, "")
    assert err == (
        f"dupmae: {name}: exists, and does not belong to a run mine; name another output\n"
    )
    assert Path(name).read_text() == '{"q1": "how do vaccines work"}'
    assert not Path("mine").exists()
    assert dupmae(*runs, "-o", "mine", "--format", "csv")[0] == 0  # which has none beside it
    assert dupmae(*runs, "-o", "other")[0] == 0
    assert dupmae(*runs, "-o", "other")[0] == 0
