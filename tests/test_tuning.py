"""The exact tuner, against a grid of whole numbers and against trec_eval's measures."""

from __future__ import annotations

import json

import numpy as np
import pytest

from dupmae_toolkit import Qrels, fuse
from dupmae_toolkit.errors import InputError
from dupmae_toolkit.evaluation import tuning
from dupmae_toolkit.evaluation.measures import evaluate
from dupmae_toolkit.evaluation.tuning_topics import topics_of, values_at
from dupmae_toolkit.fusing.fusion import Fusion
from dupmae_toolkit.records import Ranking, Run
from tests.cli_support import run as command

GRID = 10_000


def made(seed, topics=6, documents=25, parts=2, largest=8):
    """Runs with whole scores and many ties, some documents missing, and graded judgements."""
    dice = np.random.default_rng(seed)
    ids = [f"d{n}" for n in range(documents)]
    qrels = {
        f"q{t}": {each: int(dice.integers(-1, 4)) for each in dice.choice(ids, 8, replace=False)}
        for t in range(topics)
    }
    runs = []
    for part in range(parts):
        run = Run(tag=str(part))
        for topic in qrels:
            held = list(dice.choice(ids, documents - 4, replace=False))
            run.topics[topic] = Ranking.as_trec_eval(
                held, dice.integers(0, largest, len(held)).astype(np.float64)
            )
        runs.append(run)
    return qrels, runs


def ranked(qrels, runs, numbers):
    """The fused run, in whole numbers, so that equal scores are equal."""
    run = Run(tag="fused")
    for topic in qrels:
        sums = {}
        for each, number in zip(runs, numbers, strict=True):
            ranking = each.topics[topic]
            for name, score in zip(ranking.ids, ranking.scores.tolist(), strict=True):
                sums[name] = sums.get(name, 0) + number * int(score)
        ids = sorted(sums, key=lambda name: (sums[name], name), reverse=True)
        run.topics[topic] = Ranking(ids, np.arange(len(ids), 0, -1.0))
    return run


@pytest.mark.parametrize("measure", ["nDCG@10", "nDCG@3", "R@5", "P@4"])
@pytest.mark.parametrize("weights", [(1, 0), (0, 1), (3, 7), (1, 1)])
def test_values_are_those_of_eval(measure, weights):
    qrels, runs = made(1)
    found = tuning.values_at(list(tuning.topics_of(qrels, runs, measure).values()), weights)
    expected = evaluate(qrels, ranked(qrels, runs, weights), [measure]).per_topic[measure]
    assert found == pytest.approx(list(expected.values()), abs=1e-12)


@pytest.mark.parametrize("seed", range(12))
def test_never_below_a_grid(seed):
    qrels, runs = made(seed, topics=1 + seed % 4, largest=3 + 10 * (seed % 3))
    topics = list(tuning.topics_of(qrels, runs, "nDCG@5").values())
    grid = max(
        float(tuning.values_at(topics, (GRID - step, step)).mean()) for step in range(GRID + 1)
    )
    weights, optimum = tuning.tune(topics)
    assert optimum.value >= grid - 1e-12
    # The optimum is real: the middle, and a plateau's places near its ends, have that value.
    assert weights == pytest.approx([1 - optimum.weight, optimum.weight])
    if optimum.high - optimum.low > 1e-9:
        for share in (0.001, 0.5, 0.999):
            w = optimum.low + share * (optimum.high - optimum.low)
            assert tuning.values_at(topics, (1 - w, w)).mean() == pytest.approx(optimum.value)


def test_a_single_point_counts():
    # At w = 1/2 all are equal and c, the relevant one, comes first by its id; nowhere else.
    qrels = {"q": {"c": 1}}
    runs = [
        Run(
            tag="x", topics={"q": Ranking.as_trec_eval(["c", "b", "a"], np.array([2.0, 3.0, 1.0]))}
        ),
        Run(
            tag="y", topics={"q": Ranking.as_trec_eval(["c", "b", "a"], np.array([2.0, 1.0, 3.0]))}
        ),
    ]
    topics = list(tuning.topics_of(qrels, runs, "P@1").values())
    assert tuning.tune(topics)[1] == tuning.Optimum(1.0, 0.5, 0.5, 0.5)


