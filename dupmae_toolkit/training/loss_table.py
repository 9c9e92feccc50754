"""The fine-tuning losses by their names in a recipe; losses.py computes them."""

from __future__ import annotations

from typing import NamedTuple

JOINT = "joint"  #: the weighted sum of the parts' scores, with BM25 if the recipe says so
PARTS = ("lexical", "dense")
SCORES = (JOINT, *PARTS)


class Loss(NamedTuple):
    """What a loss computes, and on which score.

    kind: ``contrastive`` (cross-entropy of the positive); ``aggretriever`` (that of the joint score
        and of each part); ``kl`` and ``margin`` (KL divergence and MarginMSE from the scores in the
        data); ``self`` (KL from the joint score); ``teacher`` (KL from the teachers' scores);
        ``vector`` (1 - cosine with a teacher's dense vector); ``terms`` (relative squared error of
        the lexical vector against a teacher's).
    part: the score that it trains, one of SCORES.
    """

    kind: str
    part: str

    @property
    def parts(self) -> tuple[str, ...]:
        """The parts of the score that it reads: its own, or both if it reads the joint score.

        BM25 is no part here: nothing in it is learned.
        """
        return PARTS if self.part == JOINT or self.kind == "self" else (self.part,)

    @property
    def on_scores(self) -> bool:
        """Whether it is computed from scores, not from single vectors."""
        return self.kind not in ("vector", "terms")

    @property
    def needs_scores(self) -> bool:
        """Whether it needs scores in the data."""
        return self.kind in ("kl", "margin")

    @property
    def needs_teachers(self) -> bool:
        """Whether it needs the outputs of the recipe's teachers."""
        return self.kind in ("teacher", "vector", "terms")


#: Every loss that a recipe may name.
LOSSES = {
    **{score: Loss("contrastive", score) for score in SCORES},
    "aggretriever": Loss("aggretriever", JOINT),
    **{f"{kind}_{score}": Loss(kind, score) for kind in ("kl", "margin") for score in SCORES},
    **{f"self_{part}": Loss("self", part) for part in PARTS},
    **{f"teacher_{score}": Loss("teacher", score) for score in SCORES},
    "teacher_vector": Loss("vector", "dense"),
    "teacher_terms": Loss("terms", "lexical"),
}
