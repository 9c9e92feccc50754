"""Derives a lookup table (``lookup.py``) from the network.

A token's weight is the one that the network gives it in a query of this token alone. The mean over
the queries of a collection in which a token occurs ranks no better; docs/lookup.md has the figures.
For dense vectors, a table is fitted to the network's vectors of texts; see ``lookup_dense``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from dupmae_toolkit.errors import DupMAEError, InputError
from dupmae_toolkit.files import make_folder
from dupmae_toolkit.model.checkpoints import named_folder
from dupmae_toolkit.model.loading import load_encoder
from dupmae_toolkit.model.lookup import (
    LOOKUP_FILE,
    berts_tokenizer,
    different,
    inner,
    write_lookup,
)
from dupmae_toolkit.model.lookup_dense import DenseTable, fit_table, mean_cosine
from dupmae_toolkit.model.tokens import ordinary_tokens, pad, tokenize
from dupmae_toolkit.progress import Progress, silent

#: Queries of one token that are computed at once.
_BATCH = 128
#: Of so many texts one is held out.
_HELD_OUT = 20


@dataclass(frozen=True, slots=True)
class Derived:
    """What ``derive_lookup`` wrote.

    tokens: how many of the vocabulary's tokens can occur in a query; special ones cannot. without:
    how many of these the network gives no weight, so that a query does not search for them. mean:
    the mean weight of the others. texts: how many the dense table was fitted to; 0: there is none.
    cosine: the mean cosine of its vectors and the network's, of ``held_out`` other texts.
    """

    path: Path
    tokens: int
    without: int
    mean: float
    texts: int = 0
    held_out: int = 0
    cosine: float = 0.0


def derive_lookup(
    source: str | Path,
    texts: Sequence[str] | Callable[[], Sequence[str]] = (),
    *,
    device: str | None = None,
    progress: Progress = silent,
) -> Derived:
    """Write the lookup table of a checkpoint beside its weights, replacing an earlier one.

    source: ``builtin``, a folder or a hub id. texts: like the queries to come, or what reads them,
    called after the checks; with them, the table gives dense vectors too. Every 20th text is held
    out, to say how near they come. Raises InputError before the work for a folder that cannot be
    written, an encoder without lexical vectors (or, with texts, without dense ones) and a tokenizer
    that is not BERT's; DupMAEError for weights that are not finite.
    """
    folder, name = named_folder(source)
    make_folder(folder)
    tokenizer = berts_tokenizer(folder)
    encoder = load_encoder(source, device=device, precision="fp32")
    if encoder.config.lexical_head == "none":
        raise InputError(f"{name}: has no lexical head, so a lookup table would be empty")
    width = encoder.info.dense_dim
    if texts and not width:
        raise InputError(f"{name}: gives no dense vectors; leave out the texts")
    prefix = encoder.config.query_prefix
    (around,) = tokenizer([prefix], True, encoder.config.query_max_length).encodings
    ordinary = ordinary_tokens(tokenizer, encoder.vocabulary_size).numpy()
    known = np.zeros(encoder.vocabulary_size, bool)
    known[list(tokenizer.get_vocab().values())] = True
    tokens = np.flatnonzero(ordinary & known)
    if callable(texts):
        texts = texts()
    weights = np.zeros(encoder.vocabulary_size, np.float32)
    alone = np.zeros((encoder.vocabulary_size, width), np.float32)
    before, after = torch.tensor(around.ids[:-1]), torch.tensor(around.ids[-1:])
    with progress("deriving", len(tokens)) as advance:
        for start in range(0, len(tokens), _BATCH):
            part = torch.from_numpy(tokens[start : start + _BATCH])
            sides = [ids.expand(len(part), -1) for ids in (before, after)]
            batch = torch.cat([sides[0], part[:, None], sides[1]], dim=1).to(encoder.device)
            with torch.inference_mode(), encoder.autocast(queries=True):
                both = encoder(batch, torch.ones_like(batch))
            found = both.lexical
            assert found is not None
            alone[part.numpy()] = both.dense.float().cpu().numpy()
            rows = torch.arange(len(part), device=found.device)
            weights[part.numpy()] = found[rows, part.to(found.device)].float().cpu().numpy()
            advance(len(part))
    if not np.isfinite(weights).all():
        raise DupMAEError(f"{name}: gives weights that are not finite; the checkpoint is damaged")
    stored = weights.astype(np.float16)
    if not np.isfinite(stored).all():
        raise DupMAEError(f"{name}: gives weights above 65,504, too large for the table")
    dense = made = None
    if texts:
        made = _fitted(source, device, list(texts), alone, progress)
        dense = DenseTable.rounded(made.table, made.bias)
    write_lookup(folder / LOOKUP_FILE, encoder.info, weights, dense)
    given = stored[tokens][stored[tokens] > 0]
    mean = float(given.mean(dtype=np.float64)) if len(given) else 0.0
    about = (len(tokens), len(tokens) - len(given), mean)
    if made is None or dense is None:
        return Derived(folder / LOOKUP_FILE, *about)
    cosine = mean_cosine(dense.encode(made.held_rows), made.held_vectors)
    return Derived(folder / LOOKUP_FILE, *about, made.texts, len(made.held_rows), cosine)


@dataclass(frozen=True, slots=True)
class _Fitted:
    """table, bias: see ``fit_table``. The rest is of the texts that were held out."""

    table: np.ndarray
    bias: np.ndarray
    texts: int
    held_rows: list[list[int]]
    held_vectors: np.ndarray


def _fitted(
    source: str | Path,
    device: str | None,
    texts: list[str],
    alone: np.ndarray,
    progress: Progress,
) -> _Fitted:
    """A dense table from the network's vectors of texts, as queries.

    The network is loaded again, because it takes half the time in the precision of a search.
    """
    encoder = load_encoder(source, device=device)
    vectors = np.zeros((len(texts), encoder.info.dense_dim), np.float32)
    prefixed = [encoder.config.query_prefix + text for text in texts]
    ids = tokenize(encoder.tokenizer, prefixed, encoder.config.query_max_length).ids
    order = sorted(range(len(ids)), key=lambda number: len(ids[number]))
    with progress("encoding", len(ids)) as advance:
        for start in range(0, len(ids), _BATCH):
            numbers = order[start : start + _BATCH]
            batch = pad([ids[number] for number in numbers], encoder.pad_id)
            with torch.inference_mode(), encoder.autocast(queries=True):
                found = encoder(*(side.to(encoder.device) for side in batch), lexical=False)
            vectors[numbers] = found.dense.float().cpu().numpy()
            advance(len(numbers))
    if not np.isfinite(vectors).all():
        raise DupMAEError(f"{source}: gives vectors that are not finite; the checkpoint is damaged")
    rows = [different(inner(row)) for row in ids]
    held = np.arange(len(rows)) % _HELD_OUT == _HELD_OUT - 1
    # A text without tokens says nothing of any.
    used = ~held & np.array([bool(row) for row in rows])
    kept = [row for row, left in zip(rows, used, strict=True) if left]
    table, bias = fit_table(kept, vectors[used], alone)
    held_rows = [row for row, left in zip(rows, held, strict=True) if left]
    return _Fitted(table, bias, len(kept), held_rows, vectors[held])