def test_three_parts_end_where_no_single_weight_gains():
    qrels, runs = made(4, parts=3)
    topics = list(tuning.topics_of(qrels, runs).values())
    weights, optimum = tuning.tune(topics)
    assert sum(weights) == pytest.approx(1)
    assert min(weights) >= 0
    reached = tuning.values_at(topics, weights).mean()
    assert reached == pytest.approx(optimum.value)
    assert reached >= tuning.values_at(topics, (1, 1, 1)).mean()
    for part in range(3):
        rest = np.array(weights)
        rest[part] = 0
        for w in np.linspace(0, 1, 201):
            moved = rest / rest.sum() * (1 - w) + np.eye(3)[part] * w
            assert tuning.values_at(topics, moved).mean() <= reached + 1e-9


def test_cross_validation_keeps_a_topic_out_of_its_own_weights():
    qrels, runs = made(9, topics=4)
    topics = tuning.topics_of(qrels, runs)
    found = tuning.cross_validate({"none": topics}, folds=4)
    for name in topics:
        weights, _ = tuning.tune([topic for other, topic in topics.items() if other != name])
        assert found[name] == tuning.values_at([topics[name]], weights)[0]


def test_topics_without_candidates_or_gains_count_as_0():
    qrels, runs = made(2, topics=2)
    more = qrels | {"empty": {"d1": 1}, "none": {"d1": 0}}
    few = list(tuning.topics_of(qrels, runs).values())
    all_of = list(tuning.topics_of(more, runs).values())
    assert tuning.tune(all_of)[1].value == pytest.approx(tuning.tune(few)[1].value / 2)
    assert tuning.tune([all_of[-1]])[1] == tuning.Optimum(0.0, 0.5, 0.0, 1.0)


def test_refusals():
    qrels, runs = made(2)
    with pytest.raises(InputError, match="cannot be tuned"):
        tuning.topics_of(qrels, runs, "bpref")
    with pytest.raises(InputError, match="two or more runs"):
        tuning.tune(list(tuning.topics_of(qrels, runs[:1]).values()))
    with pytest.raises(InputError, match="folds"):
        tuning.cross_validate({"none": tuning.topics_of(qrels, runs)}, folds=7)


@pytest.fixture
def files(tmp_path):
    qrels, runs = made(3, topics=10)
    lines = [f"{t} 0 {d} {g}" for t, judged in qrels.items() for d, g in judged.items()]
    (tmp_path / "qrels").write_text("\n".join(lines) + "\n")
    for name, run in zip("ab", runs, strict=True):
        rows = [
            f"{t} Q0 {d} {rank} {score} {name}"
            for t, ranking in run.topics.items()
            for rank, (d, score) in enumerate(zip(ranking.ids, ranking.scores, strict=True), 1)
        ]
        (tmp_path / name).write_text("\n".join(rows) + "\n")
    return tmp_path


def test_command_gives_weights_that_fuse_takes(files, capsys):
    words = ("tune", files / "a", files / "b", "--qrels", files / "qrels")
    code, out, _ = command(capsys, *words, "--json", "--training-figure")
    found = json.loads(out)
    assert code == 0
    assert list(found["weights"]) == [str(files / "a"), str(files / "b")]
    assert found["measure"] == "nDCG@10"
    assert found["interval"][0] <= found["value"] <= found["interval"][1]
    weights = ",".join(map(repr, found["weights"].values()))
    more = ("--method", "linear", "--norm", found["norm"], "--weights", weights)
    fused = files / "fused"
    command(capsys, "fuse", files / "a", files / "b", *more, "--output", fused)
    _, out, _ = command(capsys, "eval", fused, "--qrels", files / "qrels", "--json")
    value = json.loads(out)["runs"][0]["measures"]["nDCG@10"]
    assert value == pytest.approx(found["training_figure"], abs=1e-9)


def test_command_keeps_the_training_figure_to_itself(files, capsys):
    words = ("tune", files / "a", files / "b", "--qrels", files / "qrels", "--norm", "min-max")
    _, out, _ = command(capsys, *words, "--json")
    assert "training_figure" not in json.loads(out)
    _, out, _ = command(capsys, *words)
    assert "held out" in out
    assert "training" not in out
    assert command(capsys, *words, "--training-figure")[1].count("training figure") == 1


