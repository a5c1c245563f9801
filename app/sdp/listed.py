"""What does a list of ServiceDesk Plus hold? Its rows one by one, so that an odd one is its ticket's fault alone."""

from collections.abc import Sequence
from typing import Any

import msgspec

from app.sdp import answers
from app.sdp.answers import Moment, Named, TicketId, lenient
from app.sdp.errors import SdpError

ROWS = 100  # of a page; ServiceDesk Plus returns no more
NULL = msgspec.Raw(b"null")
NO_ID = "its `id` is no string of 1 to 100 characters"
NO_TIME = "its `last_updated_time` is no object whose `value` is milliseconds since 1970"
NO_STATUS = "its `status` is neither null nor an object with a `name`"
MOST_TOTAL = 10**9  # tickets that a list may count
# An array of any length is decoded into this at the cost of its first members: each member of a list would take 70
# bytes, and two bytes are enough to send one.
_FirstRows = msgspec.defstruct(
    "_FirstRows", [(f"row_{number}", msgspec.Raw, msgspec.Raw()) for number in range(ROWS + 1)], array_like=True
)


class Row(msgspec.Struct, frozen=True):
    """A ticket in a list, last updated at `updated` (milliseconds since 1970)."""

    id: str
    updated: int
    status: str = ""


class OddRow(msgspec.Struct, frozen=True):
    """What can't be read as a ticket, and why; with the ticket's id where that can be read."""

    ticket_id: str | None
    why: str


class Page(msgspec.Struct, frozen=True):
    """A part of the list of tickets: `count` rows in all. `total` is the whole list's, 0 if it does not say so."""

    rows: Sequence[Row]
    odd: Sequence[OddRow]
    has_more_rows: bool
    total: int

    @property
    def count(self) -> int:
        """How many rows the page has."""
        return len(self.rows) + len(self.odd)


class _Listed(msgspec.Struct, frozen=True):
    id: msgspec.Raw = NULL
    last_updated_time: msgspec.Raw = NULL
    status: msgspec.Raw = NULL


class _ListInfo(msgspec.Struct, frozen=True):
    has_more_rows: bool
    total_count: Any = None


class _Page(msgspec.Struct, frozen=True):
    requests: msgspec.Raw
    list_info: _ListInfo


def read_page(body: bytes, asked: int) -> Page:
    """Return a page for which `asked` rows were asked. Raises SdpError if it does not have the shape of a list."""
    found = answers.read(_Page, body)
    rows = [row for row in msgspec.structs.astuple(answers.read(_FirstRows, found.requests)) if row]
    if len(rows) > asked:
        raise SdpError(f"ServiceDesk Plus gave more than the {asked} tickets that were asked for")
    read = [_row(row) for row in rows]
    total = found.list_info.total_count
    return Page(
        [one for one in read if isinstance(one, Row)],
        [one for one in read if isinstance(one, OddRow)],
        found.list_info.has_more_rows,
        total if type(total) is int and 0 <= total <= MOST_TOTAL else 0,
    )


def _row(raw: msgspec.Raw) -> Row | OddRow:
    listed = lenient(_Listed, raw) or _Listed()
    ticket_id, moment = lenient(TicketId, listed.id), lenient(Moment, listed.last_updated_time)
    status = Named() if listed.status == NULL else lenient(Named, listed.status)
    if ticket_id and moment and status is not None:
        return Row(ticket_id, int(moment.value), status.name or "")
    wrong = [words for found, words in ((ticket_id, NO_ID), (moment, NO_TIME), (status, NO_STATUS)) if found is None]
    return OddRow(ticket_id, f"in the list {', '.join(wrong)}")
