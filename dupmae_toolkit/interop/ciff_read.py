"""Reads a file of CIFF, see `ciff_write.py`, and checks every number in it.

Memory is allocated for the bytes that the file has, never for a size that it states.
"""

from __future__ import annotations

import contextlib
import mmap
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, cast

import numpy as np

from dupmae_toolkit.collection.identifiers import check_id
from dupmae_toolkit.collection.sources import TextSource
from dupmae_toolkit.errors import InputError
from dupmae_toolkit.files import cannot_write
from dupmae_toolkit.index.impacts import LARGEST_MAX_IMPACT
from dupmae_toolkit.interop.ciff_postings import decode_postings
from dupmae_toolkit.interop.wire import (
    BYTES,
    VARINT,
    WireError,
    read_fields,
    read_length,
    signed,
)
from dupmae_toolkit.progress import Progress, silent

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

#: Suffixes of other files that hold vectors.
_OTHERS = (".jsonl", ".json", ".npy", ".parquet")
#: How many bytes are unpacked together.
_BLOCK = 1 << 22


@dataclass(slots=True)
class Ciff:
    """An index from a file. impacts: CSR [n, T], uint16, columns sorted.

    ids, terms: of rows and columns. other_totals: for how many terms the sum of impacts is not the
    one that the file states, for example because impacts were rounded after counting.
    """

    ids: list[str]
    terms: list[str]
    impacts: csr_matrix
    description: str = ""
    other_totals: int = 0


@dataclass(slots=True)
class _Lists:
    terms: dict[str, int] = field(default_factory=dict)
    docids: list[np.ndarray] = field(default_factory=list)
    impacts: list[np.ndarray] = field(default_factory=list)
    other_totals: int = 0


def read_ciff(path: str | Path, progress: Progress = silent) -> Ciff:
    """Read a whole file; its postings are held in memory, about 20 bytes each.

    path: plain, or compressed as its suffix says (``sources.COMPRESSED``); then it is unpacked to a
    temporary file without a name.

    Raises InputError, of one line, for a file that is cut off, contradicts itself, or holds what no
    index can: an impact below 1 or above 65,535, a term or an id that comes twice.
    """
    path = Path(path)
    try:
        with _plain(path) as file:
            if file.read(2) == b"\x1f\x8b":
                raise InputError.at(path, None, "packed by gzip", "give its name the suffix .gz")
            size = file.seek(0, 2)
            if not size:
                raise InputError.at(path, None, "empty; name a file of CIFF")
            # If another process truncates the file, reading a mapped page would end this process.
            with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
                return _Reader(path, data, size).read(progress)
    except OSError as error:
        raise InputError.at(path, None, f"cannot be read ({error.strerror})") from error
    except WireError as error:
        remedy = "get or write it again"
        if path.suffix in _OTHERS:
            remedy = f"`dupmae index CORPUS --vectors {path}` takes vectors of this kind"
        raise InputError.at(path, None, f"not a whole file of CIFF ({error})", remedy) from error


@contextlib.contextmanager
def _plain(path: Path) -> Iterator[BinaryIO]:
    """A file, unpacked."""
    source = TextSource(path)
    with contextlib.ExitStack() as stack:
        if source.is_plain():
            yield stack.enter_context(path.open("rb"))
            return
        file = cast(BinaryIO, stack.enter_context(tempfile.TemporaryFile()))
        try:
            for block in source.blocks(_BLOCK, lines=False):
                file.write(block)
            file.flush()
        except OSError as error:
            raise cannot_write(tempfile.gettempdir(), error) from error
        file.seek(0)
        yield file


