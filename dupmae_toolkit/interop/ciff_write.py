"""Writes the impacts of an index as CIFF, the Common Index File Format.

Format: https://github.com/osirrc/ciff, `CommonIndexFileFormat.proto` (version 1; Lin et al.,
Supporting Interoperability Between Open-Source Search Engines with the Common Index File Format,
SIGIR 2020). A file is a header, a postings list for each term and a record for each document, all
protobuf messages, each after its length. The first posting of a list has the number of its
document, each later one the difference from the number before it. The term frequency is the
impact.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from dupmae_toolkit.errors import InputError
from dupmae_toolkit.files import atomic_file, check_file_output, open_packed
from dupmae_toolkit.index.build import says_why
from dupmae_toolkit.index.vocabulary import escape, word_terms
from dupmae_toolkit.index.words import united
from dupmae_toolkit.interop.ciff_postings import encode_postings
from dupmae_toolkit.interop.live_rows import IndexRows
from dupmae_toolkit.interop.wire import (
    bytes_field,
    delimited,
    double_field,
    integer_field,
    varint,
)
from dupmae_toolkit.progress import Progress, silent

#: Which columns of the impacts can be written.
KINDS = ("tokens", "words", "both")
_VERSION = 1
#: How many postings are held in memory at a time.
_BLOCK = 1 << 23
#: A posting, with the number of its term.
_POSTING = np.dtype([("column", "<i4"), ("number", "<i4"), ("impact", "<u2")])
_DOCIDS = 2**31
_OF_PASSAGES = "each document is a passage, whose id is its document's, # and a number; "


@dataclass(frozen=True, slots=True)
class Written:
    """What a file of CIFF holds.

    documents: of CIFF; passages, if each row of the index is one. unused: terms of the vocabulary
    that no document has.
    """

    documents: int
    passages: bool
    terms: int
    postings: int
    unused: int
    description: str


def write_ciff(
    index: str | Path,
    path: str | Path,
    terms: str = "tokens",
    progress: Progress = silent,
    block: int = _BLOCK,
) -> Written:
    """Write the impacts of an index's live documents into the file ``path``.

    If the suffix names a compression, the file is compressed, see ``files.open_packed``. terms:
    ``tokens``, as Lucene's terms; ``words``, as BM25 counts them; or ``both``, where each word has
    the same term as in Lucene, which no token has. Documents are numbered in the order of their
    ids, terms sorted by code points; the passages of an index of passages are documents here, and
    the header's description says so. A document's length is the sum of its impacts. Only the rows
    of one segment and ``block`` postings are in memory at a time; if there are more postings, they
    take 10 bytes each of the disk of ``path`` meanwhile.

    Raises InputError for an index that lacks such terms.
    """
    path = Path(path)
    if terms not in KINDS:
        raise InputError(f"terms {terms!r}: choose one of {', '.join(KINDS)}")
    check_file_output(path, "the index as CIFF")
    with IndexRows.opened(index) as rows, says_why(path), atomic_file(path) as temporary:
        table = _Table(rows, terms)
        with (
            open_packed(temporary, path) as file,
            progress("writing postings", table.postings) as advance,
        ):
            file.write(delimited(table.header()))
            for block_of in table.blocks(block, path.parent):
                advance(_write_lists(file, *block_of))
            for number, name in enumerate(rows.ids):
                length = int(table.lengths[number])
                record = integer_field(1, number) + bytes_field(2, name.encode())
                file.write(delimited(record + integer_field(3, length)))
    found = len(table.names)
    passages = rows.manifest.passages is not None
    return Written(len(rows), passages, found, table.postings, table.unused, table.description)


class _Table:
    """The columns to be written, in the order of their terms, with their counts.

    names: the T terms. lengths: the sum of each document's impacts, int64 [n].
    """

    def __init__(self, rows: IndexRows, kind: str) -> None:
        manifest = rows.manifest
        tokens = manifest.encoder.vocabulary_size
        if kind != "words" and "lexical" not in manifest.encoder.sides:
            raise InputError.at(rows.index, None, "has no lexical vectors, so no tokens to export")
        if kind != "tokens" and manifest.bm25 is None:
            raise InputError.at(
                rows.index, None, "was built without BM25, so it has no words", "export its tokens"
            )
        if len(rows) >= _DOCIDS:
            raise InputError.at(rows.index, None, f"CIFF numbers fewer than {_DOCIDS:,} documents")
        self._rows = rows
        words, places = united([segment.words for segment in rows.segments])
        names: list[str] = []
        if kind != "words":
            names += rows.terms
        if kind != "tokens":
            names += word_terms(words) if kind == "both" else list(map(escape, words))
        first_word = 0 if kind == "words" else tokens
        #: For each segment, the place of each column in ``names``; -1: none.
        self._columns = []
        for place in places:
            own = np.arange(tokens) if kind != "words" else np.full(tokens, -1)
            others = first_word + place if kind != "tokens" else np.full(len(place), -1)
            self._columns.append(np.concatenate([own, others]).astype(np.int32))
        df, cf = np.zeros(len(names), np.int64), np.zeros(len(names), np.int64)
        self.lengths = np.zeros(len(rows), np.int64)
        for columns, numbers, impacts in self._entries():
            df += np.bincount(columns, minlength=len(names))
            cf += np.bincount(columns, weights=impacts, minlength=len(names)).astype(np.int64)
            self.lengths += np.bincount(numbers, impacts, len(rows)).astype(np.int64)
        used = sorted(np.flatnonzero(df).tolist(), key=names.__getitem__)
        self.unused = len(names) - len(used)
        self.names = [names[column] for column in used]
        self.df, self.cf = df[used], cf[used]
        self.postings = int(self.df.sum())
        ranks = np.full(len(names) + 1, -1, np.int32)  # the last one is for column -1
        ranks[used] = np.arange(len(used))
        self._columns = [ranks[columns] for columns in self._columns]
        scale = f"{manifest.scale!r} for tokens" if kind != "words" else ""
        if kind != "tokens":
            scale += f"{', ' if scale else ''}{manifest.max_impact} for words"
        self.description = (
            f"impacts of {'tokens and words' if kind == 'both' else kind}, written by "
            f"dupmae-toolkit; {_OF_PASSAGES if manifest.passages else ''}"
            f"encoder {manifest.encoder.name}; a weight is tf divided by {scale}"
        )

    def _entries(self) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
        """The chosen postings, some rows at a time: columns, numbers of documents, impacts."""
        for columns, (numbers, impacts) in self._rows.impacts(self._columns):
            yield columns, numbers, impacts

    def header(self) -> bytes:
        """The header of the file."""
        total, documents = int(self.cf.sum()), len(self.lengths)
        whole = len(self.names)
        return b"".join(
            [
                *(integer_field(1, _VERSION), integer_field(2, whole)),
                *(integer_field(3, documents), integer_field(4, whole)),
                *(integer_field(5, documents), integer_field(6, total)),
                double_field(7, total / documents),
                bytes_field(8, self.description.encode("utf-8", "replace")),
            ]
        )

    def blocks(self, size: int, folder: Path) -> Iterator[tuple[Any, ...]]:
        """The lists of some terms at a time: up to ``size`` postings, or a single term.

        Impacts are read by documents, once. If there are several blocks, the postings wait in a
        file without a name in ``folder``, each block's in a place of its own.
        """
        ends = np.append(0, np.cumsum(self.df))
        firsts = [0]
        while firsts[-1] < len(self.names):
            last = int(np.searchsorted(ends, ends[firsts[-1]] + size, side="right")) - 1
            firsts.append(max(firsts[-1] + 1, last))
        starts = ends[firsts]
        with tempfile.TemporaryFile(dir=folder) as file:
            for block, rows in self._by_block(firsts) if len(starts) > 2 else ():
                file.seek(int(starts[block]) * _POSTING.itemsize)
                file.write(rows.tobytes())
                starts[block] += len(rows)
            for first, last in pairwise(firsts):
                if len(starts) > 2:
                    file.seek(int(ends[first]) * _POSTING.itemsize)
                    read = file.read(int(ends[last] - ends[first]) * _POSTING.itemsize)
                    rows = np.frombuffer(read, _POSTING)
                else:
                    rows = np.concatenate([rows for _, rows in self._by_block(firsts)])
                rows = rows[np.lexsort((rows["number"], rows["column"]))]
                span = slice(first, last)
                lists = self.names[span], self.df[span], self.cf[span]
                yield (*lists, rows["number"], rows["impact"])

    def _by_block(self, firsts: list[int]) -> Iterator[tuple[int, np.ndarray]]:
        """All postings, ``_POSTING`` [n], some of one block at a time, and the block's number.

        firsts: the first column of each block, and the number of columns.
        """
        for columns, numbers, impacts in self._entries():
            rows = np.empty(len(columns), _POSTING)
            rows["column"], rows["number"], rows["impact"] = columns, numbers, impacts
            blocks = np.searchsorted(firsts, columns, side="right") - 1
            if len(firsts) > 2:
                order = np.argsort(blocks.astype(np.min_scalar_type(len(firsts))), kind="stable")
                rows, blocks = rows[order], blocks[order]
            found, places = np.unique(blocks, return_index=True)
            yield from zip(found.tolist(), np.split(rows, places)[1:], strict=True)


def _write_lists(
    file: BinaryIO,
    names: list[str],
    df: np.ndarray,
    cf: np.ndarray,
    numbers: np.ndarray,
    impacts: np.ndarray,
) -> int:
    """Write the lists of terms, whose postings follow one another; returns how many lists."""
    ends = np.cumsum(df)
    gaps = np.diff(numbers, prepend=np.int32(0))
    gaps[ends - df] = numbers[ends - df]
    data, places = encode_postings(gaps, impacts)
    written = memoryview(data.tobytes())
    starts = [0, *places[ends - 1].tolist()]
    counts = zip(names, df.tolist(), cf.tolist(), starts[:-1], starts[1:], strict=True)
    for name, documents, total, start, end in counts:
        head = bytes_field(1, name.encode()) + integer_field(2, documents) + integer_field(3, total)
        file.write(varint(len(head) + end - start) + head)
        file.write(written[start:end])
    return len(numbers)
