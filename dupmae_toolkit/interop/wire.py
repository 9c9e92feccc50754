"""Protocol Buffers' wire format, as far as CIFF needs it, with whole arrays of varints at once.

Source: https://protobuf.dev/programming-guides/encoding/. A varint holds 7 bits a byte, the lowest
first; all bytes but its last have the highest bit. A field begins with the varint
``number << 3 | wire type``. As in proto3, a field whose value is 0 or empty is left out.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Any

import numpy as np

VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5
#: The length of a varint of 64 bits, in bytes.
LONGEST_VARINT = 10

#: A field's number, its wire type and its value: an integer, or the bytes as (start, end).
Field = tuple[int, int, Any]


class WireError(ValueError):
    """Bytes that are not a message; the text says what is wrong, and at which byte."""


def varint(value: int) -> bytes:
    """One varint; ``value``: from 0 to 2^64 - 1."""
    found = bytearray()
    while value >= 0x80:
        found.append(value & 0x7F | 0x80)
        value >>= 7
    found.append(value)
    return bytes(found)


def integer_field(number: int, value: int) -> bytes:
    """A field of an integer of at least 0."""
    return varint(number << 3 | VARINT) + varint(value) if value else b""


def bytes_field(number: int, value: bytes) -> bytes:
    """A field of bytes or of a string in UTF-8."""
    return varint(number << 3 | BYTES) + varint(len(value)) + value if value else b""


def double_field(number: int, value: float) -> bytes:
    """A field of a float64."""
    return varint(number << 3 | FIXED64) + struct.pack("<d", value) if value else b""


def delimited(message: bytes) -> bytes:
    """A message after its length."""
    return varint(len(message)) + message


def varint_sizes(values: np.ndarray) -> np.ndarray:
    """How many bytes each value takes as a varint, int64 [n]; values: from 0 to 2^63 - 1."""
    sizes = np.ones(len(values), np.int64)
    for bits in range(7, 63, 7):
        more = values >> bits != 0
        if not more.any():
            break
        sizes += more
    return sizes


def put_varints(out: np.ndarray, places: np.ndarray, values: np.ndarray, sizes: np.ndarray) -> None:
    """Write varints into ``out``, uint8, each at its place. sizes: their ``varint_sizes``.

    A size of 0 writes nothing.
    """
    for byte in range(int(sizes.max(initial=0))):
        here = sizes > byte
        more = np.where(sizes[here] > byte + 1, 0x80, 0)
        out[places[here] + byte] = (values[here] >> (7 * byte) & 0x7F) | more


def read_varints(data: np.ndarray) -> tuple[np.ndarray, np.ndarray] | None:
    """The whole varints of ``data``, uint8, one after the other: their values and ends, int64 [n].

    An end is the place after the last byte. If the last varint is cut off, it is left out. None if
    there is no whole varint, or if one has more than 35 bits.
    """
    ends = np.flatnonzero(data < 0x80) + 1
    if not len(ends):
        return None
    starts = np.concatenate([[0], ends[:-1]])
    sizes = ends - starts
    if sizes.max() > 5:
        return None
    values = np.zeros(len(ends), np.int64)
    for byte in range(int(sizes.max())):
        here = sizes > byte
        values[here] |= (data[starts[here] + byte].astype(np.int64) & 0x7F) << (7 * byte)
    return values, ends


def read_varint(data: Any, start: int, end: int) -> tuple[int, int]:
    """A varint in ``data[start:end]`` and the place after it; WireError if there is none."""
    value = 0
    for count, place in enumerate(range(start, min(end, start + LONGEST_VARINT))):
        byte = data[place]
        value |= (byte & 0x7F) << (7 * count)
        if byte < 0x80:
            if value >= 2**64:
                raise WireError(f"byte {start:,}: an integer of more than 64 bits")
            return value, place + 1
    if end - start >= LONGEST_VARINT:
        raise WireError(f"byte {start:,}: an integer of more than {LONGEST_VARINT} bytes")
    raise WireError(f"byte {start:,}: cut off in the middle of an integer")


def read_length(data: Any, start: int, end: int) -> tuple[int, int]:
    """The place, (start, end), of the bytes whose length is given at ``start``."""
    length, first = read_varint(data, start, end)
    if length > end - first:
        raise WireError(
            f"byte {start:,}: announces {length:,} bytes, and {end - first:,} are left; cut off"
        )
    return first, first + length


def read_fields(data: Any, start: int, end: int) -> Iterator[tuple[Field, int]]:
    """The fields of the message in ``data[start:end]``, each with the place after it."""
    place = start
    while place < end:
        tag, after = read_varint(data, place, end)
        number, kind = tag >> 3, tag & 7
        value: Any
        if not 1 <= number < 2**29:
            raise WireError(f"byte {place:,}: a field of the number {number}")
        if kind == VARINT:
            value, after = read_varint(data, after, end)
        elif kind == BYTES:
            value = read_length(data, after, end)
            after = value[1]
        elif kind in (FIXED64, FIXED32):
            value = (after, after + (8 if kind == FIXED64 else 4))
            after = value[1]
            if after > end:
                raise WireError(f"byte {place:,}: cut off in the middle of a number")
        else:
            raise WireError(f"byte {place:,}: a field of the unknown wire type {kind}")
        yield (number, kind, value), after
        place = after


def signed(value: int) -> int:
    """A varint as a signed integer of 64 bits: negative ones have the highest bit."""
    return value - 2**64 if value >= 2**63 else value
