"""Which ticket does a row of a report hold? The payload of a webhook, made of cells, or why it cannot be one."""

import re

import msgspec

from app.event import flat
from app.importing import ids
from app.importing.columns import DATES, TENANT_ID, Columns
from app.importing.display_ids import (
    DISPLAY_ID,
    GUESSED,
    REQUEST_ID,
    SEVERAL,
    TICKET_ID,
    KnownIds,
    meant_by,
)
from app.importing.ids import BadIdError
from app.importing.survey import Survey
from app.importing.table import ERROR, NUMBER, Cell, Row, is_empty, without_placeholder
from app.importing.terms import Terms
from app.importing.ticket_file import TAGS, Line, split_tags
from db import sdp

MAX_SUBJECT_CHARS = 1000
NO_TICKET = "lines hold no ticket (titles, headings, totals), and were passed over"
REPEATED = "lines have the id of an earlier line: of a ticket's lines the one that was resolved later stands"
CUT = "subjects or descriptions were longer than a ticket's may be, and were cut with a mark"
MOST_CELLS = 2  # of a line with a total: its word, and its number
_TOTALS = re.compile(r"((grand|sub)[ -]?)?(total|totals|count|records|sum|summe|gesamt|anzahl)\b.{0,40}", re.IGNORECASE)
_EMPTY = Cell("")


class _BadLineError(Exception):
    """The row holds no ticket that can be imported; the message says why."""


def is_no_ticket(row: Row, columns: Columns) -> bool:
    """Return whether a row is a heading, a total, or the header once more, as reports have them on each page."""
    for member in DATES:
        cell = row.cells.get(columns.at.get(member, -1))
        if cell and not is_empty(cell.text):
            return cell.text.strip() == columns.name_of(member)
    texts = {at: cell.text.strip() for at, cell in row.cells.items() if not is_empty(cell.text)}
    is_heading = list(texts) == [0] and not texts[0].isdecimal()
    return is_heading or (len(texts) <= MOST_CELLS and any(_TOTALS.fullmatch(text) for text in texts.values()))


