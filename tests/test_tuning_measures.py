"""The exact tuner with every measure that it takes, with rrf, and where many scores are equal."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from dupmae_toolkit.errors import InputError
from dupmae_toolkit.evaluation import tuning
from dupmae_toolkit.evaluation.line_search import curve
from dupmae_toolkit.evaluation.measures import evaluate
from dupmae_toolkit.evaluation.rank_measures import COUNTED, EACH, FIRST, rank_measure
from dupmae_toolkit.evaluation.topic_sets import TopicSet
from dupmae_toolkit.evaluation.tuned import tune
from dupmae_toolkit.evaluation.tuning_topics import Topic
from dupmae_toolkit.fusing.fuse import fuse
from dupmae_toolkit.fusing.fusion import Fusion
from tests.test_tuning import GRID, made, ranked

MEASURES = (
    "nDCG",
    "nDCG@5",
    "R@5",
    "R(rel=2)@5",
    "P@4",
    "P(rel=3)@4",
    "RR",
    "RR@5",
    "RR(rel=2)@3",
    "AP",
    "AP@5",
    "AP(rel=2)@7",
    "Success@3",
    "Success(rel=2)@3",
    "RBP(rel=1)@5",
    "RBP(rel=2,p=0.5)",
)


@pytest.mark.parametrize("measure", MEASURES)
def test_values_are_those_of_eval(measure):
    for seed in range(3):
        qrels, runs = made(seed)
        topics = list(tuning.topics_of(qrels, runs, measure).values())
        for weights in ((1, 0), (0, 1), (3, 7), (1, 1)):
            found = tuning.values_at(topics, weights)
            run = ranked(qrels, runs, weights)
            expected = evaluate(qrels, run, [measure]).per_topic
            (values,) = expected.values()
            assert found == pytest.approx(list(values.values()), abs=1e-12)


@pytest.mark.parametrize("measure", ["RR@5", "AP@10", "AP", "Success@2", "RR(rel=2)"])
@pytest.mark.parametrize("seed", range(3))
def test_never_below_a_grid(measure, seed):
    qrels, runs = made(seed + 20, topics=2, largest=3 + 40 * seed)
    topics = list(tuning.topics_of(qrels, runs, measure).values())
    grid = max(
        float(tuning.values_at(topics, (GRID - step, step)).mean())
        for step in range(0, GRID + 1, 4)
    )
    weights, optimum = tuning.tune(topics)
    assert optimum.value >= grid - 1e-12
    assert tuning.values_at(topics, weights).mean() == pytest.approx(optimum.value, abs=1e-12)


@pytest.mark.parametrize("kind", [EACH, FIRST, COUNTED])
def test_what_is_left_out_of_a_topic_changes_no_value(kind):
    dice = np.random.default_rng(5)
    less = 0
    for _ in range(60):
        parts, n = int(dice.integers(2, 4)), int(dice.integers(1, 40))
        scores = dice.integers(0, 6, (parts, n)).astype(float)
        relevant = np.flatnonzero(dice.random(n) < 0.2)
        whole = Topic(
            scores,
            relevant,
            dice.random(len(relevant)),
            1 / np.arange(1.0, dice.integers(2, 9)),
            kind,
        )
        few = whole.reduced()
        less += whole.scores.shape[1] - few.scores.shape[1]
        for weights in [*np.eye(parts), np.ones(parts), *dice.integers(0, 4, (6, parts))]:
            if not any(weights):
                continue
            assert few.value(weights) == pytest.approx(whole.value(weights), abs=1e-12)
    assert less > 100


def test_measures_that_are_no_sums_over_relevant_documents_are_refused():
    for name in (
        "bpref",
        "infAP",
        "Judged@10",
        "NumRet",
        "ERR@10",
        "RBP@10",
        "nDCG(judged_only=True)@5",
    ):
        with pytest.raises(InputError, match="cannot be tuned exactly; choose one of nDCG@k"):
            rank_measure(name)
    with pytest.raises(InputError, match="not known"):
        rank_measure("nonsense@10")


def brute(topics):
    """The best mean at every point where any two scores are equal, and between these points."""
    places = {0.0, 1.0}
    for topic in topics:
        a, b = topic.scores
        p, q = a[:, None] - a, b[:, None] - b
        with np.errstate(all="ignore"):
            found = p / (p - q)
        places |= set(found[(found > 0) & (found < 1)].tolist())
    inner = sorted(places)
    between = [(low + high) / 2 for low, high in itertools.pairwise(inner)]
    return max(tuning.values_at(topics, (1 - w, w)).mean() for w in [*inner, *between])


@pytest.mark.parametrize("decimals", [1, 2])
def test_points_at_which_many_scores_are_equal_are_found(decimals):
    # The scores are decimal fractions, so that places which are one differ by rounding.
    dice = np.random.default_rng(decimals)
    for _ in range(150):
        topics = []
        for _ in range(dice.integers(1, 4)):
            scores = np.round(dice.random((2, 6)), decimals)
            relevant = np.flatnonzero(dice.random(6) < 0.4)
            gains = dice.integers(1, 3, len(relevant)).astype(float)
            topics.append(Topic(scores, relevant, gains, 1 / np.log2(np.arange(2, 5))))
        found = tuning.tune(topics)[1]
        assert found.value >= brute(topics) - 1e-12


def test_a_curve_has_the_mean_of_every_weight():
    qrels, runs = made(6, largest=50)
    topics = list(tuning.topics_of(qrels, runs, "AP@10").values())
    found = curve(TopicSet(topics), *TopicSet(topics).scores)
    assert found.lows[0] == 0
    assert found.highs[-1] == 1
    assert (found.highs[:-1] == found.lows[1:]).all()
    wide = np.flatnonzero(found.highs - found.lows > 1e-9)
    for place in wide:
        w = (found.lows[place] + found.highs[place]) / 2
        assert tuning.values_at(topics, (1 - w, w)).mean() == pytest.approx(found.means[place])
        low, high = found.around(w)
        assert low <= found.lows[place]
        assert high >= found.highs[place]


def test_plateaus_and_short_weights_give_the_same_value():
    qrels, runs = made(8, parts=3, largest=60)
    topics = list(tuning.topics_of(qrels, runs).values())
    weights, optimum = tuning.tune(topics)
    short = tuning.rounded(topics, [70 * weight / weights[0] for weight in weights])
    assert tuning.values_at(topics, short).mean() >= optimum.value - 1e-12
    assert max(len(f"{weight:g}") for weight in short) < 8
    for part, (low, high) in enumerate(tuning.plateaus(topics, short)):
        assert low <= short[part] <= high
        for share in (0.01, 0.5, 0.99):
            moved = list(short)
            moved[part] = low + share * (min(high, 1e6) - low)
            if high - low > 1e-6:
                assert tuning.values_at(topics, moved).mean() >= optimum.value - 1e-12


def test_more_starts_never_end_lower():
    for seed in range(4):
        qrels, runs = made(seed, parts=3, topics=3)
        topics = list(tuning.topics_of(qrels, runs).values())
        together = tuning.TopicSet(topics)
        ends = [tuning._climb(together, start)[1].value for start in tuning.starts(topics)]
        assert len(ends) >= 4  # equal, and each part alone
        assert tuning.tune(topics)[1].value == pytest.approx(max(ends))
        given = tuning.tune(topics, [(5, 2, 1)])[1].value
        assert given >= max(ends) - 1e-12


def test_rrf_is_tuned_with_its_k_and_fuse_gives_that_value():
    qrels, runs = made(11, topics=8, largest=300)
    tuned = tune(qrels, runs, "nDCG@5", folds=4, fusion="rrf", rrf_ks=(1, 60))
    assert tuned.fusion.method == "rrf"
    assert tuned.fusion.rrf_k in (1, 60)
    fused = fuse(runs, tuned.fusion)
    value = evaluate(qrels, fused, ["nDCG@5"]).means["nDCG@5"]
    assert value == pytest.approx(tuned.training_figure, abs=1e-9)
    for k in (1, 60):
        for step in range(101):
            fusion = Fusion("rrf", (1 - step / 100, step / 100), rrf_k=k)
            topics = tuning.topics_of(qrels, runs, "nDCG@5", fusion)
            grid = tuning.values_at(list(topics.values()), fusion.weights).mean()
            assert grid <= tuned.training_figure + 1e-12


def test_settings_that_make_no_sense_are_refused():
    qrels, runs = made(1)
    for given, fault in (
        ({"fusion": "borda"}, "choose linear or rrf"),
        ({"fusion": "rrf", "norm": "min-max"}, "rrf normalises nothing"),
        ({"fusion": "rrf", "rrf_ks": ()}, "no k"),
        ({"fusion": "rrf", "rrf_ks": (0,)}, "more than 0"),
    ):
        with pytest.raises(InputError, match=fault):
            tune(qrels, runs, **given)