class _Reader:
    def __init__(self, path: Path, data: Any, size: int) -> None:
        self.path, self.data, self.size = path, data, size
        self.place = 0

    def refuse(self, fault: str) -> InputError:
        return InputError.at(self.path, None, fault)

    def next(self, what: str, number: int, total: int) -> tuple[int, int]:
        """The place of the next message; ``number`` of ``total`` of its kind."""
        if self.place == self.size:
            raise self.refuse(
                f"states {total:,} {what}s but ends after {number:,}; it is cut off, or its header "
                "is another file's"
            )
        start, end = read_length(self.data, self.place, self.size)
        self.place = end
        return start, end

    def read(self, progress: Progress) -> Ciff:
        head = self.message(*read_length(self.data, 0, self.size), _HEADER, "the header")
        self.place = read_length(self.data, 0, self.size)[1]
        if head[1] != 1:
            raise self.refuse(f"is not CIFF, or of version {head[1]}; only version 1 can be read")
        lists, documents = head[2], head[3]
        for what, number in (("postings lists", lists), ("documents", documents)):
            if number < 0:
                raise self.refuse(f"states {number:,} {what}")
        found = _Lists()
        with progress("reading postings", None) as advance:
            for number in range(lists):
                start, end = self.next("postings list", number, lists)
                self.postings(found, start, end, documents)
                advance(1)
        ids = self.records(documents, progress)
        if self.place != self.size:
            raise self.refuse(
                f"has {self.size - self.place:,} bytes after its last document; its header counts "
                "too few lists or documents"
            )
        if not ids:
            raise self.refuse("holds no document")
        if not found.terms:
            raise self.refuse("holds no term")
        description = self.string(head[8], "the description") if head[8] else ""
        return Ciff(
            ids, list(found.terms), _matrix(found, len(ids)), description, found.other_totals
        )

    def message(
        self, start: int, end: int, kinds: dict[int, int], what: str, until: int = 0
    ) -> dict[int, Any]:
        """The fields of a message by number, 0 where one is missing; other fields are skipped.

        kinds: the wire type of each field. until: stop before a field with this number, and return
        its place as field 0.
        """
        values: dict[int, Any] = dict.fromkeys(kinds, 0) | {0: end}
        place = start
        for (number, kind, value), after in read_fields(self.data, start, end):
            if number == until:
                values[0] = place
                break
            if number in kinds:
                if kind != kinds[number]:
                    raise WireError(f"byte {place:,}: a field of {what} has the wrong type")
                values[number] = signed(value) if kind == VARINT else value
            place = after
        return values

    def string(self, place: tuple[int, int], what: str) -> str:
        try:
            return self.data[slice(*place)].decode("utf-8")
        except UnicodeDecodeError as error:
            raise self.refuse(f"{what} is not UTF-8") from error

    def postings(self, found: _Lists, start: int, end: int, documents: int) -> None:
        """Check a list of postings, and add it."""
        head = self.message(start, end, _LIST, "a postings list", until=4)
        gaps, impacts = self.columns(head, head[0], end)
        number = len(found.terms) + 1
        term = self.string(head[1], f"the term of list {number:,}") if head[1] else ""
        if not term:
            raise self.refuse(f"list {number:,} has no term")
        if found.terms.setdefault(term, number - 1) != number - 1:
            raise self.refuse(f"has two lists of the term {term!r}")
        if len(gaps) != head[2]:
            raise self.refuse(
                f"the term {term!r} has {len(gaps):,} postings and states {head[2]:,}"
            )
        self.check(term, gaps, gaps < (np.arange(len(gaps)) > 0), _FALLS)
        # Each gap is below 2^31, so the sum of all gaps cannot overflow.
        docids = np.cumsum(gaps)
        self.check(term, docids, docids >= documents, _BEYOND.format(documents=documents))
        self.check(term, impacts, (impacts < 1) | (impacts > LARGEST_MAX_IMPACT), _IMPACT)
        found.docids.append(docids.astype(np.int32))
        found.impacts.append(impacts.astype(np.uint16))
        found.other_totals += int(impacts.sum()) != head[3]

    def check(self, term: str, values: np.ndarray, wrong: np.ndarray, fault: str) -> None:
        if wrong.any():
            place = int(np.argmax(wrong))
            said = fault.format(value=int(values[place]))
            raise self.refuse(f"posting {place + 1:,} of the term {term!r} {said}")

    def columns(self, head: dict[int, Any], start: int, end: int) -> tuple[np.ndarray, np.ndarray]:
        """The gaps and impacts of the postings in a list, int64, each from -2^31 to 2^31 - 1.

        start: the place of the first posting. Lists in the form that most programs write are read
        as a whole. Fields after the postings are added to ``head``.
        """
        quick = decode_postings(np.frombuffer(self.data[start:end], np.uint8))
        if quick is not None:
            return quick
        gaps, impacts = [], []
        place = start
        for (number, kind, value), after in read_fields(self.data, start, end):
            if number in (*_LIST, 4) and kind != (_LIST | {4: BYTES})[number]:
                raise WireError(f"byte {place:,}: a field of a postings list has the wrong type")
            if number == 4:
                posting = self.message(value[0], value[1], _PAIR, "a posting")
                for each in (1, 2):
                    if not -(2**31) <= posting[each] < 2**31:
                        raise WireError(f"byte {place:,}: an integer of more than 32 bits")
                gaps.append(posting[1])
                impacts.append(posting[2])
            elif number in _LIST:
                head[number] = signed(value) if kind == VARINT else value
            place = after
        return np.array(gaps, np.int64), np.array(impacts, np.int64)

    def records(self, total: int, progress: Progress) -> list[str]:
        """The ids of all documents by number."""
        names: dict[int, str] = {}
        seen: set[str] = set()
        with progress("reading documents", None) as advance:
            for number in range(total):
                span = self.next("document", number, total)
                record = self.message(*span, _RECORD, "a document")
                docid = record[1]
                if not 0 <= docid < total:
                    raise self.refuse(f"a document has the number {docid:,}, of {total:,}")
                what = f"the id of document {docid:,}"
                name = self.string(record[2], what) if record[2] else ""
                check_id(name, self.path, None)
                if docid in names:
                    raise self.refuse(f"two documents have the number {docid:,}")
                if name in seen:
                    raise self.refuse(f"the id {name!r} comes twice; ids must be unique")
                names[docid] = name
                seen.add(name)
                advance(1)
        return [names[number] for number in range(len(names))]


#: The wire types of the messages' fields by number.
_HEADER = dict.fromkeys(range(1, 7), VARINT) | {8: BYTES}
_LIST = {1: BYTES, 2: VARINT, 3: VARINT}
_PAIR = {1: VARINT, 2: VARINT}
_RECORD = {1: VARINT, 2: BYTES, 3: VARINT}

_FALLS = "has the gap {value:,}; documents must be in ascending order, each once"
_BEYOND = "is of document {{value:,}}; the file has {documents:,}, counted from 0"
_IMPACT = "has the impact {value:,}; an index takes 1 to 65,535"


def _matrix(found: _Lists, documents: int) -> csr_matrix:
    from scipy.sparse import csc_matrix, csr_matrix

    starts = np.concatenate([[0], np.cumsum([len(each) for each in found.docids])])
    arrays = (np.concatenate(found.impacts), np.concatenate(found.docids), starts)
    matrix = csr_matrix(csc_matrix(arrays, shape=(documents, len(found.terms))))
    matrix.sort_indices()
    return matrix