class RowReader:
    """Reads the rows of a report with these columns, by what its survey found; `known` says what its ids mean."""

    def __init__(self, terms: Terms, columns: Columns, survey: Survey, known: KnownIds) -> None:
        self._columns, self._known = columns, known
        self._dates, self._zeroed = survey.dates, survey.zeroed
        self._tenant_id, self._rules, self._remark = terms.tenant_id, terms.rules, terms.remark
        self._seen: set[int] = set()  # hashes of ids; a million of them take 70 MB

    def line(self, row: Row) -> Line | None:
        """Return the row's line, with its payload or why it is bad; None where the row holds no ticket."""
        if row.error is not None:
            return Line(row.number, row.last, error=row.error)
        if is_no_ticket(row, self._columns):
            self._remark(NO_TICKET)
            return None
        try:
            return Line(row.number, row.last, msgspec.json.encode(self._members(row)))
        except (_BadLineError, BadIdError) as error:
            return Line(row.number, row.last, error=str(error))

    def _members(self, row: Row) -> dict[str, object]:
        self._require_width(row)
        self._require_resolved(row)
        return {
            TENANT_ID: self._name(row, TENANT_ID) or self._tenant_id,
            **self._ids(row),
            "subject": self._shortened(self._text(row, "subject"), MAX_SUBJECT_CHARS),
            "description": self._shortened(self._text(row, "description"), self._rules.max_description_chars),
            "resolution": self._resolution(row),
            "resolved_date": self._resolved_date(row),
            "priority": self._name(row, "priority"),
            "tags": self._tags(row),
        }

    def _require_width(self, row: Row) -> None:
        """Raise _BadLineError where values are missing, or there are more than columns: which is which is unknown."""
        width, named = self._columns.width, len(self._columns.names)
        if row.width is None or width is None or (row.width >= named and max(row.cells) < max(width, named)):
            return
        raise _BadLineError(f"it has {row.width} values for {named} columns")

    def _require_resolved(self, row: Row) -> None:
        status, resolved = self._name(row, "status"), self._rules.resolved_statuses
        if status and resolved and status.casefold() not in {name.casefold() for name in resolved}:
            name = self._columns.name_of("status")
            raise _BadLineError(f"{name} is none of {', '.join(resolved)} (RESOLVED_STATUSES)")

    def _ids(self, row: Row) -> dict[str, str]:
        """Return the ticket's id, and the number that people know it by where the row has it."""
        found: dict[str, str] = {}
        for member in (TICKET_ID, DISPLAY_ID, REQUEST_ID):
            cell = self._cell(row, member)
            value = "" if is_empty(cell.text) else ids.read(cell, self._zeroed, self._remark)
            if value:
                found.setdefault(self._meaning(value, member), value)
        if TICKET_ID not in found:
            if DISPLAY_ID not in found:
                raise _BadLineError("it has no ticket's id")
            found[TICKET_ID] = self._ticket_of(found[DISPLAY_ID])
        self._see(found[TICKET_ID])
        return found

    def _meaning(self, value: str, member: str) -> str:
        meaning = meant_by(value, member, self._known.edition)
        if not self._known.is_sure and meaning != meant_by(value, member, sdp.CLOUD):
            self._remark(GUESSED)
        return meaning

    def _see(self, ticket_id: str) -> None:
        """Remark an id that another line has: these may be two tickets whose ids were damaged alike."""
        if (seen := hash(ticket_id)) in self._seen:
            self._remark(REPEATED)
        self._seen.add(seen)

    def _ticket_of(self, display_id: str) -> str:
        """Return the id of the ticket that people know by `display_id`; where that is not known, `display_id`.

        Raises _BadLineError where several tickets have it, or where it cannot be an id: that would be a second row.
        """
        found = self._known.by_display_id.get(display_id, ())
        if len(found) > 1:
            raise _BadLineError(SEVERAL.format(display_id))
        if not found and self._known.unknown:
            raise _BadLineError(self._known.unknown(display_id))
        if not found:
            self._remark(self._known.remark)
        return found[0] if found else display_id

    def _resolved_date(self, row: Row) -> str:
        for member in DATES:
            cell = self._cell(row, member)
            if is_empty(cell.text):
                continue
            name = self._columns.name_of(member)
            if cell.kind == ERROR or ids.is_error(cell.text):
                raise _BadLineError(ids.ERROR_VALUE.format(name))
            try:
                return self._dates.read(cell).isoformat()
            except (ValueError, OverflowError):
                raise _BadLineError(f"{name} is no date in a form that is known: see --date-format") from None
        raise _BadLineError("it has no date when it was resolved")

    def _resolution(self, row: Row) -> str:
        return without_placeholder("resolution", self._text(row, "resolution"))

    def _text(self, row: Row, member: str) -> str:
        """Return a text of the ticket. Raises _BadLineError where Excel put an error in its place."""
        cell = self._cell(row, member)
        if cell.kind == ERROR or ids.is_error(cell.text):
            raise _BadLineError(ids.ERROR_VALUE.format(self._columns.name_of(member)))
        return self._name(row, member)

    def _name(self, row: Row, member: str) -> str:
        cell = self._cell(row, member)
        if is_empty(cell.text) or cell.kind == ERROR:
            return ""
        return cell.text.removesuffix(".0") if cell.kind == NUMBER else cell.text.strip()

    def _tags(self, row: Row) -> list[str]:
        text = self._name(row, "tags")
        try:
            return split_tags(text if ";" in text or text.startswith("[") else text.replace(",", ";"))
        except (msgspec.DecodeError, RecursionError):
            raise _BadLineError(TAGS) from None

    def _shortened(self, text: str, limit: int) -> str:
        if len(text) > limit:
            self._remark(CUT)
        return flat.shortened(text, limit)

    def _cell(self, row: Row, member: str) -> Cell:
        return row.cells.get(self._columns.at.get(member, -1), _EMPTY)
