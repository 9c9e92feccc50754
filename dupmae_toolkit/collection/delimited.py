"""CSV and TSV: rows of columns, whose names stand in a header or are id and text.

A TSV has no quotation: quotation marks are ordinary characters, and a line is a row. A CSV follows
RFC 4180: cells in double quotation marks may hold the delimiter and line breaks. Its delimiter is
the one of ``,``, ``;``, TAB and ``|`` with which its first line is a header; else the comma.

The first line is a header if columns were named by the user. Otherwise it is one if all its cells
could be names (see ``_could_be_names``) and

- one of them is a usual name of an id ("id", "docno", "query_id"), or
- one is a usual name of a text, and there are not two columns, or the other cell has no digit.

So ``id TAB text`` and ``sku TAB text`` are headers, and ``q1 TAB body`` is a topic. ``csv.Sniffer``
is not used: it guesses from statistics, and takes a first row of short texts for a header.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping, Sequence

from dupmae_toolkit.collection.cells import Cells, Column, remarks_on
from dupmae_toolkit.collection.fields import (
    ANY_COLUMNS,
    DOCUMENT_NAMES,
    Columns,
    Names,
    find_fields,
)
from dupmae_toolkit.collection.rows import FileRows, Row, Rows
from dupmae_toolkit.collection.sources import MAX_LINE_BYTES, TextSource
from dupmae_toolkit.errors import InputError

DELIMITERS = (",", ";", "\t", "|")
#: A header's cell has at most so many characters, and so many words.
_NAME_LENGTH, _NAME_WORDS = 64, 4

#: The columns of a file without a header.
_BARE = ["id", "text"]

#: A row's cells with the number of its first line, or what is wrong with it.
_Cells = tuple[int, list[str] | InputError]


class Delimited(FileRows):
    """The rows of a CSV or TSV file, without its header; numbered by lines.

    Files with other columns than id, title and text are read once more beforehand, for the types of
    these columns, see ``Column``.

    Raises InputError for a header without a column that ``columns`` names or with one name twice,
    and for more than two columns without a header.
    """

    def __init__(
        self,
        file: TextSource,
        *,
        quoted: bool,
        columns: Columns = ANY_COLUMNS,
        names: Names = DOCUMENT_NAMES,
    ) -> None:
        super().__init__(file)
        self.quoted, self.columns, self.names = quoted, columns, names
        #: The files whose columns have the same types as this one's.
        self.family: Sequence[Delimited] = (self,)
        self._counted: dict[str, Column] | None = None
        self._others: dict[str, Column] | None = None

    def __iter__(self) -> Iterator[tuple[int, Row]]:
        if self._others is None:
            merged: dict[str, Column] = {}
            for file in self.family:
                for name, column in file.counted().items():
                    merged.setdefault(name, Column()).update(column)
            for file in self.family:
                file._others = merged
        columns = self._others or {}
        for number, row in self._records():
            if isinstance(row, Cells):
                row.columns = columns
            yield number, row

    @property
    def remarks(self) -> Sequence[str]:  # type: ignore[override]
        return remarks_on(self._others or {})

    def counted(self) -> dict[str, Column]:
        """The columns that are no id, title or text, with the kinds of their cells."""
        if self._counted is None:
            self._counted = {}
            for _, row in self._records():
                if isinstance(row, InputError):
                    continue
                if not self._counted:
                    others = find_fields(tuple(row), self.names, self.columns).others
                    self._counted = {name: Column() for name in others}
                    if not others:
                        break
                for name, column in self._counted.items():
                    column.add(row[name])
        return self._counted

    def _records(self) -> Iterator[tuple[int, Row]]:
        rows = self._cells()
        header: list[str] | None = None
        for number, cells in rows:
            if isinstance(cells, InputError):
                yield number, cells
                continue
            if header is None:
                header, is_row = self._header(cells, number)
                if not is_row:
                    continue
            if len(cells) != len(header):
                yield number, self._ragged(cells, header, number)
                continue
            yield number, Cells(zip(header, cells, strict=True))

    def is_bare(self) -> bool:
        """Whether it is a TSV of ids and texts without a header, so that each line is a row."""
        return not self.quoted and self.columns.header is not True and not self.has_header()

    def parse(self, text: str, number: int) -> Mapping[str, str]:
        """The row on a line, if ``is_bare``. Raises InputError."""
        cells = text.split("\t")
        if len(cells) != 2:
            raise self._ragged(cells, _BARE, number)
        return {"id": cells[0], "text": cells[1]}

    def count(self) -> int | None:
        """The number of rows of a TSV; None for a CSV, whose rows may have several lines."""
        count = None if self.quoted else super().count()
        return count - self.has_header() if count else count

    def has_header(self) -> bool:
        """Whether the first line names the columns; False if the file cannot be read."""
        try:
            number, cells = next(self._cells(), (0, []))
            return (
                bool(cells)
                and not isinstance(cells, InputError)
                and (not self._header(cells, number)[1])
            )
        except InputError:
            return False

    def _cells(self) -> Iterator[_Cells]:
        if self.quoted:
            yield from self._quoted_cells()
            return
        for number, line in self.file.lines():
            yield number, line.split("\t")

    def _quoted_cells(self) -> Iterator[_Cells]:
        # The limit is the process's. Only a larger one is set, so no other reader fails by it.
        csv.field_size_limit(max(csv.field_size_limit(), MAX_LINE_BYTES))
        fed = 0

        def feed() -> Iterator[str]:
            nonlocal fed
            for number, line in self.file.lines(blank=True):
                fed = number
                yield line + "\n"

        reader = csv.reader(feed(), delimiter=self._delimiter(), strict=True)
        while True:
            number = fed + 1
            try:
                cells = next(reader)
            except StopIteration:
                return
            except csv.Error as error:
                reason = str(error)
                if "end of data" in reason or "limit" in reason:
                    # Everything after it was read as one cell, so nothing is left to go on with.
                    raise InputError.at(
                        self.file, number, "broken CSV: a quotation mark that is never closed"
                    ) from error
                yield number, InputError.at(self.file, number, f"broken CSV: {reason}")
                continue
            if any(cell and not cell.isspace() for cell in cells):
                yield number, cells

    def _delimiter(self) -> str:
        line = next((line for _, line in self.file.lines()), "")
        for delimiter in DELIMITERS:
            try:
                cells = next(csv.reader([line], delimiter=delimiter, strict=True), [])
            except csv.Error:
                continue
            named = {name.casefold() for name in self.columns.named()}
            found = {cell.strip().casefold() for cell in cells}
            if named & found or (not named and self._is_header(cells) and len(cells) > 1):
                return delimiter
        return ","

    def _header(self, cells: list[str], number: int) -> tuple[list[str], bool]:
        """The names of the columns, and whether the first row, ``cells``, is one of data."""
        asked = self.columns.header
        chosen = bool(self.columns.named()) or self._is_header(cells) if asked is None else asked
        if chosen:
            return self._names(cells, number), False
        if self.columns.named():
            raise InputError.at(
                self.file,
                number,
                "columns have no names without a header; leave out `--no-header`, header=False",
            )
        # Nearly every CSV has a header, perhaps of unusual names, which must not be a document.
        if len(cells) == 2 and (not self.quoted or asked is False or not _could_be_names(cells)):
            return _BARE, True
        many = f"{len(cells)} column{'s' if len(cells) > 1 else ''}"
        usual = ", ".join(self.names.text)
        mark = "id, text" if self.quoted else "id TAB text"
        raise InputError.at(
            self.file,
            number,
            f"{many}; expected two, {mark}, or a header that names a text ({usual}); name another "
            "column with --text (Columns(text=…))"
            + (", or say `--no-header`, header=False" if len(cells) == 2 else ""),
        )

    def _names(self, cells: list[str], number: int) -> list[str]:
        names = [cell.strip() or f"column {place}" for place, cell in enumerate(cells, 1)]
        twice = next((name for name in names if names.count(name) > 1), None)
        if twice is not None:
            raise InputError.at(self.file, number, f"two columns are named {twice!r}; rename one")
        return names

    def _is_header(self, cells: list[str]) -> bool:
        if not _could_be_names(cells):
            return False
        folded = [cell.strip().casefold() for cell in cells]
        if any(name in self.names.id for name in folded):
            return True
        texts = [name for name in folded if name in self.names.text]
        if not texts:
            return False
        rest = [name for name in folded if name != texts[0]]
        return len(cells) != 2 or not any(map(str.isdigit, "".join(rest)))

    def _ragged(self, cells: list[str], header: list[str], number: int) -> InputError:
        many = f"{len(cells)} column{'s' if len(cells) > 1 else ''}"
        if header is _BARE:
            expected = f"expected two, id{', ' if self.quoted else ' TAB '}text"
        else:
            expected = f"the header has {len(header)}"
        return InputError.at(self.file, number, f"{many}; {expected}")


def _could_be_names(cells: list[str]) -> bool:
    """Whether all cells could be names of columns: short, and not numbers.

    An empty cell names nothing, but pandas writes one over its index.
    """
    names = [cell.strip() for cell in cells if cell.strip()]
    return (
        all(len(name) <= _NAME_LENGTH for name in names)
        and all(len(name.split()) <= _NAME_WORDS for name in names)
        and not any(name[0].isdigit() for name in names)
    )


def share_types(files: Sequence[Rows]) -> None:
    """Give the columns of several files, which are read as one, the same types."""
    family = [file for file in files if isinstance(file, Delimited)]
    for file in family:
        file.family = family
