"""What does only the whole of a report say? How its dates are written, and whether Excel cut its ids."""

import contextlib

from app.importing import ids
from app.importing.columns import DATES, IDS, Columns
from app.importing.dates import Dates, Guess, has_zone, plain
from app.importing.ids import BadIdError, ZeroedIds
from app.importing.table import MOMENT, NUMBER, Row, is_empty
from app.importing.terms import Wanted
from app.importing.ticket_file import FileError


class OptionNeededError(FileError):
    """The file does not say enough by itself; the message says which option it takes."""


class Survey:
    """Sees each ticket's row of a report with these columns."""

    def __init__(self, columns: Columns, wanted: Wanted) -> None:
        self.zeroed = ZeroedIds()
        self.dates = Dates((), None)  # until `conclude`
        self._columns, self._wanted = columns, wanted
        self._guess = Guess()
        self._lacks_zone = self._has_text = False

    def see(self, row: Row) -> None:
        """Take a row into account."""
        for member in IDS:
            if cell := row.cells.get(self._columns.at.get(member, -1)):
                with contextlib.suppress(BadIdError):  # its line is bad
                    self.zeroed.see(ids.plain(cell))
        for member in DATES:
            cell = row.cells.get(self._columns.at.get(member, -1))
            if not cell or cell.kind == NUMBER or is_empty(cell.text) or has_zone(cell):
                continue
            if cell.kind == MOMENT:
                self._lacks_zone = True
            else:
                self._see_text(plain(cell.text))

    def _see_text(self, text: str) -> None:
        formats = self._wanted.date_formats
        self._has_text = True
        self._lacks_zone = self._lacks_zone or not formats or not all("%z" in form for form in formats)
        if not formats:
            self._guess.see(text)

    def conclude(self, *, may_guess: bool) -> None:
        """Decide how the dates are read. Raises OptionNeededError where an option has to say it."""
        given, zone = self._wanted.date_formats, self._wanted.zone
        needed = [] if given else [self._guess.question]
        if not given and not may_guess and self._has_text:
            needed = ["the dates of a file from a pipe need --date-format, such as '%d-%m-%Y %H:%M'"]
        if self._lacks_zone and zone is None:
            needed.append("the dates have no time zone: give --time-zone, such as Europe/Berlin")
        if words := [one for one in needed if one]:
            raise OptionNeededError("; ".join(words))
        self.dates = Dates(given or self._guess.formats, zone)
