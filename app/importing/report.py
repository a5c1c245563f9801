"""Which tickets does a report of ServiceDesk Plus hold? Each row becomes the flat payload of a webhook, or a bad line.

A report is read twice: first for what only the whole file says (app/importing/survey.py), then for its tickets.
"""

import itertools
from collections.abc import Iterator
from typing import TYPE_CHECKING

from app.importing import columns as headers
from app.importing import display_ids, ids
from app.importing.columns import IDS
from app.importing.display_ids import DISPLAY_ID, REQUEST_ID, TICKET_ID, Ask, KnownIds
from app.importing.report_row import RowReader, is_no_ticket
from app.importing.survey import Survey
from app.importing.table import Row, Table
from app.importing.terms import Terms
from app.importing.ticket_file import Line

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncConnection

CLOUD_RULE = f"{TICKET_ID} (in the cloud's edition with fewer than {display_ids.ID_DIGITS} digits: {DISPLAY_ID})"


class Report:
    """A report in a table. Raises FileError where no line of it names the columns."""

    def __init__(self, table: Table, terms: Terms) -> None:
        self._table, self._terms = table, terms
        self._columns = headers.find(list(itertools.islice(table.rows(), headers.HEAD)), terms.wanted.mapped)
        self._known = KnownIds()
        self._survey = Survey(self._columns, terms.wanted)

    @property
    def bytes_read(self) -> int:
        """How much of the file was read for its lines, in bytes."""
        return self._table.bytes_read

    @property
    def mapping(self) -> list[str]:
        """What becomes of each column, in lines of words."""
        columns = self._columns
        sheet = f" of the sheet “{self._table.name}”" if self._table.name else ""
        meanings = {member: CLOUD_RULE if member == REQUEST_ID else member for member in columns.at}
        lines = [f"  {columns.name_of(member)} → {meaning}" for member, meaning in meanings.items()]
        ignored = [f"  not read: {', '.join(columns.ignored)}"] if columns.ignored else []
        others = self._table.beside
        beside = [f"  sheets not read: {others} (if the report goes on there, export it as CSV)"] if others else []
        return [f"line {columns.number}{sheet} names the columns:", *lines, *ignored, *beside]

    def survey(self, *, may_guess: bool) -> None:
        """Read the whole file for what its lines need. Raises OptionNeededError for what only an option can say."""
        for row in self._tickets():
            self._survey.see(row)
        self._survey.conclude(may_guess=may_guess)

    async def look_up(self, connection: "AsyncConnection", ask: Ask) -> None:
        """Find out which edition of ServiceDesk Plus the tenant has, and which tickets display ids mean."""
        self._known = await display_ids.look_up(connection, self._terms.tenant_id, self.given_ids(), ask)

    def given_ids(self) -> Iterator[tuple[str, str]]:
        """Yield each id of the file, after its column's member; reads the file once more."""
        for row in self._tickets():
            for member in IDS:
                if cell := row.cells.get(self._columns.at.get(member, -1)):
                    try:
                        yield member, ids.plain(cell)
                    except ids.BadIdError:
                        continue  # its line is bad

    def lines(self) -> Iterator[Line]:
        """Yield the line of each row that holds a ticket, after `survey`."""
        reader = RowReader(self._terms, self._columns, self._survey, self._known)
        for row in self._rows():
            if (line := reader.line(row)) is not None:
                yield line

    def _tickets(self) -> Iterator[Row]:
        """Yield the rows that hold a ticket, as far as they can be read."""
        return (row for row in self._rows() if row.error is None and not is_no_ticket(row, self._columns))

    def _rows(self) -> Iterator[Row]:
        """Yield the rows below the header."""
        return (row for row in self._table.rows() if row.number > self._columns.number)
