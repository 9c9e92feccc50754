"""The plain records that all parts of the toolkit exchange."""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from dupmae_toolkit.runs import Ranking, Run, falling_order

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from scipy.sparse import csr_matrix

__all__ = [
    "Document",
    "Encoder",
    "EncoderInfo",
    "Hit",
    "Passage",
    "Query",
    "Ranking",
    "Representations",
    "Run",
    "as_json",
    "falling_order",
    "is_blank",
]


class Passage(NamedTuple):
    """The place of a passage in its document: its number, from 0, and its span in the text.

    start, end: code points; the passage is ``text[start:end]``.
    """

    number: int
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Document:
    """A document. ``id`` is any string that ``check_id`` allows; it is never parsed.

    metadata: its other fields by name, with their types. passage: where ``text`` is only a passage
    of the document, which one; None where it is the whole text.
    """

    id: str
    title: str = ""
    text: str = ""
    metadata: Mapping[str, Any] = field(default_factory=dict, hash=False)
    passage: Passage | None = None

    @property
    def contents(self) -> str:
        """The text to encode: title and text joined by a space, as in BEIR."""
        return f"{self.title} {self.text}".strip()


@dataclass(frozen=True, slots=True)
class Query:
    """A topic: an id and its text."""

    id: str
    text: str


@dataclass(slots=True)
class Representations:
    """The dense and the lexical vectors of n texts.

    dense: float32 [n, d]. lexical: scipy CSR float32 [n, |V|], non-negative, column indices sorted,
    no stored zeros. ``texts``: of queries, for the words that BM25 counts; None if they are not
    known. ``truncated`` counts the texts that were cut at ``max_length`` tokens, special ones
    included; the encoder could have kept ``room`` of them. ``precision`` is that of the products,
    ``bf16`` or ``fp32``. None: not known.
    """

    ids: list[str]
    dense: NDArray[np.float32]
    lexical: csr_matrix
    truncated: int = 0
    texts: list[str] | None = None
    max_length: int | None = None
    precision: str | None = None
    room: int | None = None

    def __len__(self) -> int:
        return len(self.ids)


