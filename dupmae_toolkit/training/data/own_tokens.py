"""The texts of a batch in the tokens of a teacher that cannot read the student's."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from torch import Tensor

from dupmae_toolkit.model.tokens import pad, tokenize


class Side(NamedTuple):
    """The queries, or the documents, of a batch: token ids and mask, both int64 [B, L]."""

    ids: Tensor
    mask: Tensor


@dataclass(frozen=True, slots=True)
class OwnTokens:
    """How a teacher reads texts that it cannot read as the student does.

    prefixes: before queries and before documents. most: how many tokens it has positions for.
    """

    tokenizer: Any
    prefixes: tuple[str, str]
    most: int

    def sides(self, texts: Sequence[list[str]], lengths: Sequence[int]) -> list[Side]:
        """Queries and documents, each cut at its length in this tokenizer's tokens."""
        pad_id, sides = self.tokenizer.pad_token_id or 0, []
        for prefix, own, length in zip(self.prefixes, texts, lengths, strict=True):
            cut = min(length, self.most)
            ids = tokenize(self.tokenizer, [prefix + text for text in own], cut).ids
            sides.append(Side(*pad(ids, pad_id)))
        return sides
