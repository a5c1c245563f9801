"""Which rows does an XLSX file hold? One at a time is in memory, whatever the file unpacks to.

Of 100,000 rows, openpyxl (read-only) took 127 MB and four times as long, and python-calamine 150 MB: they keep all
shared texts, or all cells, so a million rows take some ten times that. Cells are read as ECMA-376, part 1, 18.3 says.
"""

import contextlib
import functools
from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import BinaryIO, Self

from app.importing import workbook as workbooks
from app.importing import xml_part
from app.importing.cell_text import unescape
from app.importing.shared_strings import SharedStrings
from app.importing.table import ERROR, MOMENT, NUMBER, SAFE_DIGITS, TEXT, Cell, Row
from app.importing.ticket_file import FileError
from app.importing.workbook import Sheet

MOST_COLUMNS = 16_384  # Excel's
_DAYS_FROM = {False: datetime(1899, 12, 30), True: datetime(1904, 1, 1)}  # noqa: DTZ001  (a cell's time has no zone)


class Spreadsheet:
    """An XLSX file, for the time of a `with` block; a row whose texts are longer than `limit` is in error."""

    def __init__(self, file: BinaryIO, limit: int) -> None:
        self._stack = contextlib.ExitStack()
        self._archive = self._stack.enter_context(workbooks.open_archive(file))
        self._limit = limit
        self._book = workbooks.read(self._archive)
        self.sheets = self._book.sheets
        self.part_read = 0.0  # how much of a sheet was read, from 0 to 1
        self._strings = SharedStrings(self._archive, self._book.shared_strings, limit)

    def __enter__(self) -> Self:
        self._stack.enter_context(self._strings)
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def rows(self, sheet: Sheet) -> Iterator[Row]:
        """Yield the rows of a sheet that have any cell. Raises FileError."""
        if (part := xml_part.find(self._archive, sheet.part)) is None:
            raise FileError(f"the file is damaged: it has no part {sheet.part}")
        handler = _Rows(self._book, self._strings, self._limit)
        for read in xml_part.steps(self._archive, part, handler):
            self.part_read = read
            yield from handler.found
            handler.found.clear()


class _Rows(xml_part.Handler):
    """Collects the rows of a sheet's part in `found`."""

    def __init__(self, book: workbooks.Workbook, strings: SharedStrings, limit: int) -> None:
        self.found: list[Row] = []
        self._book, self._strings, self._limit = book, strings, limit
        self._number = self._size = 0
        self._column = -1
        self._cells: dict[int, Cell] = {}
        self._kind = self._style = ""
        self._parts: list[str] = []
        self._is_text = self._is_reading = False

    def start(self, name: str, attributes: dict[str, str]) -> None:
        if name == "c":
            at = attributes.get("r")
            self._column = column_of(at) if at else self._column + 1
            self._kind, self._style = attributes.get("t", "n"), attributes.get("s", "0")
            self._parts = []
        elif name in ("v", "t"):
            self._is_text = not self._is_reading
        elif name == "row":
            at = attributes.get("r", "")
            self._number = int(at) if at.isdecimal() and len(at) < SAFE_DIGITS else self._number + 1
            self._cells, self._size, self._column = {}, 0, -1
        elif name == "rPh":
            self._is_reading = True

    def text(self, text: str) -> None:
        if self._is_text and self._size <= self._limit:
            self._parts.append(text)
            self._size += len(text)

    def end(self, name: str) -> None:
        if name in ("v", "t"):
            self._is_text = False
        elif name == "c":
            if self._parts:
                self._keep("".join(self._parts))
        elif name == "row":
            self._end_row()
        elif name == "rPh":
            self._is_reading = False

    def _keep(self, text: str) -> None:
        """Keep the cell that ends here, unless its column is none, or the row is too long already."""
        cell = self._cell(text)
        if self._kind == "s":
            self._size += len(cell.text)
        if cell.text and self._column < MOST_COLUMNS and self._size <= self._limit:
            self._cells[self._column] = cell

    def _end_row(self) -> None:
        if self._size > self._limit:
            error = f"it is longer than {self._limit:,} characters (MAX_BODY_BYTES)"
            self.found.append(Row(self._number, self._number, {}, error))
        elif self._cells:
            self.found.append(Row(self._number, self._number, self._cells))

    def _cell(self, text: str) -> Cell:
        kind = self._kind
        if kind == "s":
            return Cell(self._shared(text))
        if kind in ("inlineStr", "str"):
            return Cell(unescape(text))
        if kind == "e":
            return Cell(text, ERROR)
        if kind == "d":
            return Cell(text, MOMENT)
        if kind == "n" and self._style in self._book.dates:
            return _moment(text, counts_from_1904=self._book.counts_from_1904)
        return Cell(text, NUMBER if kind == "n" else TEXT)

    def _shared(self, number: str) -> str:
        try:
            return self._strings.text(int(number))
        except (ValueError, IndexError):
            raise FileError(f"the file is damaged: row {self._number:,} names a text that it does not have") from None


def column_of(reference: str) -> int:
    """Return the column, from 0, of a cell such as `AB12`; one beyond Excel's where there is no such column."""
    return _column(reference.rstrip("0123456789")[:4])


@functools.lru_cache(MOST_COLUMNS)
def _column(letters: str) -> int:
    column = 0
    for letter in letters:
        if not "A" <= letter <= "Z":
            return MOST_COLUMNS
        column = column * 26 + ord(letter) - 64
    return column - 1 if column else MOST_COLUMNS


def _moment(text: str, *, counts_from_1904: bool) -> Cell:
    """Return the moment that a number of days means, to the millisecond; the number, where no calendar has it."""
    try:
        since = timedelta(milliseconds=round(float(text) * 86_400_000))
        return Cell((_DAYS_FROM[counts_from_1904] + since).isoformat(), MOMENT)
    except (ValueError, OverflowError):
        return Cell(text, NUMBER)
