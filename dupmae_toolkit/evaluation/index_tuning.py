"""The best weights of an index's own score, exactly, and checked by real searches.

A topic's candidates are the first documents of each part, with the scores of all parts completed
from what is stored. The weights that are found are then searched with: if any topic's value
differs from what its candidates gave, a document outside all lists took part, and the lists are
made four times as long.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from dupmae_toolkit.collection.qrels import Qrels
from dupmae_toolkit.errors import InputError
from dupmae_toolkit.evaluation import tuning
from dupmae_toolkit.evaluation.bootstrap import Interval, interval
from dupmae_toolkit.evaluation.line_search import EQUAL
from dupmae_toolkit.evaluation.measures import evaluate
from dupmae_toolkit.evaluation.part_rankings import judged_queries
from dupmae_toolkit.evaluation.query_weights import PerQuery, features_of, predicted_gain
from dupmae_toolkit.evaluation.rank_measures import RankMeasure, rank_measure
from dupmae_toolkit.evaluation.self_matches import without_self_matches
from dupmae_toolkit.evaluation.tuned import RRF_KS, settings
from dupmae_toolkit.evaluation.tuning_topics import Topic, topic_of
from dupmae_toolkit.fusing.fusion import Fusion
from dupmae_toolkit.progress import Progress, silent
from dupmae_toolkit.records import Representations
from dupmae_toolkit.search.answers import Request
from dupmae_toolkit.search.hybrid_index import HybridIndex
from dupmae_toolkit.search.queries import Queries

#: Values of a topic that differ by less are equal: both are sums of the same terms.
_SAME = 1e-9
_DEEPER = 4
#: How often the lists are made longer.
_TIMES = 4


@dataclass(frozen=True, slots=True)
class Setting:
    """What is chosen beside the weights: a fusion without weights, and the frequencies' power."""

    fusion: Fusion
    idf_power: float


@dataclass(frozen=True, slots=True)
class IndexTuned:
    """The weights of the parts of an index's score that are best for the topics given.

    fusion: with the weights, as `search` takes it. own: the mean with the index's own score.
    gain: of ``held_out`` over that, paired by topic. held_out, training_figure: see ``Tuned``.
    plateaus: for each part, the range in which its weight is as good while the others stay; the
    upper end may be infinite, None where no other part has a weight. starts: from how many places
    the weights were moved. depth: the length of the lists of candidates in the end; deepened: how
    often it was raised. differing: the topics whose searched ranking measures otherwise than their
    candidates, in the end; 0 but for ties that only float32 makes. left_out: see
    ``judged_queries``; missing: relevant documents that the index lacks. topics: the candidates.
    per_query: what predicted weights would gain, if asked for.
    """

    parts: tuple[str, ...]
    fusion: Fusion
    idf_power: float
    measure: str
    held_out: Interval
    training_figure: float
    own: Interval
    gain: Interval
    plateaus: tuple[tuple[float, float] | None, ...]
    starts: int
    folds: int
    depth: int
    deepened: int
    differing: int
    left_out: dict[str, int]
    missing: int
    topics: dict[str, Topic]
    per_query: PerQuery | None = None

    @property
    def weights(self) -> dict[str, float]:
        return dict(zip(self.parts, self.fusion.weights or (), strict=True))


class Candidates:
    """Makes the topics of an index under each setting, and searches with weights."""

    def __init__(
        self,
        index: HybridIndex,
        vectors: Representations,
        qrels: Qrels,
        measure: str,
        drop_self: bool = False,
        progress: Progress = silent,
    ) -> None:
        """vectors: of topics that are judged. Raises InputError for what cannot be tuned."""
        if index.manifest.passages is not None:
            raise InputError(
                f"{index.path}: holds passages, whose documents cannot be tuned exactly; search "
                "each part alone, and give the runs"
            )
        self._measure: RankMeasure = rank_measure(measure)
        if self._measure.cutoff is None:
            raise InputError(f"measure {measure}: name a cutoff, as in {measure}@100")
        self.index, self.vectors, self.measure = index, vectors, measure
        self.qrels = Qrels({name: qrels[name] for name in vectors.ids})
        self._drop_self, self._progress = drop_self, progress
        self.k = self._measure.cutoff + drop_self
        request = index.request(self.k)
        self.parts, self.own = request.parts, request.fusion.weights_for(len(request.parts))
        self.idf_power = request.idf_power
        if len(self.parts) < 2:
            raise InputError(f"{index.path}: its score has one part only; there is nothing to tune")
        #: By topic, those of ``query_weights``; filled with the topics.
        self.features: dict[float, dict[str, np.ndarray]] = {}

    def topics(
        self, settings: Sequence[Setting], depth: int, described: bool = False
    ) -> dict[Setting, dict[str, Topic]]:
        """Every topic with its candidates, for each setting.

        described: note ``features``, too, by the power of frequencies and the topic.
        """
        snapshot = self.index._snapshot
        made: dict[Setting, dict[str, Topic]] = {setting: {} for setting in settings}
        by_power: dict[float, list[Setting]] = {}
        for setting in settings:
            by_power.setdefault(setting.idf_power, []).append(setting)
        with self._progress("candidates", len(by_power) * len(self.vectors)) as advance:
            for power, several in by_power.items():
                request = self.request(Setting(Fusion("sum"), power), self.own, depth)
                inputs = self.index.inputs(self.vectors, request)
                engine = snapshot.engine(request.parts)
                for row, name in enumerate(self.vectors.ids):
                    one = {part: given[row : row + 1] for part, given in inputs.items()}
                    found = engine.candidates(one, request)
                    if described:
                        text = (self.vectors.texts or [])[row]
                        seen = self.features.setdefault(power, {})
                        seen[name] = features_of(text, found, snapshot.frequencies)
                    ids = snapshot.ids(found.documents)
                    order = sorted(range(len(ids)), key=ids.__getitem__)
                    if self._drop_self:
                        order = [n for n in order if ids[n] != name]
                    ids = [ids[n] for n in order]
                    for setting in several:
                        fusion = replace(setting.fusion, weights=(1.0,) * len(self.parts))
                        scores = np.stack(
                            fusion.contributions(found.scores, found.ranks, completed=True)
                        )
                        made[setting][name] = topic_of(
                            self._measure, self.qrels[name], ids, scores[:, order], single=True
                        )
                    advance(1)
        return made

    def request(self, setting: Setting, weights: Sequence[float], depth: int) -> Request:
        """What a search with a setting and weights asks of the index."""
        fusion = replace(setting.fusion, weights=tuple(weights))
        return self.index.request(
            self.k,
            "hybrid",
            fusion,
            max(depth, self.k),
            exact=fusion.is_sum,
            idf_power=setting.idf_power,
        )

    def searched(self, request: Request) -> np.ndarray:
        """The measure of each topic in a real search, float64 [topics]."""
        run = self.index.run(self.vectors, request, progress=self._progress)
        if self._drop_self:
            run = without_self_matches(run, self.k - 1)
        (values,) = evaluate(self.qrels, run, [self.measure]).per_topic.values()
        return np.array([values[name] for name in self.vectors.ids])

    def missing(self) -> int:
        """How many relevant documents the index does not hold."""
        return sum(
            not self.index._snapshot.has(name)
            for judged in self.qrels.values()
            for name in self._measure.gains(judged)
        )


