"""What does a list of ServiceDesk Plus hold? Its rows one by one, so that an odd one is its ticket's fault alone."""

import time
from collections.abc import Sequence
from typing import Any

import msgspec

from app.event import display_id
from app.event.html_text import text_of
from app.event.moment import Moment, milliseconds
from app.sdp import answers
from app.sdp.answers import NULL, Status, Times
from app.sdp.errors import SdpError
from app.sdp.status import Envelope, lenient

REQUESTS, ARCHIVE = "requests", "archive_requests"  # where tickets are; an administrator's schedule archives old ones
UPDATED, CREATED = "last_updated_time", "created_time"  # the times that lists are in order of
ROWS = 100  # of a page; ServiceDesk Plus returns no more
MISSING = (NULL, msgspec.Raw())
NO_LIST = (
    "ServiceDesk Plus, or a gateway before it, answered with no list of tickets, and without the `response_status` "
    "2000 of an empty one"
)
NO_ID = "its `id` is no string of 1 to 100 characters"
NO_TIME = "its `{}` is no object whose `value` is milliseconds since 1970"
NO_STATUS = "in the list its `status` is neither null nor an object with a `name`"
NEVER = -1  # instead of a time that is null or empty
MOST_TOTAL = 10**9  # tickets that a list may count
# An array of any length is decoded into this at the cost of its first members: each member of a list would take 70
# bytes, and two bytes are enough to send one.
_FirstRows = msgspec.defstruct(
    "_FirstRows", [(f"row_{number}", msgspec.Raw, msgspec.Raw()) for number in range(ROWS + 1)], array_like=True
)


class Row(msgspec.Struct, frozen=True):
    """A ticket in a list, last updated at `updated` (milliseconds since 1970), with what the list brought of it.

    In a list by the time of creation `updated` is that time, and `is_edited` says whether a list by the last update may
    have it: it has a time of that. The list was asked for at `began` (nanoseconds since 1970), and came at `ended`.
    """

    id: str
    updated: int
    status: Status | None = Status()  # None where it cannot be read
    is_edited: bool = True
    ticket: msgspec.Raw = NULL
    began: int = 0
    ended: int = 0

    @property
    def display_id(self) -> str | None:
        """The number that people know the ticket by; None where the list does not bring it."""
        return display_id.read(answers.read(_Named, self.ticket).display_id)

    @property
    def times(self) -> Times:
        """The members that we look at; the times are null where the list does not bring them."""
        return answers.read(Times, self.ticket)

    def lacks(self) -> set[str]:
        """Return what a delivery needs and the list did not bring; what is null may be more in the whole ticket."""
        brought = answers.read(_Brought, self.ticket)
        found = {name: getattr(brought, name) for name in ("subject", "description")}
        lacking = {name for name, one in found.items() if one in MISSING}
        lacking |= {name for name in ("priority", "tags") if not getattr(brought, name)}
        resolution = lenient(_Content, brought.resolution or NULL)
        if resolution is None or not text_of(resolution.content or "").strip():
            lacking.add("resolution")
        return lacking if self.times.resolved is not None else lacking | {"resolved_time"}


class OddRow(msgspec.Struct, frozen=True):
    """What can't be read as a ticket, and why; with the ticket's id where that can be read.

    There is nothing to say of a ticket that was never edited, and so has no time in a list by the last update.
    """

    ticket_id: str | None
    why: str | None
    is_edited: bool = False  # its last update has a time


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
    created_time: msgspec.Raw = NULL
    status: msgspec.Raw = NULL


class _Content(msgspec.Struct, frozen=True):
    content: str | None = None


class _Brought(msgspec.Struct, frozen=True):
    """What a delivery is made of, but for the ticket's status and times."""

    subject: msgspec.Raw = NULL
    description: msgspec.Raw = NULL
    resolution: msgspec.Raw = NULL
    priority: msgspec.Raw = msgspec.Raw()
    tags: msgspec.Raw = msgspec.Raw()


class _Named(msgspec.Struct, frozen=True):
    id: msgspec.Raw = NULL
    display_id: msgspec.Raw = msgspec.Raw()


class _ListInfo(msgspec.Struct, frozen=True):
    has_more_rows: Any = None
    total_count: Any = None


class _Page(msgspec.Struct, frozen=True):
    requests: msgspec.Raw = NULL
    archive_requests: msgspec.Raw = NULL
    list_info: msgspec.Raw = NULL


def read_page(body: bytes, asked: int, began: int = 0, by: str = UPDATED) -> Page:
    """Return a page of `asked` rows at most, in order of the time `by`, asked for at `began` (nanoseconds since 1970).

    Raises SdpError if it does not have the shape of a list.
    """
    found, ended = answers.read(_Page, body), time.time_ns()
    raw = _rows(found, body, asked)
    read = [_row(row, by, began, ended) for row in raw]
    info = lenient(_ListInfo, found.list_info) or _ListInfo()
    total = info.total_count if type(info.total_count) is int and 0 <= info.total_count <= MOST_TOTAL else 0
    return Page(
        [one for one in read if isinstance(one, Row)],
        [one for one in read if isinstance(one, OddRow)],
        _has_more(info.has_more_rows, otherwise=len(raw) == asked or total > len(raw) > 0),
        total,
    )


def read_named(body: bytes, asked: int) -> Sequence[tuple[str | None, str]]:
    """Return display id and id of each ticket in a list, without those whose id cannot be read. Raises SdpError."""
    rows = [lenient(_Named, row) or _Named() for row in _rows(answers.read(_Page, body), body, asked)]
    found = [(display_id.read(row.display_id), answers.read_id(row.id)) for row in rows]
    return [(known_as, ticket_id) for known_as, ticket_id in found if ticket_id]


def _has_more(said: object, *, otherwise: bool) -> bool:
    """Return whether there are more rows, as the list says; `otherwise` where it does not say so."""
    return {"true": True, "false": False}.get(str(said).casefold(), otherwise)


def _rows(found: _Page, body: bytes, asked: int) -> Sequence[msgspec.Raw]:
    """Return the rows of a list, for which `asked` were asked.

    Raises SdpError where they are more, or where nothing says that a list without any is an empty one.
    """
    listed = found.archive_requests if found.requests == NULL else found.requests
    rows = [] if listed == NULL else [row for row in msgspec.structs.astuple(answers.read(_FirstRows, listed)) if row]
    if not rows and not answers.read(Envelope, body).is_success():
        raise SdpError(NO_LIST)
    if len(rows) > asked:
        raise SdpError(f"ServiceDesk Plus gave more than the {asked} tickets that were asked for")
    return rows


def _row(raw: msgspec.Raw, by: str, began: int, ended: int) -> Row | OddRow:
    listed = lenient(_Listed, raw) or _Listed()
    ticket_id, status = answers.read_id(listed.id), answers.read_status(listed.status)
    when, is_edited = _when(getattr(listed, by)), _when(listed.last_updated_time) not in {NEVER, None}
    if ticket_id and when is not None and when != NEVER:
        return Row(ticket_id, when, status, is_edited, raw, began, ended)
    when = None if by == CREATED and when == NEVER else when
    wrong = ((ticket_id, NO_ID), (when, NO_TIME.format(by)))
    why = ", ".join(words for found, words in wrong if found is None)
    return OddRow(ticket_id, f"in the list {why}" if why else None, is_edited)


def _when(raw: msgspec.Raw) -> int | None:
    """Return a time in milliseconds, NEVER where it says that there is none; None where it cannot be read."""
    moment = lenient(Moment, raw)
    if raw == NULL or (moment and milliseconds(moment) is None):
        return NEVER
    return milliseconds(moment)
