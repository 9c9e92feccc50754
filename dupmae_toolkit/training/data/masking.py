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
    masks = np.empty((batch, count, length), dtype=bool)
    for start in range(0, batch, _GROUP):
        sizes = _sizes(words[start : start + _GROUP])
        for row, keys in enumerate(_keys(sizes.shape, count, rng), start=start):
            chosen = _choose(sizes[row - start], keys, int(room[row]))
            # One more word, that is never chosen: that of the tokens which are in none.
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

    A text of L tokens has a pool of min(L, pool_size) masks; each row draws one of them, with
    replacement, and hides itself besides. Words of -1 ([CLS], [SEP]) are never masked, so they are
    visible to every row but their own. Padding sees nothing and is seen by none.
    """
    batch, length = words.shape
    pools = np.minimum(lengths, pool_size)
    masks = whole_word_masks(words, budgets(lengths, rate), int(pools.max()), rng)
    drawn = rng.integers(0, pools[:, None], size=(batch, length))
    seen = np.logical_not(masks, out=masks)
    visible = np.empty((batch, length, length), dtype=bool)
    for row, own in enumerate(lengths.tolist()):
        # "wrap" is faster than looking whether they are in bounds, which they are.
        np.take(seen[row], drawn[row], axis=0, out=visible[row], mode="wrap")
        visible[row, own:] = False
        visible[row, :, own:] = False
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


def _keys(shape: tuple[int, int], count: int, rng: np.random.Generator) -> np.ndarray:
    """A random key of each word for each mask, uint32 [B, count, W]; no two of a mask are alike.

    The word's number stands in the low bits, so sorted keys are a permutation of the words, and the
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
    """The words of each mask of one text: in the order of their keys, each one that still fits.

    sizes: int64 [W]. keys: uint32 [count, W]. Returns bool [count, W + 1]; the last is false.
    """
    count, width = keys.shape
    low = (1 << _bits(width)) - 1
    ordered = np.sort(keys, axis=1)
    # The beginning that fits has no more words than tokens, but for those that have none. Of its
    # last word the key is known, so no permutation has to be undone: smaller keys are in.
    longest = min(width, room + int((sizes == 0).sum()))
    # numpy would add up in int64, which takes more than twice as long.
    filled = np.cumsum(_sizes_of(ordered[:, :longest], low, sizes), axis=1, dtype=np.int32)
    fitting = np.count_nonzero(filled <= room, axis=1)
    last = np.maximum(fitting, 1) - 1
    rows = np.arange(count)
    chosen = np.zeros((count, width + 1), dtype=bool)
    chosen[:, :width] = keys <= ordered[rows, last][:, None]
    chosen[fitting == 0] = False
    left = room - np.where(fitting > 0, filled[rows, last], 0)
    # Behind the first word that does not fit, any that does.
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
    """The sizes of the words that these keys stand for, int32."""
    return sizes.astype(np.int32).take((keys & np.uint32(low)).astype(np.intp))
