"""Texts to both vectors in one pass: tokens, batches of like length, the pooled head, top-k.

Batches are filled by tokens over texts sorted by length, so that little is padding, and the result
is a CSR matrix: neither B×L×|V| nor n×|V| is ever held.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import torch
from scipy.sparse import csr_matrix, vstack

from dupmae_toolkit.errors import DupMAEError
from dupmae_toolkit.model.workers import side_by_side
from dupmae_toolkit.progress import Progress, silent
from dupmae_toolkit.records import Representations

if TYPE_CHECKING:
    from dupmae_toolkit.model.text_encoder import EncoderOutput

TOKENS_PER_BATCH = 4096
#: On a CPU a batch is full of work already when it is small; then its hidden states stay
#: in the cache, and texts of unlike length do not meet in it.
TOKENS_PER_BATCH_CPU = 1024
TEXTS_PER_BATCH = 128
# More characters than any vocabulary needs for a token on average; what lies behind is looked at
# only if the part before it did not fill the length limit.
CHARACTERS_PER_TOKEN = 24
_LONE_SURROGATES = re.compile("[\ud800-\udfff]")
# A fast tokenizer keeps its length limit inside, and cannot be given one by two threads at once.
_TOKENIZER = threading.Lock()


_Part = tuple[list[int], np.ndarray, csr_matrix]


class Network(Protocol):
    """What gives the vectors of a batch of tokens, and what there is to know of it."""

    name: str
    tokenizer: Any
    training: bool

    @property
    def device(self) -> torch.device: ...

    @property
    def arithmetic(self) -> str: ...

    @property
    def pad_id(self) -> int: ...

    @property
    def dense_dim(self) -> int: ...

    @property
    def vocabulary_size(self) -> int: ...

    def eval(self) -> Any: ...

    def autocast(self) -> AbstractContextManager[None]: ...

    def __call__(
        self, input_ids: torch.Tensor, attention_mask: torch.Tensor, *, most: int | None
    ) -> EncoderOutput: ...


@dataclass(slots=True)
class Tokens:
    """Token ids of some texts, special tokens included, cut at a limit."""

    ids: list[list[int]]
    truncated: int


def tokenize(tokenizer: Any, texts: Sequence[str], max_length: int) -> Tokens:
    """Token ids, and how many texts were cut. Very long texts are not tokenised to their ends.

    Lone surrogates, which no tokenizer takes, count as U+FFFD, the replacement character.
    """
    clean = [t if t.isascii() else _LONE_SURROGATES.sub("\ufffd", t) for t in texts]
    limit = max_length * CHARACTERS_PER_TOKEN
    batch = _encode(tokenizer, [beginning(text, limit) for text in clean], max_length)
    cut = [bool(encoding.overflowing) for encoding in batch]
    for i, text in enumerate(clean):
        if len(text) > limit and not cut[i]:
            batch[i] = _encode(tokenizer, [text], max_length)[0]
            cut[i] = bool(batch[i].overflowing)
    # A tokenizer without special tokens makes nothing of an empty text.
    nothing = [tokenizer.pad_token_id or 0]
    return Tokens([encoding.ids or nothing for encoding in batch], sum(cut))


def beginning(text: str, limit: int) -> str:
    """The first whole words of a text, about ``limit`` characters.

    A word cut in two could have other tokens than its whole. Where there are no spaces the end is
    put so far off that it cannot matter to the tokens that are kept.
    """
    if len(text) <= limit:
        return text
    end = text.rfind(" ", limit // 2, limit)
    return text[: end if end > 0 else 16 * limit]


def _encode(tokenizer: Any, texts: list[str], max_length: int) -> list:
    if not texts:
        return []
    with _TOKENIZER:
        encodings = tokenizer(texts, truncation=True, max_length=max_length).encodings
    assert encodings is not None  # only fast tokenizers are loaded
    return encodings


def batches(
    lengths: Sequence[int], tokens: int | None = None, most: int = TEXTS_PER_BATCH
) -> Iterator[list[int]]:
    """Positions in batches of up to so many tokens, padding included, and ``most`` texts.

    tokens: by default TOKENS_PER_BATCH. The longest come first, so that memory is short at the
    start or never.
    """
    tokens = tokens or TOKENS_PER_BATCH
    order = sorted(range(len(lengths)), key=lambda i: (-lengths[i], i))
    start = 0
    while start < len(order):
        size = max(1, min(most, tokens // max(1, lengths[order[start]])))
        yield order[start : start + size]
        start += size


def pad(ids: list[list[int]], pad_id: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Right-padded token ids and attention mask, both int64 [B, L]."""
    length = max(len(row) for row in ids)
    tokens = np.full((len(ids), length), pad_id, dtype=np.int64)
    mask = np.zeros((len(ids), length), dtype=np.int64)
    for i, row in enumerate(ids):
        tokens[i, : len(row)] = row
        mask[i, : len(row)] = 1
    return torch.from_numpy(tokens), torch.from_numpy(mask)


