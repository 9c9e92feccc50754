"""PairEncoder: the dense vectors of one encoder and the lexical vectors of another."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch

from dupmae_toolkit.errors import InputError
from dupmae_toolkit.model.pair_names import SIGN
from dupmae_toolkit.model.text_encoder import TextEncoder
from dupmae_toolkit.progress import Progress, silent
from dupmae_toolkit.records import Representations

_LENGTHS = ("max_length", "query_max_length")


class PairEncoder(TextEncoder):
    """Each encoder has its own tokenizer, prefixes and lengths; the vocabulary is the lexical one.

    Stated lengths are the larger of the two. A text counts as cut if the encoder that cut more
    texts cut it. ``weights_sha256`` covers all that is known of both.
    """

    def __init__(self, dense: TextEncoder, lexical: TextEncoder) -> None:
        for side, encoder in (("dense", dense), ("lexical", lexical)):
            if side not in encoder.info.sides:
                raise InputError(
                    f"{encoder.name}: gives no {side} vectors; name a pair as DENSE{SIGN}LEXICAL"
                )
        self.dense, self.lexical = dense, lexical
        self.name = f"{dense.name}{SIGN}{lexical.name}"
        self.tokenizer, self.precision = lexical.tokenizer, dense.precision
        self.room = max(dense.room, lexical.room)
        self.pooling, self.pools_special = dense.pooling, lexical.pools_special
        self.config = replace(
            lexical.config,
            normalize=dense.config.normalize,
            dense_weight=dense.config.dense_weight,
            prefix=dense.config.prefix,
            query_prefix=dense.config.query_prefix,
            fitted_weights=(),
            **{key: max(getattr(e.config, key) for e in (dense, lexical)) for key in _LENGTHS},
        )
        self.remarks = (
            f"{self.name}: dense vectors of the first, lexical ones of the second; each with its "
            "own weight in the score",
        )

    def _encode(
        self,
        texts: Sequence[str],
        ids: list[str] | None,
        prefix: str,
        max_length: int,
        top_k: int,
        progress: Progress,
        *,
        queries: bool,
    ) -> Representations:
        """Both encoders' vectors, by their own settings; the arguments are a summary of those."""

        def encoded(encoder: TextEncoder, shown: Progress) -> Representations:
            encode = encoder.encode_queries if queries else encoder.encode_documents
            return encode(list(texts) if isinstance(texts, tuple) else texts, ids, shown)  # type: ignore[arg-type]

        found, lexical = encoded(self.dense, silent), encoded(self.lexical, progress)
        found.lexical = lexical.lexical
        found.truncated = max(found.truncated, lexical.truncated)
        found.max_length, found.room = max_length, self.room
        return found

    @property
    def device(self) -> torch.device:
        return self.dense.device

    @property
    def vocabulary_size(self) -> int:
        return self.lexical.vocabulary_size

    @property
    def dense_dim(self) -> int:
        return self.dense.dense_dim

    @property
    def weights_sha256(self) -> str:
        """SHA-256 of what changes the vectors of either."""
        beside = ("name", "query_max_length", "dense_weight", "lexical_weight", "fitted_weights")
        known = [
            {
                k: v
                for k, v in encoder.info.to_dict().items()
                if k not in (*beside, "largest_weight")
            }
            for encoder in (self.dense, self.lexical)
        ]
        return hashlib.sha256(json.dumps(known, sort_keys=True).encode()).hexdigest()


def limited(encoder: TextEncoder, changes: dict[str, Any]) -> TextEncoder:
    """``encoder`` with lengths of at most those in ``changes``: a pair states the larger ones."""
    limits = {
        key: min(changes[key], getattr(encoder.config, key)) for key in _LENGTHS if changes.get(key)
    }
    encoder.config = encoder.config.but(**limits)
    return encoder
