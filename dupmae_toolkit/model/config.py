"""The settings of a DupMAE encoder beyond its backbone; stored in config.json under ``dupmae``."""

from __future__ import annotations

import difflib
import math
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

from dupmae_toolkit.errors import InputError

ACTIVATIONS = ("log1p_relu", "relu", "log1p_log1p_relu")
LEXICAL_HEADS = ("mlm", "projection", "tokens", "none")
#: The settings that term weights are computed by.
_MAKE_WEIGHTS = ("lexical_head", "activation")


@dataclass(frozen=True, slots=True)
class DupMAEConfig:
    """The choices that the paper leaves open, and the two weights of the joint score.

    lexical_head: ``mlm`` applies the whole masked-LM head to each token, as the authors' code does;
        ``projection`` multiplies hidden states directly with the vocabulary matrix (the paper's
        W·h); ``tokens`` gives the tokens of a text weights of their own, as BGE-M3 does, and cannot
        be trained here; ``none`` for an encoder without a lexical vector.
    activation: of the pooled logits; ``log1p_relu`` is log(1 + ReLU(x)), as in SPLADE;
        ``log1p_log1p_relu`` takes the logarithm twice, as in OpenSearch's encoders.
    top_k, query_top_k: the number of terms kept, 0 for all. The paper keeps 384 of a document and
        all of a query.
    dense_dim: width of the projection of [CLS]; 0 for no projection.
    normalize: whether the dense vector is scaled to length one.
    dense_weight, lexical_weight: plain score = dense_weight · dense + lexical_weight · lexical.
    fitted_weights: of dense, lexical and bm25 in the fitted score, where query weights are
        multiplied by document frequencies' factors and BM25 is added; empty where none were chosen.
    max_length, query_max_length: in tokens, special ones included; loading limits both to the
        backbone's positions. The default for queries holds those that are whole texts.
    prefix, query_prefix: prepended to every text; no space is added.
    largest_weight: the weight of a term in a document that becomes the largest impact; larger ones
        are clipped. See model/largest_weight.py. 0: not known; each index measures its own.
    """

    lexical_head: str = "mlm"
    activation: str = "log1p_relu"
    top_k: int = 384
    query_top_k: int = 0
    dense_dim: int = 0
    normalize: bool = False
    dense_weight: float = 1.0
    lexical_weight: float = 1.0
    max_length: int = 256
    query_max_length: int = 512
    prefix: str = ""
    query_prefix: str = ""
    fitted_weights: tuple[float, ...] = ()
    largest_weight: float = 0.0

    def __post_init__(self) -> None:
        if self.activation not in ACTIVATIONS:
            raise InputError(f"activation {self.activation!r}: choose one of {list(ACTIVATIONS)}")
        if self.lexical_head not in LEXICAL_HEADS:
            raise InputError(
                f"lexical_head {self.lexical_head!r}: choose one of {list(LEXICAL_HEADS)}"
            )
        for key in ("top_k", "query_top_k", "dense_dim"):
            self._check(key, _is_whole(getattr(self, key), 0), "give 0 or a positive number")
        for key in ("max_length", "query_max_length"):
            self._check(key, _is_whole(getattr(self, key), 3), "at least 3 tokens are needed")
        for key in ("dense_weight", "lexical_weight", "largest_weight"):
            self._check(key, _is_weight(getattr(self, key)), "give 0 or a positive number")
        if isinstance(self.fitted_weights, list):  # as JSON and YAML give it
            object.__setattr__(self, "fitted_weights", tuple(self.fitted_weights))
        weights = self.fitted_weights
        good = isinstance(weights, tuple) and len(weights) in (0, 3)
        good = good and all(map(_is_weight, weights)) and (not weights or any(weights))
        self._check("fitted_weights", good, "give three weights: dense, lexical, bm25")
        for key in ("prefix", "query_prefix"):
            self._check(key, isinstance(getattr(self, key), str), "give a string")
        self._check("normalize", isinstance(self.normalize, bool), "give true or false")

    def _check(self, key: str, good: bool, remedy: str) -> None:
        if not good:
            raise InputError(f"{key} {getattr(self, key)!r}: {remedy}")

    @classmethod
    def from_dict(cls, values: Mapping[str, Any] | None) -> DupMAEConfig:
        """Read a checkpoint's settings; keys that this version does not know are ignored."""
        if not isinstance(values or {}, Mapping):
            raise InputError(f"dupmae is {values!r}: a mapping of settings is needed")
        known = {k: v for k, v in (values or {}).items() if k in cls.__dataclass_fields__}
        return cls(**known)

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    def but(self, **changes: Any) -> DupMAEConfig:
        """A copy with some fields changed; None leaves a field as it is.

        The largest weight is that of one head and one activation: with another of either it is not
        known, unless it is given too.
        """
        self.refuse_unknown(changes)
        given = {k: v for k, v in changes.items() if v is not None}
        if any(given.get(k, getattr(self, k)) != getattr(self, k) for k in _MAKE_WEIGHTS):
            given.setdefault("largest_weight", 0.0)
        return replace(self, **given)

    @classmethod
    def refuse_unknown(cls, keys: Iterable[object]) -> None:
        """Raise InputError for the first of ``keys`` that is not a field; name the closest one."""
        known = list(cls.__dataclass_fields__)
        for key in keys:
            if key not in known:
                near = difflib.get_close_matches(str(key), known, 1)
                hint = f"did you mean {near[0]!r}?" if near else f"choose from {', '.join(known)}"
                raise InputError(f"an encoder has no setting {key!r}; {hint}")


def _is_whole(value: Any, least: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= least


def _is_weight(value: Any) -> bool:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return number and math.isfinite(value) and value >= 0
