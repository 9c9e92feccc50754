"""Whole-word masks, many at a time, drawn as the authors' collator draws them one by one.

A mask has room for ``n = max(1, round(rate · L))`` tokens, L counting the special ones. Words come
in random order; each is taken if it still fits. (RetroMAE's and BERT's whole-word masking.)
"""

from __future__ import annotations

import numpy as np

_GROUP = 16  # texts drawn together: their arrays stay in the processor's cache


def budgets(lengths: np.ndarray, rate: float) -> np.ndarray:
    """How many tokens a mask of each text has room for, int64 [B]; halves round to even."""
    return np.maximum(1, np.rint(lengths * rate)).astype(np.int64)


def whole_word_masks(
    words: np.ndarray, room: np.ndarray, count: int, rng: np.random.Generator
) -> np.ndarray:
    """``count`` independent masks of each text, bool [B, count, L], true where masked.

    words: int64 [B, L], the word of each token, -1 where it may not be masked. room: int64 [B].
    """
    batch, length = words.shape
    masks = np.zeros((batch, count, length), dtype=bool)
    for start in range(0, batch, _GROUP):
        rows = slice(start, start + _GROUP)
        chosen = _choose(_sizes(words[rows]), room[rows], count, rng)
        shape = (*chosen.shape[:2], length)
        index = np.broadcast_to(np.maximum(words[rows], 0)[:, None], shape)
        masks[rows] = np.take_along_axis(chosen, index, axis=2) & (words[rows] >= 0)[:, None]
    return masks


def decoder_visibility(
    words: np.ndarray,
    lengths: np.ndarray,
    rate: float,
    pool_size: int,
    rng: np.random.Generator,
) -> np.ndarray:
    """What each row of the [CLS] decoder may see, bool [B, L, L].

    A text of L tokens has a pool of min(L, pool_size) masks; each row draws one of them, with
    replacement, and hides itself besides. Words of -1 ([CLS], [SEP]) are never masked, so they are
    visible to every row but their own. Padding sees nothing and is seen by none.
    """
    batch, length = words.shape
    pools = np.minimum(lengths, pool_size)
    masks = whole_word_masks(words, budgets(lengths, rate), int(pools.max()), rng)
    drawn = rng.integers(0, pools[:, None], size=(batch, length))
    visible = ~masks[np.arange(batch)[:, None], drawn]
    inside = np.arange(length) < lengths[:, None]
    visible &= inside[:, :, None] & inside[:, None, :]
    diagonal = np.arange(length)
    visible[:, diagonal, diagonal] = False
    return visible


def _sizes(words: np.ndarray) -> np.ndarray:
    """Tokens in each word, int64 [B, W]; 0 where a text has fewer words than the longest."""
    batch = len(words)
    count = max(1, int(words.max(initial=-1)) + 1)
    row, column = np.nonzero(words >= 0)
    flat = row * count + words[row, column]
    return np.bincount(flat, minlength=batch * count).reshape(batch, count)


def _choose(
    sizes: np.ndarray, room: np.ndarray, count: int, rng: np.random.Generator
) -> np.ndarray:
    """The words of each mask, bool [B, count, W]: in random order, each one that still fits."""
    batch, width = sizes.shape
    # A random key with the word's number in its low bits: sorting gives a permutation, and the
    # same one on every machine, since no two keys are alike.
    bits = max(1, (width - 1).bit_length())
    keys = rng.integers(0, 1 << (32 - bits), size=(batch, count, width), dtype=np.uint32)
    keys = keys << np.uint32(bits) | np.arange(width, dtype=np.uint32)
    keys.sort(axis=2)
    order = (keys & np.uint32((1 << bits) - 1)).astype(np.int64)
    ordered = np.take_along_axis(np.broadcast_to(sizes[:, None], order.shape), order, axis=2)
    filled = np.cumsum(ordered, axis=2)
    taken = filled <= room[:, None, None]
    left = room[:, None] - np.where(taken, filled, 0).max(axis=2)
    # The prefix that fits is taken; of what follows the first too-large word, any that still fits.
    rows = np.nonzero((left > 0) & ~taken.all(axis=2))
    rest, fits = ordered[rows], taken[rows]
    room_left = left[rows]
    while len(rest):
        candidates = ~fits & (rest <= room_left[:, None]) & (rest > 0)
        found = candidates.any(axis=1)
        first = candidates.argmax(axis=1)[found]
        at = np.flatnonzero(found)
        fits[at, first] = True
        taken[rows[0][at], rows[1][at], first] = True
        room_left[at] -= rest[at, first]
        rest, fits, room_left = rest[at], fits[at], room_left[at]
        rows = rows[0][at], rows[1][at]
    chosen = np.zeros(order.shape, dtype=bool)
    np.put_along_axis(chosen, order, taken, axis=2)
    return chosen
