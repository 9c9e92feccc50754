"""Whole-word masks, drawn many at a time with the rule of the authors' collator.

A mask has room for ``n = max(1, round(rate · L))`` tokens; L includes the special ones. Words come
in random order, and each is masked if it still fits. (RetroMAE's and BERT's whole-word masking.)
"""

from __future__ import annotations

import numpy as np

_GROUP = 16  # texts drawn together: their arrays stay in the processor's cache


def budgets(lengths: np.ndarray, rate: float) -> np.ndarray:
    """The number of tokens to mask in each text, int64 [B]; halves round to even."""
    return np.maximum(1, np.rint(lengths * rate)).astype(np.int64)


def whole_word_masks(
    words: np.ndarray, room: np.ndarray, count: int, rng: np.random.Generator
) -> np.ndarray:
    """``count`` independent masks of each text, bool [B, count, L], true where masked.

    words: int64 [B, L], the word of each token, -1 where it may not be masked. room: int64 [B].
    """
    batch, length = words.shape
    masks = np.empty((batch, count, length), dtype=bool)
    for start in range(0, batch, _GROUP):
        sizes = _sizes(words[start : start + _GROUP])
        for row, keys in enumerate(_keys(sizes.shape, count, rng), start=start):
            chosen = _choose(sizes[row - start], keys, int(room[row]))
            # Tokens outside words have index -1: it wraps to the last column, which is false.
            masks[row] = chosen.take(words[row], axis=1, mode="wrap")
    return masks


def decoder_visibility(
    words: np.ndarray,
    lengths: np.ndarray,
    rate: float,
    pool_size: int,
    rng: np.random.Generator,
) -> np.ndarray:
    """What each row of the [CLS] decoder may see, bool [B, L, L].

    A text of L tokens has a pool of min(L, pool_size) masks. Each row draws one of them, with
    replacement, and also never sees itself. Words of -1 ([CLS], [SEP]) are never masked, so they
    are visible to every row but their own. Padding rows see nothing, and no row sees padding.
    """
    batch, length = words.shape
    pools = np.minimum(lengths, pool_size)
    masks = whole_word_masks(words, budgets(lengths, rate), int(pools.max()), rng)
    drawn = rng.integers(0, pools[:, None], size=(batch, length))
    seen = np.logical_not(masks, out=masks)
    visible = np.empty((batch, length, length), dtype=bool)
    for row, own in enumerate(lengths.tolist()):
        # "wrap" is faster than a bounds check, and all indices are in bounds.
        np.take(seen[row], drawn[row], axis=0, out=visible[row], mode="wrap")
        visible[row, own:] = False
        visible[row, :, own:] = False
    diagonal = np.arange(length)
    visible[:, diagonal, diagonal] = False
    return visible


def _sizes(words: np.ndarray) -> np.ndarray:
    """Tokens in each word, int64 [B, W]; 0 beyond the last word of a text."""
    batch = len(words)
    count = max(1, int(words.max(initial=-1)) + 1)
    row, column = np.nonzero(words >= 0)
    flat = row * count + words[row, column]
    return np.bincount(flat, minlength=batch * count).reshape(batch, count)


def _keys(shape: tuple[int, int], count: int, rng: np.random.Generator) -> np.ndarray:
    """A random key for each word in each mask, uint32 [B, count, W], unique within a mask.

    The low bits hold the word's number. So sorting the keys gives a permutation of the words, the
    same one on every machine.
    """
    batch, width = shape
    bits = _bits(width)
    keys = rng.integers(0, 1 << 32, size=(batch, count, width), dtype=np.uint32)
    keys &= np.uint32((1 << 32) - (1 << bits))
    keys |= np.arange(width, dtype=np.uint32)
    return keys


def _bits(width: int) -> int:
    return max(1, (width - 1).bit_length())


def _choose(sizes: np.ndarray, keys: np.ndarray, room: int) -> np.ndarray:
    """The masked words of one text, for each mask: in the order of their keys, all that still fit.

    sizes: int64 [W]. keys: uint32 [count, W]. Returns bool [count, W + 1]; column W is false.
    """
    count, width = keys.shape
    low = (1 << _bits(width)) - 1
    ordered = np.sort(keys, axis=1)
    # The longest run of first words that fits has at most ``room`` words, besides empty ones. All
    # words with keys up to its last key are in, so the permutation need not be inverted.
    longest = min(width, room + int((sizes == 0).sum()))
    # By default numpy sums in int64, which takes more than twice as long.
    filled = np.cumsum(_sizes_of(ordered[:, :longest], low, sizes), axis=1, dtype=np.int32)
    fitting = np.count_nonzero(filled <= room, axis=1)
    last = np.maximum(fitting, 1) - 1
    rows = np.arange(count)
    chosen = np.zeros((count, width + 1), dtype=bool)
    chosen[:, :width] = keys <= ordered[rows, last][:, None]
    chosen[fitting == 0] = False
    left = room - np.where(fitting > 0, filled[rows, last], 0)
    # After the first word that does not fit, take later ones that do.
    unfilled = np.flatnonzero((left > 0) & (fitting < width))
    if len(unfilled):
        rest = _sizes_of(ordered[unfilled], low, sizes)
        rest[np.arange(width) < fitting[unfilled, None]] = 0
        left = left[unfilled]
        while len(rest):
            candidates = (rest > 0) & (rest <= left[:, None])
            found = np.flatnonzero(candidates.any(axis=1))
            first = candidates.argmax(axis=1)[found]
            unfilled, rest, left = unfilled[found], rest[found], left[found]
            chosen[unfilled, ordered[unfilled, first] & np.uint32(low)] = True
            at = np.arange(len(rest))
            left = left - rest[at, first]
            rest[at, first] = 0
    return chosen


def _sizes_of(keys: np.ndarray, low: int, sizes: np.ndarray) -> np.ndarray:
    """The sizes of the words with these keys, int32."""
    return sizes.astype(np.int32).take((keys & np.uint32(low)).astype(np.intp))
