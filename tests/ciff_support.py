"""A plain reader and writer of CIFF, byte by byte from its specification; shares no code with ours.

Sources: https://protobuf.dev/programming-guides/encoding/ and CommonIndexFileFormat.proto of
https://github.com/osirrc/ciff.
"""

from __future__ import annotations

import struct


class Stream:
    """The bytes of a file, taken from the front."""

    def __init__(self, data: bytes) -> None:
        self.rest = list(data[::-1])

    def byte(self) -> int:
        return self.rest.pop()

    def number(self) -> int:
        shift = value = 0
        while True:
            byte = self.byte()
            value += byte % 128 * 2**shift
            shift += 7
            if byte < 128:
                return value

    def take(self, count: int) -> bytes:
        return bytes(self.byte() for _ in range(count))

    def message(self) -> list[tuple[int, object]]:
        """The fields of a message after its length: numbers, or bytes."""
        body, fields = Stream(self.take(self.number())), []
        while body.rest:
            number, kind = divmod(body.number(), 8)
            assert kind in (0, 1, 2)
            value = body.number() if kind == 0 else body.take(8 if kind == 1 else body.number())
            fields.append((number, value))
        return fields


def read(data: bytes) -> tuple[dict, dict[str, tuple[int, int, list[tuple[int, int]]]], list]:
    """The header by field; (df, cf, [(docid, tf)]) by term; (docid, id, length) of documents."""
    stream = Stream(data)
    header = dict(stream.message())
    lists, documents = {}, []
    for _ in range(header[2]):
        fields = stream.message()
        single = dict(field for field in fields if field[0] != 4)
        postings, docid = [], 0
        for number, value in fields:
            if number == 4:
                pair = dict(Stream(bytes([len(value)]) + value).message())
                docid += pair.get(1, 0)
                postings.append((docid, pair[2]))
        lists[single[1].decode()] = (single[2], single[3], postings)
    for _ in range(header[3]):
        record = dict(stream.message())
        documents.append((record.get(1, 0), record[2].decode(), record.get(3, 0)))
    assert not stream.rest
    return header, lists, documents


def number(value: int) -> bytes:
    """A varint; of negative numbers, as of 64 bits."""
    value %= 2**64
    out = []
    while True:
        value, low = divmod(value, 128)
        out.append(low + (128 if value else 0))
        if not value:
            return bytes(out)


def field(place: int, value: int | bytes | float) -> bytes:
    if isinstance(value, bytes):
        return number(place * 8 + 2) + number(len(value)) + value
    if isinstance(value, float):
        return number(place * 8 + 1) + struct.pack("<d", value)
    return number(place * 8) + number(value)


def message(*fields: bytes) -> bytes:
    body = b"".join(fields)
    return number(len(body)) + body


def header(lists: int, documents: int, version: int = 1) -> bytes:
    values = (version, lists, documents, lists, documents, 100)
    return message(*(field(i, v) for i, v in enumerate(values, 1)), field(7, 2.5), field(8, b"x"))


def posting(gap: int, tf: int) -> bytes:
    return field(4, field(1, gap) + field(2, tf))


def postings(term: bytes, *pairs: tuple[int, int], df: int | None = None) -> bytes:
    """A list; ``pairs``: of gap and tf."""
    total = sum(tf for _, tf in pairs)
    count = len(pairs) if df is None else df
    head = (field(1, term), field(2, count), field(3, total))
    return message(*head, *(posting(*pair) for pair in pairs))


def record(docid: int, name: bytes, length: int = 1) -> bytes:
    return message(field(1, docid), field(2, name), field(3, length))


#: A small file, by its messages.
GOOD = (
    header(2, 3),
    postings(b"one", (0, 2), (2, 1)),
    postings("zwölf\n\x00 ␛".encode(), (1, 300)),
    *(record(n, name) for n, name in enumerate([b"a", b"b c", "é".encode()])),
)