@dataclass(frozen=True, slots=True)
class EncoderInfo:
    """An encoder's identity and settings; stored in every manifest.

    ``weights_sha256`` is the hash of the checkpoint's weights; ``vocabulary_sha256`` that of its
    tokens in the order of their ids. Lengths are in tokens, including special ones. A top-k of 0
    keeps all terms. ``dense_weight`` and ``lexical_weight`` are those of the plain score;
    ``fitted_weights`` those of the fitted one: dense, lexical, bm25. Empty: not chosen.
    ``largest_weight`` is the weight of a document's term that becomes the largest impact, see
    ``DupMAEConfig``; 0: not known. ``query_max_length`` is where queries are cut unless a search
    says otherwise: it belongs to the description, not to the identity.

    ``pooling`` says how the dense vector is made of the hidden states: ``cls``, another name of
    sentence-transformers', several joined by ``+``, or ``none``: then ``dense_dim`` is 0. A
    ``lexical_head`` of ``none`` gives lexical vectors without terms. ``pools_special``: whether
    special tokens count in the maximum over the tokens, as in SPLADE.
    """

    name: str
    weights_sha256: str
    vocabulary_sha256: str
    vocabulary_size: int
    dense_dim: int
    max_length: int = 256
    query_max_length: int = 512
    top_k: int = 0
    query_top_k: int = 0
    lexical_head: str = "mlm"
    activation: str = "log1p_relu"
    normalize: bool = True
    dense_weight: float = 1.0
    lexical_weight: float = 1.0
    prefix: str = ""
    query_prefix: str = ""
    fitted_weights: tuple[float, ...] = ()
    largest_weight: float = 0.0
    pooling: str = "cls"
    pools_special: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "fitted_weights", tuple(self.fitted_weights))

    @property
    def sides(self) -> tuple[str, ...]:
        """Which vectors the encoder gives: ``dense``, ``lexical`` or both."""
        dense = ("dense",) if self.dense_dim else ()
        return dense if self.lexical_head == "none" else (*dense, "lexical")

    def to_dict(self) -> dict[str, Any]:
        # Faster than dataclasses.asdict, which makes deep copies; these values need none.
        return {name: getattr(self, name) for name in self.__dataclass_fields__} | {
            "fitted_weights": list(self.fitted_weights)  # as JSON gives it back
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> EncoderInfo:
        """Ignore unknown keys (of later versions); raise TypeError for missing or invalid ones."""
        known = {name: values[name] for name in cls.__dataclass_fields__ if name in values}
        for name, value in known.items():
            if not _fits(value, str(cls.__dataclass_fields__[name].type)):
                raise TypeError(f"{name} is {value!r}")
        return cls(**known)

    def same_vectors_as(self, other: EncoderInfo) -> bool:
        """Whether both make the same vectors: nothing that ``differences`` names differs."""
        return not self.differences(other)

    def differences(self, other: EncoderInfo) -> list[str]:
        """The names of the fields that differ from ``other``'s and must not.

        The name, the parts' weights and the largest weight change no vector. The length of queries
        is the searcher's choice, like the query itself; documents do not depend on it.
        """
        ignored = {"name", "dense_weight", "lexical_weight", "fitted_weights", "largest_weight"}
        ignored.add("query_max_length")
        mine, theirs = self.to_dict(), other.to_dict()
        return [key for key in mine if mine[key] != theirs[key] and key not in ignored]


def _fits(value: Any, kind: str) -> bool:
    """Whether a JSON value is valid for a field of that type; numbers must not be negative."""
    if kind == "str":
        return isinstance(value, str) and "\0" not in value and _is_text(value)
    if kind == "bool":
        return isinstance(value, bool)
    if kind.startswith("tuple"):
        listed = isinstance(value, list | tuple) and len(value) in (0, 3)
        return listed and all(_fits(each, "float") for each in value)
    number = isinstance(value, int) or (kind == "float" and isinstance(value, float))
    return number and not isinstance(value, bool) and 0 <= value < 2**63


def _is_text(value: str) -> bool:
    """Whether UTF-8 can encode it; JSON's escapes can make unpaired surrogates, which it cannot."""
    return value.isascii() or not any("\ud800" <= c <= "\udfff" for c in value)


class Encoder(Protocol):
    """The encoder interface that indexing and search require; DupMAEEncoder implements it."""

    @property
    def info(self) -> EncoderInfo: ...

    @property
    def vocabulary(self) -> list[str]:
        """The ``info.vocabulary_size`` tokens in the order of their ids."""
        ...

    def encode_documents(self, texts: list[str], ids: list[str] | None = None) -> Representations:
        """Encode texts in the form of ``Document.contents``; ids default to "0", "1", …"""
        ...

    def encode_queries(self, texts: list[str], ids: list[str] | None = None) -> Representations: ...


def as_json(value: Any) -> Any:
    """A value, or a whole metadata, as JSON can show it: dates and times as ISO 8601."""
    if isinstance(value, Mapping):
        return {name: as_json(each) for name, each in value.items()}
    if isinstance(value, list):
        return [as_json(each) for each in value]
    return value.isoformat() if isinstance(value, date) else value


@dataclass(frozen=True, slots=True)
class Hit:
    """One search result, with the parts of its score; None for a part that was not searched.

    passage: where ``text`` is the best passage of the document, which one; else None.
    """

    rank: int
    id: str
    score: float
    dense: float | None = None
    lexical: float | None = None
    bm25: float | None = None
    title: str = ""
    text: str = ""
    metadata: Mapping[str, Any] = field(default_factory=dict, hash=False)
    passage: Passage | None = None

    def to_dict(self) -> dict[str, Any]:
        """All values by name, as JSON can write them: dates in the metadata become texts.

        ``passage`` is there only where passages are indexed.
        """
        values = {name: getattr(self, name) for name in self.__slots__}
        values["metadata"] = as_json(self.metadata)
        passage = values.pop("passage")
        return values if passage is None else values | {"passage": passage._asdict()}


def is_blank(text: str) -> bool:
    """Whether a text has nothing to read: only white space, format and control characters.

    Format characters are, for example, the zero-width space (U+200B) and the soft hyphen.
    """
    rest = text.strip()
    if rest[:1].isprintable() and rest:
        return False
    blank = ("Cc", "Cf", "Zs", "Zl", "Zp")
    return all(unicodedata.category(character) in blank for character in rest)