def tune_index(
    index: HybridIndex,
    queries: Queries,
    qrels: Qrels,
    measure: str = "nDCG@10",
    *,
    fusion: str = "sum",
    norm: str | None = None,
    rrf_ks: Sequence[float] = RRF_KS,
    idf_powers: Sequence[float] | None = None,
    depth: int = 1000,
    folds: int = 5,
    seed: int = 1,
    drop_self: bool = False,
    per_query: bool = False,
    progress: Progress = silent,
) -> IndexTuned:
    """The weights of an index's parts with the highest mean of a measure, see ``tuning.tune``.

    measure: see ``rank_measures``, with a cutoff. fusion: ``sum``, the index's own score;
    ``linear``, with a norm; or ``rrf``. norm, rrf_ks: see ``tuned.tune``. idf_powers: those of the
    frequencies that are tried; None: the index's. depth: documents of each part's list. drop_self:
    leave out the document that has the topic's own id. per_query: also measure what a dense weight
    for each query would gain, see ``query_weights``. Everything is chosen inside the folds.
    Raises InputError for passages, for another measure, for topics that are not judged, and for
    more folds than topics.
    """
    queries, left_out = judged_queries(queries, qrels)
    vectors = index.vectors(queries)
    made = Candidates(index, vectors, qrels, measure, drop_self, progress)
    fusions = [Fusion("sum")] if fusion == "sum" else settings(fusion, norm, rrf_ks)
    if fusion == "sum" and norm is not None:
        raise InputError("fusion sum normalises nothing; use linear for a norm")
    powers = (made.idf_power,) if idf_powers is None else tuple(dict.fromkeys(idf_powers))
    if not powers:
        raise InputError("no idf power to choose from")
    if per_query and (fusion != "sum" or made.parts[0] != "dense" or vectors.texts is None):
        raise InputError(
            "weights per query (--per-query, per_query=True) are those of the dense part of a sum, "
            "predicted from the queries' texts; this has no such part, or no texts"
        )
    if depth < 1:
        raise InputError(f"depth is {depth}; it must be at least 1")
    tried = [Setting(each, float(power)) for power in powers for each in fusions]
    tuning.dealt(vectors.ids, folds, seed)  # refuses too many before the work
    own_setting = Setting(Fusion("sum"), made.idf_power)
    own = made.searched(made.request(own_setting, made.own, depth))
    given = [made.own] if fusion == "sum" else []
    for deepened in range(_TIMES + 1):
        by_setting = made.topics(tried, depth, per_query)
        setting, weights, _ = tuning.tune_setting(by_setting, given)
        topics = by_setting[setting]
        chosen = list(topics.values())
        short = tuning.rounded(chosen, scaled(weights, made.own if given else None))
        told = tuning.values_at(chosen, short)
        request = made.request(setting, short, depth)
        differ = np.abs(told - made.searched(request)) > _SAME
        if not differ.any() or depth >= len(index) or not request.fusion.is_sum:
            break
        if deepened < _TIMES:
            depth *= _DEEPER
    held = tuning.cross_validate(by_setting, folds, seed, given)
    values = np.array(list(held.values()))
    return IndexTuned(
        made.parts,
        request.fusion,
        setting.idf_power,
        measure,
        interval(values),
        float(told.mean()),
        interval(own),
        interval(values - own),
        tuple(tuning.plateaus(chosen, short)),
        len(tuning.starts(chosen, given)) if len(made.parts) > 2 else 1,
        folds,
        depth,
        deepened,
        int(differ.sum()),
        left_out,
        made.missing(),
        topics,
        predicted_gain(topics, made.features[setting.idf_power], folds, seed, given)
        if per_query
        else None,
    )


def scaled(weights: Sequence[float], own: Sequence[float] | None) -> list[float]:
    """The same ratios, so that the first part that both weigh keeps its weight of ``own``.

    Without ``own``, or without such a part, the largest is 1.
    """
    factor = 1 / max(weights)
    for weight, before in zip(weights, own or (), strict=False):
        if weight > EQUAL and before > 0:
            factor = before / weight
            break
    return [weight * factor for weight in weights]
