"""Tuning of an index's own score, against real searches, in Python and by the command."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from dupmae_toolkit import HybridIndex, Query
from dupmae_toolkit.errors import InputError
from dupmae_toolkit.evaluation import tuning
from dupmae_toolkit.evaluation.index_tuning import Candidates, Setting, scaled, tune_index
from dupmae_toolkit.evaluation.measures import evaluate
from dupmae_toolkit.evaluation.report.svg import stacked
from dupmae_toolkit.evaluation.report.weights import lines_of, weight_plot
from dupmae_toolkit.index.manifest import Manifest
from dupmae_toolkit.index.scoring import Origin
from dupmae_toolkit.search.fusion import Fusion
from tests.cli_support import run
from tests.index_support import age, documents_of
from tests.scoring_support import ENCODER

pytestmark = [pytest.mark.java, pytest.mark.usefixtures("quick_disk")]

DOCUMENTS = documents_of(90, seed=12)


def topics(count=12, seed=3):
    """Queries that hold words of several documents, and judgements that agree with no part."""
    dice = np.random.default_rng(seed)
    queries, qrels = [], {}
    for n in range(count):
        some = [DOCUMENTS[row] for row in dice.choice(len(DOCUMENTS), 4, replace=False)]
        words = " ".join(" ".join(each.text.split()[:3]) for each in some)
        queries.append(Query(f"q{n}", words))
        qrels[f"q{n}"] = {each.id: int(dice.integers(0, 4)) for each in some}
    return queries, qrels


QUERIES, QRELS = topics()


@pytest.fixture(autouse=True)
def at_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dupmae_toolkit.search.hybrid_index.load_encoder", lambda *_, **__: ENCODER)


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> HybridIndex:
    return HybridIndex.build(tmp_path_factory.mktemp("tuning") / "index", DOCUMENTS, ENCODER)


@pytest.fixture
def own(tmp_path: Path) -> HybridIndex:
    return HybridIndex.build(tmp_path / "index", DOCUMENTS[:40], ENCODER)


def measured(index, measure="nDCG@5", **settings):
    """The measure of each topic by a real search."""
    found = index.search_batch(QUERIES, 5, **settings)
    (values,) = evaluate(QRELS, found, [measure]).per_topic.values()
    return np.array([values[query.id] for query in QUERIES])


@pytest.mark.parametrize("measure", ["nDCG@5", "AP@5", "RR@5"])
def test_candidates_measure_as_searches_do(index, measure):
    made = Candidates(index, index.vectors(QUERIES), QRELS, measure)
    for power in (0.0, 1.0):
        for weights in ((1, 0, 0), (0, 1, 0), (0, 0, 1), (7, 1.5, 0.5), (1, 1, 1)):
            setting = Setting(Fusion("sum"), power)
            found = list(made.topics([setting], 90)[setting].values())
            real = measured(index, measure, weights=weights, idf_power=power, exact=True)
            assert tuning.values_at(found, weights) == pytest.approx(real, abs=1e-12)


@pytest.mark.parametrize(
    "fusion",
    [
        Fusion("rrf", rrf_k=7),
        Fusion("linear", norm="min-max"),
        Fusion("linear", norm="z-score"),
        Fusion("linear", norm="none"),
    ],
)
def test_candidates_of_other_fusions_measure_as_searches_do(index, fusion):
    made = Candidates(index, index.vectors(QUERIES), QRELS, "nDCG@5")
    setting = Setting(fusion, 1.0)
    found = list(made.topics([setting], 20)[setting].values())
    for weights in ((1, 0.5, 0.25), (0, 1, 3)):
        real = measured(index, fusion=replace(fusion, weights=weights), depth=20)
        assert tuning.values_at(found, weights) == pytest.approx(real, abs=1e-12)


def test_no_weights_of_a_grid_search_better(index):
    tuned = tune_index(index, QUERIES, QRELS, "nDCG@5", folds=4)
    assert tuned.differing == 0
    real = measured(index, weights=tuned.fusion.weights, exact=True).mean()
    assert real == pytest.approx(tuned.training_figure, abs=1e-12)
    base = index.manifest.scoring.weights
    assert tuned.weights["dense"] in (0.0, base[0])
    # Along each axis through what was found, where it claims to be the best.
    for part in range(3):
        for factor in (0, 0.2, 0.5, 0.8, 0.95, 1.05, 1.3, 2, 5, 20):
            weights = list(tuned.fusion.weights)
            weights[part] *= factor
            if any(weights):
                value = measured(index, weights=tuple(weights), exact=True).mean()
                assert value <= tuned.training_figure + 1e-12


def test_it_starts_from_the_own_weights_and_never_ends_below_them(index):
    tuned = tune_index(index, QUERIES, QRELS, "nDCG@5", folds=3)
    own = measured(index, exact=True)
    assert tuned.own.mean == pytest.approx(own.mean(), abs=1e-12)
    assert tuned.training_figure >= own.mean() - 1e-12
    assert tuned.gain.mean == pytest.approx(tuned.held_out.mean - tuned.own.mean, abs=1e-12)
    assert tuned.starts >= 5


def test_lists_that_are_too_short_are_made_longer(index):
    tuned = tune_index(index, QUERIES, QRELS, "nDCG@5", depth=5, folds=3)
    assert tuned.differing == 0
    real = measured(index, weights=tuned.fusion.weights, exact=True)
    assert real.mean() == pytest.approx(tuned.training_figure, abs=1e-12)
    assert tuned.depth == 5 * 4**tuned.deepened


def test_a_document_outside_all_lists_is_noticed(index):
    # Lists of one document each often lack what is first by the sum of all parts.
    raised = 0
    for seed in range(6):
        queries, qrels = topics(seed=seed)
        tuned = tune_index(index, queries, qrels, "P@1", depth=1, folds=2)
        raised += tuned.deepened > 0
        found = index.search_batch(queries, 1, weights=tuned.fusion.weights, exact=True)
        real = evaluate(qrels, found, ["P@1"]).means["P@1"]
        assert tuned.differing == 0
        assert real == pytest.approx(tuned.training_figure, abs=1e-12)
    assert raised


def test_power_norm_and_k_are_chosen_inside_the_folds(index):
    powers = tune_index(index, QUERIES, QRELS, "nDCG@5", idf_powers=(0, 1, 2), folds=3)
    values = [
        tune_index(index, QUERIES, QRELS, "nDCG@5", idf_powers=(power,), folds=3).training_figure
        for power in (0, 1, 2)
    ]
    assert powers.training_figure == pytest.approx(max(values), abs=1e-12)
    assert powers.idf_power == (0, 1, 2)[int(np.argmax(values))]
    tuned = tune_index(index, QUERIES, QRELS, "nDCG@5", fusion="rrf", rrf_ks=(1, 60), folds=3)
    assert tuned.fusion.rrf_k in (1, 60)
    real = measured(index, fusion=tuned.fusion, depth=tuned.depth).mean()
    assert real == pytest.approx(tuned.training_figure, abs=1e-9)
    linear = tune_index(index, QUERIES, QRELS, "nDCG@5", fusion="linear", folds=3)
    real = measured(index, fusion=linear.fusion, depth=linear.depth).mean()
    assert real == pytest.approx(linear.training_figure, abs=1e-9)


def test_the_topics_own_documents_are_left_out(index):
    queries = [Query(DOCUMENTS[n].id, DOCUMENTS[n].text) for n in range(6)]
    qrels = {q.id: {q.id: 1, DOCUMENTS[n + 10].id: 1} for n, q in enumerate(queries)}
    kept = tune_index(index, queries, qrels, "P@1", folds=3)
    left = tune_index(index, queries, qrels, "P@1", folds=3, drop_self=True)
    assert kept.training_figure == 1
    assert left.training_figure < 1
    assert left.differing == 0


def test_topics_and_documents_that_are_lacking_are_counted(index):
    qrels = {name: dict(judged) for name, judged in QRELS.items()}
    qrels |= {"not asked": {"d1": 1}}
    qrels["q0"] = {"not there": 2, "nor this": 0, **qrels["q0"]}
    queries = [*QUERIES, Query("unjudged", "some words")]
    tuned = tune_index(index, queries, qrels, "nDCG@5", folds=3)
    assert tuned.left_out["queries without judgements"] == 1
    assert tuned.left_out["judged topics without a query"] == 1
    assert tuned.missing == 1
    assert tuned.held_out.topics == len(QUERIES)


@pytest.mark.parametrize(
    ("given", "fault"),
    [
        ({"measure": "bpref"}, "cannot be tuned exactly"),
        ({"measure": "AP"}, "name a cutoff, as in AP@100"),
        ({"folds": 13}, "13 folds of 12 topics"),
        ({"depth": 0}, "depth is 0"),
        ({"idf_powers": ()}, "no idf power"),
        ({"idf_powers": (-1.0,)}, "idf power -1"),
        ({"norm": "min-max"}, "sum normalises nothing"),
        ({"fusion": "rrf", "rrf_ks": (-1,)}, "more than 0"),
        ({"fusion": "rrf", "per_query": True}, "per-query"),
    ],
)
def test_what_cannot_be_tuned_is_refused(index, given, fault):
    with pytest.raises(InputError, match=fault):
        tune_index(index, QUERIES, QRELS, **given)


def test_an_index_of_passages_is_refused(tmp_path):
    passages = HybridIndex.build(tmp_path / "i", DOCUMENTS[:9], ENCODER, passages=8)
    with passages, pytest.raises(InputError, match="holds passages"):
        tune_index(passages, QUERIES, QRELS, folds=2)


def test_scaled_weights_keep_the_first_part_that_both_weigh():
    assert scaled([0.5, 0.25, 0.25], [70, 1, 1]) == [70, 35, 35]
    assert scaled([0, 0.5, 0.5], [70, 2, 1]) == [0, 2, 2]
    assert scaled([0, 0.2, 0.8], None) == [0, 0.25, 1]
    assert scaled([0, 0, 1], [70, 2, 0]) == [0, 0, 1]


# --- the command


@pytest.fixture
def files(tmp_path: Path) -> Path:
    lines = [f"{t} 0 {d} {g}" for t, judged in QRELS.items() for d, g in judged.items()]
    (tmp_path / "qrels").write_text("\n".join(lines) + "\n")
    rows = [f"{query.id}\t{query.text}" for query in QUERIES]
    (tmp_path / "queries.tsv").write_text("\n".join(rows) + "\n")
    return tmp_path


def words(files, index, *more):
    queries, qrels = files / "queries.tsv", files / "qrels"
    given = ("--index", index.path, "--queries", queries, "--qrels", qrels, "--folds", 3)
    return ("tune", *given, "--measure", "nDCG@5", *more)


def test_command_prints_weights_that_search_takes(files, index, capsys):
    code, out, err = run(capsys, *words(files, index, "--json", "--training-figure"))
    assert code == 0, err
    found = json.loads(out)
    assert list(found["weights"]) == ["dense", "lexical", "bm25"]
    assert found["interval"][0] <= found["value"] <= found["interval"][1]
    weights = ",".join(map(repr, found["weights"].values()))
    options = ("--queries", files / "queries.tsv", "--output", files / "run", "--weights", weights)
    assert run(capsys, "search", "--index", index.path, *options, "--exact")[0] == 0
    given = ("--qrels", files / "qrels", "--measures", "nDCG@5", "--json")
    _, out, _ = run(capsys, "eval", files / "run", *given)
    value = json.loads(out)["runs"][0]["measures"]["nDCG@5"]
    assert value == pytest.approx(found["training_figure"], abs=1e-9)


def test_command_keeps_the_training_figure_to_itself(files, index, capsys):
    _, out, _ = run(capsys, *words(files, index, "--json"))
    assert "training_figure" not in json.loads(out)
    code, out, err = run(capsys, *words(files, index, "--per-query"))
    assert code == 0
    assert "training" not in out
    assert [line.split()[1] for line in out.splitlines()[:3]] == ["dense", "lexical", "bm25"]
    assert "held out in 3 folds of 12 topics" in out
    assert "a dense weight per query:" in out
    assert "starting points" in err


def test_command_saves_and_says_what_was_before(files, own, capsys):
    before = own.manifest.scoring
    code, out, err = run(capsys, *words(files, own, "--save", "--idf-powers", "0,1", "--json"))
    assert code == 0, err
    found = json.loads(out)
    after = Manifest.load(own.path).scoring
    assert found["saved"]["before"]["weights"] == list(before.weights)
    assert tuple(found["saved"]["after"]["weights"]) == after.weights
    assert tuple(found["weights"].values()) == after.weights
    assert found["idf_power"] == after.idf_power
    assert "weights were" in err
    assert after.origin == Origin("nDCG@5", str(files / "queries.tsv"), 12)
    _, out, _ = run(capsys, "info", "--index", own.path)
    assert "tuned for nDCG@5 on 12 topics of " in out


def test_command_refuses_to_save_into_an_index_of_an_earlier_version(files, tmp_path, capsys):
    path = tmp_path / "old"
    with HybridIndex.build(path, DOCUMENTS[:40], ENCODER, bm25=False) as old:
        age(path, 2)
        code, out, err = run(capsys, *words(files, old, "--save"))
        assert (code, out) == (2, "")
        assert "earlier version" in err
        # Its plain score has weights to tune, though none to keep.
        code, out, err = run(capsys, *words(files, old, "--json"))
        assert code == 0, err
        assert list(json.loads(out)["weights"]) == ["dense", "lexical"]


def test_command_draws(files, index, capsys):
    from xml.etree import ElementTree

    plot = files / "weights.svg"
    assert run(capsys, *words(files, index, "--plot", plot))[0] == 0
    drawing = ElementTree.parse(plot).getroot()
    titles = [each.text for each in drawing.iter("{http://www.w3.org/2000/svg}title")]
    assert titles == [
        "nDCG@5 by weight",
        "Weight of dense",
        "Weight of lexical",
        "Weight of bm25",
    ]
    assert "difference from the best" in plot.read_text("utf-8")
    code, out, err = run(capsys, *words(files, index, "--plot", files / "weights.png"))
    assert (code, out) == (2, "")
    assert "ends in .svg" in err


@pytest.mark.parametrize(
    ("more", "fault"),
    [
        (["--save", "--fusion", "rrf"], "not those of rrf"),
        (["--idf-powers", "0,x"], "numbers separated by commas"),
        (["--rrf-ks", "", "--fusion", "rrf"], "numbers separated by commas"),
        (["--rrf-ks", "10,60"], "--rrf-ks goes with --fusion rrf"),
        (["--wait", "5"], "--wait goes with --save"),
        (["--measure", "bpref"], "cannot be tuned"),
        (["--norm", "z-score"], "sum normalises nothing"),
    ],
)
def test_command_refuses(files, index, capsys, more, fault):
    code, out, err = run(capsys, *words(files, index, *more))
    assert (code, out) == (2, "")
    assert err.count("\n") == 1
    assert fault in err


def test_command_refuses_what_does_not_go_together(files, index, capsys):
    qrels = ("--qrels", files / "qrels")
    for given, fault in (
        ([], "name two or more RUNs, or an --index"),
        ([files / "a", files / "b", "--save"], "--save goes with --index"),
        ([files / "a", files / "b", "--fusion", "sum"], "--fusion sum goes with --index"),
        ([files / "a", files / "b", "--precision", "fp32"], "--precision goes with --index"),
        ([files / "a", files / "b", "--wait", "5"], "--wait goes with --index"),
        ([files / "a", "--index", index.path], "RUNs and --index do not go together"),
        (["--index", index.path], "--index takes its topics from --queries"),
    ):
        code, out, err = run(capsys, "tune", *given, *qrels)
        assert (code, out) == (2, ""), given
        assert fault in err


def test_a_plot_of_a_weight_of_0_and_of_one_that_is_best_everywhere():
    flat = tuning.Topic(np.zeros((3, 1)), np.array([0]), np.array([1.0]), np.array([1.0]))
    rising = tuning.Topic(
        np.array([[1.0, 0], [0, 1], [0, 0.5]]), np.array([1]), np.array([1.0]), np.array([1.0])
    )
    for some, weights in (([flat], (0, 1, 0)), ([flat], (1, 2, 3)), ([rising], (1, 1, 0))):
        lines = lines_of(("<a>", "b & c", "d"), some, weights)
        drawn = [weight_plot(line, "P@1", None, n) for n, line in enumerate(lines)]
        text = stacked(drawn, "plot")
        assert "nan" not in text
        assert "inf" not in text.replace("infinite", "")
        assert "<a>" not in text
