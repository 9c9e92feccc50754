"""The results of a demonstration."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from dupmae_toolkit.records import Hit


@dataclass(frozen=True, slots=True)
class ModeReport:
    """One way to search. ``milliseconds``: median time of a question, with its encoding."""

    measures: dict[str, float]
    milliseconds: float


@dataclass(frozen=True, slots=True)
class DemoReport:
    """All results of one demonstration.

    ``words``: the number of white-space separated words in titles and texts. ``encoded``: how many
    documents this run encoded, without those of an earlier run. ``cut``: how many docstrings were
    shortened. ``truncated``: how many documents were longer than the encoder reads. ``seconds``:
    None for encoding and indexing if a finished index was reused. ``examples``: the best answered
    questions, with their hits.
    """

    index: str
    reused: bool
    model: str
    source: str
    documents: int
    words: int
    encoded: int
    cut: int
    truncated: int | None
    questions: int
    judgements: int
    missing: list[str]
    dropped: list[str]
    seconds: dict[str, float | None]
    examples: list[tuple[str, list[Hit]]]
    modes: dict[str, ModeReport]

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        values = asdict(self)
        values["examples"] = [
            {"question": question, "hits": hits} for question, hits in values["examples"]
        ]
        return values
