"""Of which form is a file that is imported, and which lines does it hold? XLSX and CSV are known by what is in them."""

import io
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from typing import TYPE_CHECKING, BinaryIO, Protocol

from app.importing import ticket_file, workbook
from app.importing.csv_table import CsvTable, begins_as_markup, in_utf_8
from app.importing.display_ids import Ask
from app.importing.ids import ZeroedIds
from app.importing.report import Report
from app.importing.spreadsheet import Spreadsheet
from app.importing.table import Row
from app.importing.terms import Terms
from app.importing.ticket_file import FileError, Line, Lines
from app.importing.workbook import Sheet

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncConnection

ZIP = b"PK\x03\x04"
MOST_NAMED = 5  # sheets
NO_MARK = "the file is no text, or UTF-16 without a mark: export the report as XLSX, or as CSV in UTF-8"
MARKUP = "the file is a web page or XML, neither XLSX nor CSV: export the report as XLSX or CSV"


class Source(Protocol):
    """A file's lines, and what is to be known of them first."""

    @property
    def bytes_read(self) -> int:
        """How much of the file was read for its lines, in bytes."""

    @property
    def mapping(self) -> list[str]:
        """What becomes of each column, in lines of words; none where the file's form says it."""

    async def look_up(self, connection: "AsyncConnection", ask: Ask) -> None:
        """Ask the database what it knows of the file's ids, and ServiceDesk Plus for those that it does not know."""

    def lines(self) -> Iterator[Line]:
        """Yield each line that holds a ticket. Raises FileError."""


class TicketFile:
    """JSON lines, or CSV whose columns are named as the members of a webhook's payload."""

    mapping: list[str] = []  # noqa: RUF012  (empty for all)

    def __init__(self, file: BinaryIO, form: str, terms: Terms) -> None:
        self._form, self._terms, limit = form, terms, terms.limit
        self._zeroed = ZeroedIds()
        if form == ticket_file.CSV:
            for one in ticket_file.ids_of(Lines(in_utf_8(file), limit), limit):
                self._zeroed.see(one)
        self._lines = Lines(file if form == ticket_file.JSONL else in_utf_8(file), limit)

    @property
    def bytes_read(self) -> int:
        return self._lines.bytes_read

    async def look_up(self, connection: "AsyncConnection", ask: Ask) -> None:
        """Do nothing: the file has the tickets' ids."""

    def lines(self) -> Iterator[Line]:
        terms = self._terms
        return ticket_file.payloads(self._lines, self._form, terms.tenant_id, terms.limit, self._zeroed, terms.remark)


class SheetTable:
    """A sheet of an XLSX file."""

    def __init__(self, book: Spreadsheet, sheet: Sheet, size: int) -> None:
        self.name = sheet.name
        others = [f"“{one.name}”" for one in book.sheets if one is not sheet]
        more = [f"and {len(others) - MOST_NAMED:,} more"] if len(others) > MOST_NAMED else []
        self.beside = ", ".join([*others[:MOST_NAMED], *more])
        self._book, self._sheet, self._size = book, sheet, size

    @property
    def bytes_read(self) -> int:
        return round(self._size * self._book.part_read)

    def rows(self) -> Iterator[Row]:
        return self._book.rows(self._sheet)


def open_(stack: ExitStack, file: BinaryIO, form: str, terms: Terms) -> Source:
    """Return the source of a file's lines, for as long as the `stack` lasts; a table has been read once by then.

    Raises FileError, and OptionNeededError where the file does not say enough by itself.
    """
    if form == ticket_file.JSONL:
        return TicketFile(file, form, terms)
    is_pipe = not file.seekable()
    if is_pipe:
        file = _spooled(stack, file)
    head = file.read(len(workbook.OLE))
    file.seek(0)
    if head.startswith((ZIP, workbook.OLE)):
        report = _in_workbook(stack, file, terms)
    elif begins_as_markup(file):
        raise FileError(MARKUP)
    elif b"\0" in in_utf_8(file).read(2):
        raise FileError(NO_MARK)
    elif not terms.wanted.is_any and ticket_file.has_own_columns(in_utf_8(file).readline(terms.limit)):
        return TicketFile(file, ticket_file.CSV, terms)
    else:
        report = Report(CsvTable(file, terms.limit, terms.wanted.mapped), terms)
    report.survey(may_guess=not is_pipe)
    return report


def _spooled(stack: ExitStack, file: BinaryIO) -> BinaryIO:
    """Return a copy on disk of what a pipe holds, because a table is read twice."""
    try:
        copy = stack.enter_context(tempfile.TemporaryFile())  # noqa: SIM115  (the stack closes it)
        shutil.copyfileobj(file, copy)
        copy.seek(0)
    except OSError as error:
        raise FileError(f"the pipe cannot be kept in a temporary file (TMPDIR): {error.strerror}") from None
    return copy


def _in_workbook(stack: ExitStack, file: BinaryIO, terms: Terms) -> Report:
    """Return the report on the first sheet that names the columns."""
    size = file.seek(0, io.SEEK_END)
    file.seek(0)
    book = stack.enter_context(Spreadsheet(file, terms.limit))
    reason = FileError("the file has no sheet with rows")
    for sheet in book.sheets:
        try:
            return Report(SheetTable(book, sheet, size), terms)
        except FileError as error:
            reason = error if sheet is book.sheets[0] else reason
    raise reason