def encode(
    encoder: Network,
    texts: Sequence[str],
    ids: list[str],
    *,
    max_length: int,
    top_k: int,
    progress: Progress = silent,
) -> Representations:
    """Both vectors of each text, in the order given. Leaves the encoder in evaluation mode.

    Raises DupMAEError if the model gives numbers that are not finite.
    """
    tokens = tokenize(encoder.tokenizer, texts, max_length)
    width, terms = encoder.dense_dim, encoder.vocabulary_size
    dense = np.zeros((len(texts), width), dtype=np.float32)
    parts: list[csr_matrix] = []
    order: list[int] = []
    if encoder.training:
        encoder.eval()

    def work(positions: list[int]) -> list[_Part]:
        batch = [tokens.ids[i] for i in positions], [ids[i] for i in positions]
        return list(_encode_batch(encoder, positions, *batch, top_k))

    with progress("encoding", len(texts)) as advance:
        plan = list(batches([len(row) for row in tokens.ids], _tokens_per_batch(encoder)))
        on_cpu = encoder.device.type == "cpu"
        for done in side_by_side(work, plan) if on_cpu else map(work, plan):
            for positions, vectors, lexical in done:
                dense[positions] = vectors
                parts.append(lexical)
                order.extend(positions)
                advance(len(positions))
    _check_finite(encoder.name, dense, ids)
    lexical = vstack(parts, format="csr") if parts else csr_matrix((0, terms), dtype=np.float32)
    back = np.empty(len(order), dtype=np.int64)
    back[order] = np.arange(len(order))
    return Representations(ids, dense, csr_matrix(lexical[back]), tokens.truncated)


def _tokens_per_batch(encoder: Network) -> int:
    on_cpu = encoder.device.type == "cpu"
    return min(TOKENS_PER_BATCH, TOKENS_PER_BATCH_CPU) if on_cpu else TOKENS_PER_BATCH


def _encode_batch(
    encoder: Network,
    positions: list[int],
    tokens: list[list[int]],
    ids: list[str],
    top_k: int,
) -> Iterator[_Part]:
    """Positions, dense float32 [n, d], lexical CSR [n, |V|]; in halves where memory asks for it."""
    with torch.inference_mode(), encoder.autocast():
        output = _forward(encoder, tokens, top_k)
    if output is None:
        half = len(positions) // 2
        for piece in (slice(half), slice(half, None)):
            yield from _encode_batch(encoder, positions[piece], tokens[piece], ids[piece], top_k)
        return
    dense = output.dense.float().cpu().numpy()
    if output.lexical is None:
        lexical = csr_matrix((len(positions), encoder.vocabulary_size), dtype=np.float32)
    else:
        weights = output.lexical.float().cpu().numpy()
        # NaN is not above 0: it would be taken for a term that is not there.
        _check_finite(encoder.name, weights, ids)
        lexical = sparse_top_k(weights, top_k)
    yield positions, dense, lexical


def _forward(encoder: Network, ids: list[list[int]], most: int) -> EncoderOutput | None:
    """Both vectors of a batch; None if the device has no room for it but may have for its half."""
    input_ids, mask = pad(ids, encoder.pad_id)
    try:
        return encoder(input_ids.to(encoder.device), mask.to(encoder.device), most=most)
    except torch.cuda.OutOfMemoryError as error:
        if len(ids) > 1:
            return None
        raise DupMAEError(
            f"{encoder.device}: no memory left for a single text of {len(ids[0])} tokens; free "
            "some, lower max_length, or name another device"
        ) from error


def _check_finite(name: str, vectors: np.ndarray, ids: Sequence[str]) -> None:
    """Raise DupMAEError for the first row of float32 [n, …] that holds NaN or infinity."""
    fine = np.isfinite(vectors)
    if not fine.all():
        bad = int(np.flatnonzero(~fine.all(axis=1))[0])
        raise DupMAEError(
            f"{name}: the vector of text {ids[bad]!r} is not finite; the weights are damaged, or "
            "too large for this precision (try fp32)"
        )


def sparse_top_k(weights: np.ndarray, top_k: int) -> csr_matrix:
    """The positive weights of each row, the ``top_k`` largest if that is not 0.

    weights: float32 [n, |V|]. Where weights tie at the cut, the lower term ids stay.
    """
    rows, columns = np.nonzero(weights > 0)
    values = weights[rows, columns]
    counts = np.bincount(rows, minlength=len(weights))
    if top_k and len(counts) and counts.max() > top_k:
        starts = np.concatenate([[0], np.cumsum(counts)])
        keep = np.ones(len(values), dtype=bool)
        for row in np.flatnonzero(counts > top_k):
            span = slice(starts[row], starts[row + 1])
            losers = np.argsort(-values[span], kind="stable")[top_k:]
            keep[starts[row] + losers] = False
        rows, columns, values = rows[keep], columns[keep], values[keep]
        counts = np.bincount(rows, minlength=len(weights))
    indptr = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
    matrix = csr_matrix((values, columns.astype(np.int32), indptr), shape=weights.shape)
    matrix.has_sorted_indices = True
    return matrix
