"""The bytes of postings in a list of CIFF, which are written and read as whole arrays."""

from __future__ import annotations

import numpy as np

from dupmae_toolkit.interop.wire import BYTES, VARINT, put_varints, read_varints, varint_sizes

#: The tags of a posting in a list, and of document and impact in a posting.
_POSTING = 4 << 3 | BYTES
_DOCID, _TF = 1 << 3 | VARINT, 2 << 3 | VARINT
#: How many postings are encoded together, and how many bytes are decoded together.
_PIECE = 1 << 18
_BYTES = 1 << 22


def encode_postings(gaps: np.ndarray, impacts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The field ``postings`` of all postings, concatenated as uint8, and where each ends, int64.

    gaps, impacts: integers [n]; a gap of 0 is left out, impacts are above 0.
    """
    pieces, ends = [], []
    size = 0
    for start in range(0, len(gaps), _PIECE):
        span = slice(start, start + _PIECE)
        piece, places = _encoded(gaps[span], impacts[span])
        pieces.append(piece)
        ends.append(places + size)
        size += len(piece)
    return np.concatenate(pieces), np.concatenate(ends)


def _encoded(gaps: np.ndarray, impacts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    gaps, impacts = gaps.astype(np.int64), impacts.astype(np.int64)
    gap_sizes = np.where(gaps > 0, varint_sizes(gaps), 0)
    sizes = varint_sizes(impacts)
    bodies = gap_sizes + (gap_sizes > 0) + 1 + sizes
    ends = np.cumsum(bodies + 2)
    out = np.zeros(int(ends[-1]), np.uint8)
    starts = ends - bodies - 2
    out[starts] = _POSTING
    out[starts + 1] = bodies  # at most 12
    has_gap = gap_sizes > 0
    out[starts[has_gap] + 2] = _DOCID
    put_varints(out, starts + 3, gaps, gap_sizes)
    out[ends - sizes - 1] = _TF
    put_varints(out, ends - sizes, impacts, sizes)
    return out, ends


def decode_postings(data: np.ndarray) -> tuple[np.ndarray, np.ndarray] | None:
    """The gaps and impacts of postings in the usual form, int64, or None.

    The usual form: each posting has its document and then its impact, each in as few bytes as
    possible, and nothing else; the first posting may leave out a document with the number 0.
    """
    gaps, impacts = [], []
    place = 0
    while place < len(data):
        piece = data[place : place + _BYTES]
        found = read_varints(piece)
        if found is None or len(found[0]) < 4:
            return None
        values, ends = found
        if not place and values[2] == _TF:  # as if the document stood there
            values = np.concatenate([values[:2], [_DOCID, 0], values[2:]])
            ends = np.concatenate([ends[:2], [ends[1], ends[1]], ends[2:]])
        whole = len(values) // 6 * 6
        if not whole:
            return None
        rows, places = values[:whole].reshape(-1, 6), ends[:whole].reshape(-1, 6)
        usual = (rows[:, 0] == _POSTING) & (rows[:, 2] == _DOCID) & (rows[:, 4] == _TF)
        usual &= rows[:, 1] == places[:, 5] - places[:, 1]
        usual &= (rows[:, 3] < 2**31) & (rows[:, 5] < 2**31)
        if not usual.all():
            return None
        # Copies, so that the rest of the piece can be freed.
        gaps.append(rows[:, 3].copy())
        impacts.append(rows[:, 5].copy())
        place += int(places[-1, 5])
    return (np.concatenate(gaps), np.concatenate(impacts)) if gaps else None
