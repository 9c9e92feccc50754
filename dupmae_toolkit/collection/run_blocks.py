"""TREC runs read and written by Arrow in blocks of many lines, much faster than line by line.

A run of ten thousand topics has millions of lines, and each Python operation on a line takes a
microsecond. This module handles only runs in the usual form. For any other, ``read_columns`` and
``block_of`` return None; then ``trec`` works line by line, and reports what is wrong and where.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import chain, pairwise
from typing import Any

import numpy as np

from dupmae_toolkit.collection.identifiers import MAX_ID_BYTES, from_trec
from dupmae_toolkit.collection.sources import TextSource

#: Bytes to parse at a time.
READ_BYTES = 16 * 2**20
#: Lines to write at a time.
WRITE_LINES = 65_536
_COLUMNS = ("topic", "q0", "document", "rank", "score", "tag")
#: NUL, and white space other than space and line feed: the usual form has none of these.
_ODD = b"\t\r\x00\x0b\x0c\x1c\x1d\x1e\x1f"

#: Ids and scores of one topic, in the order of the lines.
Listed = tuple[list[str], np.ndarray]


def read_columns(source: TextSource) -> tuple[dict[str, Listed], str] | None:
    """The hits of each topic, in the order of their first lines, and the last line's tag.

    None unless the file has six columns of ASCII with one space between them, finite scores, and no
    document twice in a topic. Raises InputError if the file cannot be read.
    """
    parts: dict[str, list[Listed]] = {}
    tag = ""
    for block in source.blocks(READ_BYTES):
        parsed = _parse(block)
        if parsed is None:
            return None
        topics, documents, scores, tag = parsed
        for name, start, stop in topics:
            parts.setdefault(name, []).append((documents[start:stop], scores[start:stop]))
    found = {}
    for topic, pieces in parts.items():
        ids = list(chain.from_iterable(documents for documents, _ in pieces))
        if len(set(ids)) != len(ids):
            return None
        found[topic] = ids, np.concatenate([scores for _, scores in pieces])
    return (found, tag) if found else None


def _parse(block: bytes) -> tuple[list[tuple[str, int, int]], list[str], np.ndarray, str] | None:
    """(topic, start, stop) of each stretch of one topic's lines; documents; scores; last tag."""
    lines = block.count(b"\n")
    regular = (
        block.isascii()
        and not any(byte in block for byte in _ODD)
        and block.endswith(b"\n")
        and block.count(b" ") == 5 * lines
        and not any(odd in block for odd in (b"  ", b" \n", b"\n ", b"\n\n"))
        and block[:1] not in b" \n"
    )
    if not regular:
        return None
    import pyarrow as pa
    from pyarrow import csv

    kinds = {name: pa.string() for name in _COLUMNS} | {"score": pa.float64()}
    try:
        table = csv.read_csv(
            pa.BufferReader(block),
            csv.ReadOptions(column_names=list(_COLUMNS), block_size=len(block) + 1),
            csv.ParseOptions(
                delimiter=" ", quote_char=False, double_quote=False, ignore_empty_lines=False
            ),
            csv.ConvertOptions(
                column_types=kinds,
                include_columns=["topic", "document", "score", "tag"],
                null_values=[],
                strings_can_be_null=False,
            ),
        ).combine_chunks()
    except pa.ArrowInvalid:
        return None
    scores = table.column("score").to_numpy()
    if table.num_rows != lines or not np.isfinite(scores).all():
        return None
    topics = table.column("topic").combine_chunks().dictionary_encode()
    codes, names = topics.indices.to_numpy(), topics.dictionary.to_pylist()
    bounds = [0, *(np.flatnonzero(np.diff(codes)) + 1).tolist(), lines]
    stretches = [(names[codes[start]], start, stop) for start, stop in pairwise(bounds)]
    documents = table.column("document").to_pylist()
    if b"%%" in block:
        names, documents = list(map(from_trec, names)), list(map(from_trec, documents))
        stretches = [(names[codes[start]], start, stop) for start, stop in pairwise(bounds)]
    return stretches, documents, scores, table.column("tag")[lines - 1].as_py()


def chunks(sizes: Sequence[int]) -> Iterator[slice]:
    """Slices of topics with at most ``WRITE_LINES`` hits together, but at least one topic."""
    start = room = 0
    for number, size in enumerate(sizes):
        if number > start and size > room:
            yield slice(start, number)
            start = number
        room = (WRITE_LINES if number == start else room) - size
    if start < len(sizes):
        yield slice(start, len(sizes))


def block_of(
    topics: Sequence[str], ids: Sequence[list[str]], scores: Sequence[np.ndarray], tag: str
) -> Any | None:
    """The lines of several topics as bytes; None unless all ids are printable ASCII as they are.

    topics, tag: already checked, and escaped as ids in TREC files are. ids, scores: one list and
    one float32 array per topic, as written.
    """
    documents = list(chain.from_iterable(ids))
    if not documents:
        return b""
    together = " ".join(documents)
    fit = (
        together.isascii()
        and together.isprintable()
        and together.count(" ") == len(documents) - 1
        and "  " not in together
        and together[:1] not in ("", " ")
        and together[-1] != " "
        and "%%" not in together
    )
    if not fit:
        return None
    import pyarrow as pa
    import pyarrow.compute as pc

    text = pa.large_string()
    # One buffer with a space after each id, which Arrow uses without copying. Passing the strings
    # one by one would take a third of the total time.
    row = np.frombuffer(f"{together} ".encode("ascii"), np.uint8)
    bounds = np.zeros(len(documents) + 1, np.int64)
    bounds[1:] = np.flatnonzero(row == ord(" ")) + 1
    if np.diff(bounds).max() - 1 > MAX_ID_BYTES:
        return None
    names = pa.LargeStringArray.from_buffers(
        len(documents), pa.py_buffer(bounds), pa.py_buffer(row)
    )
    counts = np.array([len(names) for names in ids])
    owners = np.repeat(np.arange(len(counts)), counts)
    ranks = np.arange(len(documents)) - np.repeat(np.cumsum(counts) - counts, counts)
    heads = pa.array([f"{topic} Q0 " for topic in topics], text)
    places = pa.array([f"{rank} " for rank in range(1, int(counts.max()) + 1)], text)
    lines: Any = pc.binary_join_element_wise(
        heads.take(pa.array(owners)),
        names,
        places.take(pa.array(ranks)),
        pc.cast(pa.array(np.concatenate(scores)), text),
        pa.scalar(f" {tag}\n", text),
        pa.scalar("", text),
    )
    # A column's last buffer holds its strings one after another.
    return memoryview(lines.buffers()[2])[: int(pc.binary_length(lines).to_numpy().sum())]
