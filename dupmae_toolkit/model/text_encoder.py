"""TextEncoder: encodes texts into both vectors in one pass; subclasses compute the batches.

Lexical vectors are a CSR matrix: neither B×L×|V| nor n×|V| numbers are ever in memory.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property
from typing import Any, Self

import numpy as np
import torch
from scipy.sparse import csr_matrix, vstack
from torch import Tensor

from dupmae_toolkit.errors import DupMAEError, InputError
from dupmae_toolkit.files import sha256_lines
from dupmae_toolkit.model.config import DupMAEConfig
from dupmae_toolkit.model.heads import EncoderOutput, sparse_top_k
from dupmae_toolkit.model.precision import takes_bf16
from dupmae_toolkit.model.tokens import (
    NO_LIMIT,
    batches,
    pad,
    token_offsets,
    tokenize,
    tokens_of_rows,
    tokens_per_batch,
)
from dupmae_toolkit.model.workers import side_by_side
from dupmae_toolkit.progress import Progress, silent
from dupmae_toolkit.records import EncoderInfo, Representations

#: Positions of n texts, and their vectors: dense float32 [n, d], lexical CSR [n, |V|].
_Part = tuple[list[int], np.ndarray, csr_matrix]


class TextEncoder:
    """Encodes texts, and gives an EncoderInfo. Subclasses compute a batch of tokens.

    precision: one of ``PRECISIONS``; see ``takes_bf16``. room: the tokens that the backbone has
    positions for.
    """

    config: DupMAEConfig
    name: str
    tokenizer: Any
    precision: str
    room: int
    training: bool = False
    #: See EncoderInfo; ``none``: no dense vector is computed.
    pooling: str = "cls"
    pools_special: bool = False
    #: What a user should know of how the checkpoint is used, a line each.
    remarks: tuple[str, ...] = ()

    def __call__(
        self,
        input_ids: Tensor,
        attention_mask: Tensor,
        *,
        top_k: int | None = None,
        lexical: bool = True,
    ) -> EncoderOutput:
        """Both vectors of a batch of tokens; autocast sets the precision of products.

        input_ids, attention_mask: int64 [B, L]. top_k: lexical weights beyond a text's ``top_k``
        largest may be 0; 0 or None keeps all. Without ``lexical`` they are not computed.
        """
        raise NotImplementedError

    def eval(self) -> Self:
        """Leave training mode; by default there is none."""
        return self

    @contextlib.contextmanager
    def autocast(self, *, queries: bool = False) -> Iterator[None]:
        """The context in which batches of documents, or of queries, are computed."""
        kind = self.device.type
        wanted = takes_bf16(self.precision, kind, queries=queries)
        with torch.autocast(kind, dtype=torch.bfloat16, enabled=wanted):
            yield

    @property
    def device(self) -> torch.device:
        """Where batches are computed."""
        raise NotImplementedError

    @property
    def arithmetic(self) -> str:
        """The precision of documents' products here, ``bf16`` or ``fp32``: ``auto`` resolved."""
        return self._arithmetic(queries=False)

    @property
    def query_arithmetic(self) -> str:
        """The precision of queries' products here, ``bf16`` or ``fp32``."""
        return self._arithmetic(queries=True)

    def _arithmetic(self, *, queries: bool) -> str:
        with self.autocast(queries=queries):
            return "bf16" if torch.is_autocast_enabled(self.device.type) else "fp32"

    @property
    def vocabulary_size(self) -> int:
        """Width of the lexical vectors: rows of the vocabulary matrix."""
        raise NotImplementedError

    @property
    def dense_dim(self) -> int:
        """Width of the dense vectors."""
        raise NotImplementedError

    @property
    def weights_sha256(self) -> str:
        """See ``hash_weights``."""
        raise NotImplementedError

    def encode_documents(
        self, texts: list[str], ids: list[str] | None = None, progress: Progress = silent
    ) -> Representations:
        """Vectors of texts as ``Document.contents`` gives them; ids default to "0", "1", …

        A text is truncated to ``config.max_length`` tokens; ``truncated`` counts the texts that
        were. A text without ordinary tokens has no terms, and the dense vector of an empty text.
        """
        c = self.config
        return self._encode(texts, ids, c.prefix, c.max_length, c.top_k, progress, queries=False)

    def encode_queries(
        self, texts: list[str], ids: list[str] | None = None, progress: Progress = silent
    ) -> Representations:
        """Vectors of queries, truncated and pruned by the config's settings for queries.

        Unless the precision is ``bf16``, a query has the same vectors whatever queries it is
        encoded with: they differ by at most 1e-5 of each vector's largest number.
        """
        c = self.config
        limit = c.query_max_length
        found = self._encode(
            texts, ids, c.query_prefix, limit, c.query_top_k, progress, queries=True
        )
        found.texts = list(texts)
        return found

    def token_offsets(self, text: str) -> Iterator[tuple[int, int, int]]:
        """The vocabulary's tokens that stand in a text: (row, start, end), offsets in code points.

        The whole text is read, also beyond the length that is encoded, and no prefix is added.
        """
        return token_offsets(self.tokenizer, text)

    def room_beside(self, title: str) -> int:
        """How many tokens of a text are encoded after this title; below 1: none."""
        (ids,) = tokenize(self.tokenizer, [self.config.prefix + title], NO_LIMIT).ids
        return self.config.max_length - len(ids)

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
        """Vectors of each text, in the given order. Leaves the encoder in evaluation mode."""
        listed = isinstance(texts, Iterable) and not isinstance(texts, str)
        if not listed or not all(isinstance(text, str) for text in texts):
            raise InputError("texts to encode must be a list of strings, one for each text")
        if ids is None:
            ids = [str(i) for i in range(len(texts))]
        if len(ids) != len(texts):
            raise InputError(f"{len(texts)} texts to encode have {len(ids)} ids")
        if prefix:
            texts = [prefix + text for text in texts]
        tokens = tokenize(self.tokenizer, texts, max_length)
        dense = np.zeros((len(texts), self.dense_dim), dtype=np.float32)
        parts: list[csr_matrix] = []
        order: list[int] = []
        if self.training:
            self.eval()

        def work(positions: list[int]) -> list[_Part]:
            batch = [tokens.ids[i] for i in positions], [ids[i] for i in positions]
            return list(self._encode_batch(positions, *batch, top_k, queries))

        with progress("encoding", len(texts)) as advance:
            kind = self.device.type
            plan = list(batches([len(row) for row in tokens.ids], tokens_per_batch(kind)))
            for done in side_by_side(work, plan) if kind == "cpu" else map(work, plan):
                for positions, vectors, lexical in done:
                    dense[positions] = vectors
                    parts.append(lexical)
                    order.extend(positions)
                    advance(len(positions))
        self._check_finite(dense, ids)
        empty = csr_matrix((0, self.vocabulary_size), dtype=np.float32)
        lexical = vstack(parts, format="csr") if parts else empty
        back = np.empty(len(order), dtype=np.int64)
        back[order] = np.arange(len(order))
        return Representations(
            ids,
            dense,
            csr_matrix(lexical[back]),
            tokens.truncated,
            max_length=max_length,
            precision=self._arithmetic(queries=queries),
            room=self.room,
        )

    def _encode_batch(
        self,
        positions: list[int],
        tokens: list[list[int]],
        ids: list[str],
        top_k: int,
        queries: bool,
    ) -> Iterator[_Part]:
        """The vectors of a batch, computed in halves if memory does not suffice for all of it."""
        with torch.inference_mode(), self.autocast(queries=queries):
            output = self._compute(tokens, top_k)
        if output is None:
            half = len(positions) // 2
            for piece in (slice(half), slice(half, None)):
                batch = positions[piece], tokens[piece], ids[piece]
                yield from self._encode_batch(*batch, top_k, queries)
            return
        dense = output.dense.float().cpu().numpy()
        if output.lexical is None:
            lexical = csr_matrix((len(positions), self.vocabulary_size), dtype=np.float32)
        else:
            weights = output.lexical.float().cpu().numpy()
            # sparse_top_k would silently drop NaN, which is not above 0.
            self._check_finite(weights, ids)
            lexical = sparse_top_k(weights, top_k)
        yield positions, dense, lexical

    def _compute(self, ids: list[list[int]], top_k: int) -> EncoderOutput | None:
        """Both vectors of a batch; None if it runs out of memory but could be halved."""
        input_ids, mask = pad(ids, self.pad_id)
        try:
            return self(input_ids.to(self.device), mask.to(self.device), top_k=top_k)
        except torch.cuda.OutOfMemoryError as error:
            if len(ids) > 1:
                return None
            raise DupMAEError(
                f"{self.device}: no memory left for a single text of {len(ids[0])} tokens; free "
                "some, lower max_length, or name another device"
            ) from error

    def _check_finite(self, vectors: np.ndarray, ids: Sequence[str]) -> None:
        """Raise DupMAEError for the first row of float32 [n, …] that holds NaN or infinity."""
        fine = np.isfinite(vectors)
        if not fine.all():
            bad = int(np.flatnonzero(~fine.all(axis=1))[0])
            raise DupMAEError(
                f"{self.name}: the vector of text {ids[bad]!r} is not finite; the weights are "
                "damaged, or too large for this precision (try fp32)"
            )

    @property
    def pad_id(self) -> int:
        return self.tokenizer.pad_token_id if self.tokenizer.pad_token_id is not None else 0

    @property
    def vocabulary(self) -> list[str]:
        """The token of each row of the vocabulary matrix; see ``tokens_of_rows``."""
        return self._vocabulary

    # Separate, because pyright does not accept a cached_property for a protocol's property.
    @cached_property
    def _vocabulary(self) -> list[str]:
        return tokens_of_rows(self.tokenizer.get_vocab(), self.vocabulary_size)

    @cached_property
    def _vocabulary_sha256(self) -> str:
        return sha256_lines(self.vocabulary)

    @property
    def info(self) -> EncoderInfo:
        """The description for manifests; always of the current weights."""
        c = self.config
        return EncoderInfo(
            name=self.name,
            weights_sha256=self.weights_sha256,
            vocabulary_sha256=self._vocabulary_sha256,
            vocabulary_size=self.vocabulary_size,
            dense_dim=self.dense_dim,
            max_length=c.max_length,
            query_max_length=c.query_max_length,
            top_k=c.top_k,
            query_top_k=c.query_top_k,
            lexical_head=c.lexical_head,
            activation=c.activation,
            normalize=c.normalize,
            dense_weight=c.dense_weight,
            lexical_weight=c.lexical_weight,
            prefix=c.prefix,
            query_prefix=c.query_prefix,
            fitted_weights=c.fitted_weights,
            largest_weight=c.largest_weight,
            pooling=self.pooling,
            pools_special=self.pools_special,
        )
