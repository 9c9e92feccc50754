"""How the score of an index is fitted to its corpus: frequencies, BM25, and the parts' weights.

The fitted score is weights · (dense, lexical, bm25). In its lexical part, the weight of a query's
token is multiplied by (idf / mean idf) ^ ``idf_power``, see ``search/frequencies.py``. The plain
score, as the encoder was trained for, has neither factors nor BM25.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from dupmae_toolkit.errors import DupMAEError
from dupmae_toolkit.index import stated
from dupmae_toolkit.index.words import Bm25
from dupmae_toolkit.records import EncoderInfo

IDF_POWER = 1.0
#: BM25's weight in the fitted score of an encoder for which none were chosen.
BM25_WEIGHT = 1.0


@dataclass(frozen=True, slots=True)
class Origin:
    """What an index's weights were tuned on: a measure, a set of queries, how many topics."""

    measure: str
    queries: str
    topics: int

    def to_dict(self) -> dict[str, Any]:
        return {"measure": self.measure, "queries": self.queries, "topics": self.topics}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Origin:
        """Raises as ``Scoring.from_dict`` does."""
        texts = [stated.text(values, key) for key in ("measure", "queries")]
        return cls(texts[0], texts[1], stated.integer(values, "topics"))


@dataclass(frozen=True, slots=True)
class Scoring:
    """The fitted score of an index.

    weights: of dense, lexical and bm25; the last is 0 without BM25. bm25: None if it was left out.
    origin: None: the weights are the encoder's.
    """

    weights: tuple[float, float, float]
    idf_power: float = IDF_POWER
    bm25: Bm25 | None = None
    origin: Origin | None = None

    @classmethod
    def of(cls, encoder: EncoderInfo, bm25: Bm25 | None) -> Scoring:
        """The score for an encoder; its weights were chosen with BM25, and hold only with it."""
        dense, lexical = encoder.dense_weight, encoder.lexical_weight
        if bm25 is None:
            return cls((dense, lexical, 0.0))
        if encoder.fitted_weights:
            dense, lexical, words = encoder.fitted_weights
            return cls((dense, lexical, words), bm25=bm25)
        return cls((dense, lexical, BM25_WEIGHT), bm25=bm25)

    def tuned_as(self, other: Scoring) -> Scoring:
        """This score with the weights of another that was tuned; without BM25, its weight is 0."""
        dense, lexical, words = other.weights
        weights = dense, lexical, words if self.bm25 else 0.0
        return replace(self, weights=weights, idf_power=other.idf_power, origin=other.origin)

    def to_dict(self) -> dict[str, Any]:
        """As JSON gives it back."""
        values: dict[str, Any] = {
            "weights": dict(zip(("dense", "lexical", "bm25"), self.weights, strict=True)),
            "frequencies": {"function": "idf", "power": self.idf_power},
            "bm25": self.bm25.to_dict() if self.bm25 else None,
        }
        if self.origin is not None:
            values["origin"] = self.origin.to_dict()
        return values

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Scoring:
        """Raises ValueError, KeyError or TypeError for anything that ``to_dict`` does not give."""
        weights = stated.numbers(dict(values["weights"]))
        frequencies = values["frequencies"]
        if frequencies["function"] != "idf":
            raise ValueError(f"there is no function of frequencies {frequencies['function']!r}")
        power = stated.numbers({"power": frequencies["power"]})["power"]
        given = values["bm25"]
        bm25 = None
        if given is not None:
            mean, k1 = stated.positive(given, "mean_length"), stated.positive(given, "k1")
            b = float(stated.numbers({"b": given["b"]})["b"])
            if b > 1:
                raise ValueError(f"b is {b!r}")
            bm25 = Bm25(mean, k1, b)
        parts = tuple(float(weights[part]) for part in ("dense", "lexical", "bm25"))
        dense, lexical, words = parts
        origin = Origin.from_dict(values["origin"]) if "origin" in values else None
        return cls((dense, lexical, words), float(power), bm25, origin)


def with_fitted_weights(info: EncoderInfo) -> EncoderInfo:
    """``info`` with the fitted weights that its checkpoint states; manifests of old lack them.

    Unchanged if the checkpoint is not on this machine, or gives other vectors by now.
    """
    if info.fitted_weights or not (info.name == "builtin" or Path(info.name).is_dir()):
        return info
    from dupmae_toolkit.model.loading import load_encoder

    try:
        now = load_encoder(
            info.name,
            device="cpu",
            max_length=info.max_length,
            top_k=info.top_k,
            query_top_k=info.query_top_k,
            pooling=info.pooling if info.pooling in ("cls", "none") else None,
        ).info
    except (DupMAEError, OSError):
        return info
    return info if info.differences(now) else replace(info, fitted_weights=now.fitted_weights)
