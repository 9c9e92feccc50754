"""The plain records that pass between the rooms."""

from __future__ import annotations

import operator
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from scipy.sparse import csr_matrix


@dataclass(frozen=True, slots=True)
class Document:
    """A document. ``id`` is any non-empty string without white space; it is never parsed."""

    id: str
    title: str = ""
    text: str = ""

    @property
    def contents(self) -> str:
        """What is encoded: title and text with a space between, as BEIR does it."""
        return f"{self.title} {self.text}".strip()


@dataclass(frozen=True, slots=True)
class Query:
    """A topic: an id and its text."""

    id: str
    text: str


@dataclass(slots=True)
class Representations:
    """Both vectors of n texts.

    dense: float32 [n, d]. lexical: scipy CSR float32 [n, |V|], non-negative, column indices sorted,
    no stored zeros. ``truncated`` counts the texts that were cut at the encoder's length limit.
    """

    ids: list[str]
    dense: NDArray[np.float32]
    lexical: csr_matrix
    truncated: int = 0

    def __len__(self) -> int:
        return len(self.ids)


@dataclass(frozen=True, slots=True)
class EncoderInfo:
    """What makes two encoders the same one; stored in every manifest.

    ``weights_sha256`` is over the checkpoint's weights; ``vocabulary_sha256`` over its tokens in
    the order of their ids. Lengths are in tokens, special ones included. A top-k of 0 keeps all
    terms.
    """

    name: str
    weights_sha256: str
    vocabulary_sha256: str
    vocabulary_size: int
    dense_dim: int
    max_length: int = 256
    query_max_length: int = 64
    top_k: int = 0
    query_top_k: int = 0
    lexical_head: str = "mlm"
    activation: str = "log1p_relu"
    normalize: bool = True
    dense_weight: float = 1.0
    lexical_weight: float = 1.0
    prefix: str = ""
    query_prefix: str = ""

    def to_dict(self) -> dict[str, Any]:
        # Not dataclasses.asdict, which copies deeply: the values are plain, and every run has them.
        return {name: getattr(self, name) for name in self.__dataclass_fields__}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> EncoderInfo:
        """Ignore keys of later versions; raise TypeError for missing keys and wrong values."""
        known = {name: values[name] for name in cls.__dataclass_fields__ if name in values}
        for name, value in known.items():
            if not _fits(value, str(cls.__dataclass_fields__[name].type)):
                raise TypeError(f"{name} is {value!r}")
        return cls(**known)

    def same_vectors_as(self, other: EncoderInfo) -> bool:
        """Whether both give the same vectors: all fields but the name and the score's weights."""
        return not self.differences(other)

    def differences(self, other: EncoderInfo) -> list[str]:
        """The names of the fields that make the vectors others than ``other``'s."""
        ignored = {"name", "dense_weight", "lexical_weight"}
        mine, theirs = self.to_dict(), other.to_dict()
        return [key for key in mine if mine[key] != theirs[key] and key not in ignored]


def _fits(value: Any, kind: str) -> bool:
    """Whether a value out of JSON can be a field of that type; no number here is negative."""
    if kind == "str":
        return isinstance(value, str) and "\0" not in value and _is_text(value)
    if kind == "bool":
        return isinstance(value, bool)
    number = isinstance(value, int) or (kind == "float" and isinstance(value, float))
    return number and not isinstance(value, bool) and 0 <= value < 2**63


def _is_text(value: str) -> bool:
    """Whether it can be written as UTF-8: JSON's escapes can make half characters, which cannot."""
    return value.isascii() or not any("\ud800" <= c <= "\udfff" for c in value)


class Encoder(Protocol):
    """What the index and the search need of an encoder; DupMAEEncoder is one."""

    @property
    def info(self) -> EncoderInfo: ...

    @property
    def vocabulary(self) -> list[str]:
        """The tokens in the order of their ids, ``info.vocabulary_size`` of them."""
        ...

    def encode_documents(self, texts: list[str], ids: list[str] | None = None) -> Representations:
        """Texts as ``Document.contents`` gives them; ids default to "0", "1", …"""
        ...

    def encode_queries(self, texts: list[str], ids: list[str] | None = None) -> Representations: ...


@dataclass(frozen=True, slots=True)
class Hit:
    """One result of one query. ``dense`` and ``lexical`` are the completed parts of the score."""

    rank: int
    id: str
    score: float
    dense: float | None = None
    lexical: float | None = None
    title: str = ""
    text: str = ""


@dataclass(slots=True)
class Ranking:
    """The ranked list of one topic: ids and scores, best first, ties by id ascending."""

    ids: list[str]
    scores: np.ndarray  # float32 or float64 [n]

    def __len__(self) -> int:
        return len(self.ids)

    @classmethod
    def sorted(cls, ids: list[str], scores: np.ndarray) -> Ranking:
        """Order by score descending, then by id ascending (code points)."""
        scores = np.asarray(scores)
        order = falling_order(ids, scores)
        return cls([ids[i] for i in order.tolist()], scores[order])


@dataclass(slots=True)
class Run:
    """Ranked lists by topic id, in the order of the topics; topics without hits are kept, empty.

    ``metadata`` says how the run came about (mode, fusion, normalisation, what a missing score
    counts as, how ties break, encoder, index); it is written beside the TREC file as JSON.
    """

    topics: dict[str, Ranking] = field(default_factory=dict)
    tag: str = "dupmae"
    metadata: dict[str, Any] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.topics)

    def __iter__(self) -> Iterator[str]:
        return iter(self.topics)

    def __getitem__(self, topic: str) -> Ranking:
        return self.topics[topic]


def falling_order(ids: list[str], scores: np.ndarray) -> np.ndarray:
    """Positions by score descending, then by id ascending (code points).

    scores: finite floats [n]. Only ids with equal scores are compared.
    """
    order = np.argsort(-scores, kind="stable")
    falling = scores[order]
    same = falling[1:] == falling[:-1]
    if not same.any():
        return order
    # Most ties are of two, as of ranks in two lists: they are compared, not sorted.
    alone = same.copy()
    alone[1:] &= ~same[:-1]
    alone[:-1] &= ~same[1:]
    firsts = np.flatnonzero(alone)
    pairs = order[firsts], order[firsts + 1]
    names = [map(ids.__getitem__, side.tolist()) for side in pairs]
    turned = firsts[np.fromiter(map(operator.gt, *names), bool, len(firsts))]
    order[turned], order[turned + 1] = order[turned + 1], order[turned]
    more = np.flatnonzero(same & ~alone)
    if len(more):
        stand = np.zeros(len(ids), bool)
        stand[more] = stand[more + 1] = True
        # Where tied ones stand they stay, and are dealt out anew: by id, then by score without ado.
        by_id = np.array(sorted(order[stand].tolist(), key=ids.__getitem__))
        order[stand] = by_id[np.argsort(-scores[by_id], kind="stable")]
    return order
