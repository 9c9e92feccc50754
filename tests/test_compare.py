"""`dupmae compare` and its tests, against scipy's and against enumeration."""

from __future__ import annotations

import csv
import io
import itertools
import json

import numpy as np
import pytest
from scipy import stats

from dupmae_toolkit.evaluation import significance
from tests.cli_support import run


@pytest.fixture
def files(tmp_path):
    dice = np.random.default_rng(5)
    topics, documents = [f"q{n}" for n in range(12)], [f"d{n}" for n in range(20)]
    lines = [f"{t} 0 {d} {dice.integers(0, 3)}" for t in topics for d in documents]
    (tmp_path / "qrels").write_text("\n".join(lines) + "\n")
    for name in ("base_1", "other", "short"):
        rows = [
            f"{t} Q0 {d} {rank} {30 - rank} x"
            for t in (topics[:-2] if name == "short" else topics)
            for rank, d in enumerate(dice.permutation(documents), 1)
        ]
        (tmp_path / name).write_text("\n".join(rows) + "\n")
    return tmp_path


@pytest.mark.parametrize("count", [2, 3, 9, 60])
def test_tests_are_those_of_scipy(count):
    values = np.random.default_rng(count).normal(0.2, 1, count).round(1)
    values[0] = 0
    values[-1] = 0.7
    zeros = np.zeros(count)
    nonzero = values[values != 0]
    assert significance.wilcoxon(values) == pytest.approx(stats.wilcoxon(nonzero).pvalue)
    assert significance.paired_t(values) == pytest.approx(stats.ttest_rel(values, zeros).pvalue)


@pytest.mark.parametrize("values", [[0.1], [0.1, 0.2, -0.3], [0.1, 0.2, 0.3, 0.0], [1, 1, 1, -1]])
def test_randomisation_of_few_topics_tries_all_signs(values):
    observed = abs(sum(values))
    sums = [
        abs(sum(s * v for s, v in zip(signs, values, strict=True)))
        for signs in itertools.product((1, -1), repeat=len(values))
    ]
    expected = np.mean([each >= observed - 1e-9 for each in sums])
    assert significance.randomisation(np.array(values, float)) == pytest.approx(expected)


def test_randomisation_of_many_topics_is_near_scipy_and_repeatable():
    values = np.random.default_rng(3).normal(0.25, 1, 80)
    found = significance.randomisation(values)
    other = stats.permutation_test(
        (values,),
        np.mean,
        permutation_type="samples",
        n_resamples=20_000,
        vectorized=True,
        random_state=7,
    )
    assert found == pytest.approx(other.pvalue, abs=0.01)
    assert found == significance.randomisation(values)
    assert significance.randomisation(np.full(40, 0.5)) > 0  # chance is never ruled out


def test_without_a_spread():
    same, none = np.full(5, 0.25), np.zeros(5)
    assert significance.paired_t(same) is None
    assert significance.effect_size(same) is None
    assert significance.randomisation(same) == pytest.approx(2 / 32)
    assert significance.paired_t(none) == significance.randomisation(none) == 1.0
    assert significance.wilcoxon(none) == 1.0


def test_holm():
    # Worked by hand: 4 × .01, 3 × .02, 2 × .03 is no smaller than the one before, 1 × .05 neither.
    assert significance.holm([0.03, 0.01, 0.05, 0.02]) == pytest.approx([0.06, 0.04, 0.06, 0.06])
    assert significance.holm([0.9, None, 0.8]) == [1.0, None, 1.0]


def test_json(files, capsys):
    words = ("--qrels", files / "qrels", files / "base_1", files / "other", files / "short")
    code, out, err = run(capsys, "compare", *words, "--json", "--measures", "nDCG@10 AP@1000")
    document = json.loads(out)
    assert code == 0
    assert document["baseline"] == str(files / "base_1")
    assert len(document["runs"]) == 4
    assert "short: lacks 2 judged topics, counted as 0" in err
    _, out, _ = run(capsys, "eval", *words, "--json", "--per-topic")
    measured = {each["run"]: each for each in json.loads(out)["runs"]}
    base = measured[str(files / "base_1")]["per_topic"]["nDCG@10"]
    for row in document["runs"]:
        if row["measure"] != "nDCG@10":
            continue
        other = measured[row["run"]]
        assert row["mean"] == pytest.approx(other["measures"]["nDCG@10"])
        values = [other["per_topic"]["nDCG@10"][topic] for topic in base]
        test = stats.ttest_rel(values, list(base.values()))
        assert row["tests"]["t"]["p"] == pytest.approx(test.pvalue)
        assert row["interval"][0] <= row["difference"] <= row["interval"][1]


def test_forms(files, capsys):
    words = ("compare", "--qrels", files / "qrels", files / "base_1", files / "other")
    words += ("--measures", "nDCG@10")
    _, out, _ = run(capsys, *words, "--format", "csv")
    rows = list(csv.DictReader(io.StringIO(out)))
    assert [row["run"] for row in rows] == [str(files / "base_1"), str(files / "other")]
    assert rows[0]["t"] == ""
    assert 0 <= float(rows[1]["t"]) <= 1
    _, out, _ = run(capsys, *words, "--format", "latex")
    assert r"base\_1" in out
    assert out.count("\\\\") == 3
    _, out, _ = run(capsys, *words, "--format", "markdown")
    assert len({line.count(" | ") for line in out.splitlines()}) == 1
    assert "| ---: |" in out
    _, out, _ = run(capsys, *words, "--topics", 2)
    assert sum(line.startswith(f"{files / 'other'}\tq") for line in out.splitlines()) == 4


def test_a_run_against_itself(files, capsys):
    base = files / "base_1"
    _, out, _ = run(capsys, "compare", "--qrels", files / "qrels", base, base, "--json")
    for row in json.loads(out)["runs"]:
        assert row["difference"] == 0
        assert {t["p"] for t in row["tests"].values()} == {1.0}


@pytest.mark.parametrize(
    ("more", "fault"),
    [
        (["--measures", "NumRet"], "count over topics"),
        (["--json", "--format", "csv"], "do not go together"),
        (["--measures", "nothing@3"], "not known"),
    ],
)
def test_refusals(files, capsys, more, fault):
    base = files / "base_1"
    code, out, err = run(capsys, "compare", "--qrels", files / "qrels", base, base, *more)
    assert code == 2
    assert not out
    assert fault in err
    assert err.count("\n") == 1