@pytest.mark.parametrize(
    ("more", "fault"),
    [(["--measure", "bpref"], "cannot be tuned"), (["--folds", "11"], "11 folds of 10 topics")],
)
def test_command_refuses(files, capsys, more, fault):
    words = ("tune", files / "a", files / "b", "--qrels", files / "qrels", *more)
    code, out, err = command(capsys, *words)
    assert code == 2
    assert not out
    assert fault in err


def test_command_leaves_out_the_topics_own_documents(tmp_path, capsys):
    # Each topic is a document that answers itself best; run b alone is right about the rest.
    (tmp_path / "qrels").write_text("".join(f"q{n} 0 d{n} 1\n" for n in range(4)))
    for name, scores in (("a", (9, 1, 2)), ("b", (3, 2, 1))):
        rows = [
            f"q{n} Q0 {each} 0 {score} {name}\n"
            for n in range(4)
            for each, score in zip((f"q{n}", f"d{n}", "x"), scores, strict=True)
        ]
        (tmp_path / name).write_text("".join(rows))
    words = ("tune", tmp_path / "a", tmp_path / "b", "--qrels", tmp_path / "qrels", "--json")
    words = (*words, "--measure", "P@1", "--folds", 2, "--norm", "none")
    assert json.loads(command(capsys, *words)[1])["value"] == 0
    code, out, err = command(capsys, *words, "--drop-self")
    assert code == 0
    assert json.loads(out)["value"] == 1
    assert "own id are left out" in err


def test_command_refuses_one_run(files, capsys):
    code, _, err = command(capsys, "tune", files / "a", "--qrels", files / "qrels")
    assert code == 2
    assert "two or more" in err


def test_places_that_rounding_tells_apart_give_no_optimum_that_no_ranking_has():
    topic = tuning.Topic(
        np.array([[0.2, 0, 0.5, 0.3], [0.3, 0.7, 0.2, 0.4]]),
        np.array([3]),
        np.array([1.0]),
        np.array([1.0]),
    )
    found = tuning.best_weight(tuning.TopicSet([topic]), *topic.scores)
    assert found.value == 0.0  # it is never first


@pytest.mark.parametrize("decimals", [1, 2, 6])
def test_the_optimum_is_what_its_weight_gives_and_no_other_weight_gives_more(decimals):
    generator = np.random.default_rng(decimals)
    for _ in range(60):
        topics = []
        for _ in range(generator.integers(1, 4)):
            scores = np.round(generator.random((2, 6)), decimals)
            relevant = np.flatnonzero(generator.random(6) < 0.4)
            gains = generator.integers(1, 3, len(relevant)).astype(float)
            topics.append(tuning.Topic(scores, relevant, gains, 1 / np.log2(np.arange(2, 5))))
        together = tuning.TopicSet(topics)
        found = tuning.best_weight(together, *together.scores)
        there = tuning.values_at(topics, [1 - found.weight, found.weight]).mean()
        assert found.value == pytest.approx(there, abs=1e-12)
        # Between the weights at which scores are equal, there is no question of rounding.
        for w in (np.arange(500) + 0.3719) / 500.731:
            assert tuning.values_at(topics, [1 - w, w]).mean() <= found.value + 1e-12


def test_sums_that_are_equal_as_float32_are_equal_as_fuse_has_them():
    first = Run({"q": Ranking(["d1", "d2"], [1.0, 0.0])})
    second = Run({"q": Ranking(["d2", "d1"], [0.99999999, 0.0])})
    qrels = {"q": {"d1": 1}}
    topics = list(topics_of(Qrels(qrels), [first, second]).values())
    fused = fuse([first, second], Fusion("linear", (0.5, 0.5), "none"))
    measured = evaluate(qrels, fused, ["nDCG@10"]).means["nDCG@10"]
    assert values_at(topics, [0.5, 0.5]).mean() == pytest.approx(measured)
    assert measured == pytest.approx(0.6309, abs=1e-4)
