"""How does a run read all tickets while some are edited, and miss none?

Each page begins at the time of the last row of the page before it: a ticket that is edited moves behind what was read,
and comes again. Skipping a number of rows instead would miss those that move up when others are edited. Only rows of
one moment that fill more than a page have to be read by skipping; so they are read again until none is new.
"""

from collections.abc import AsyncIterator
from typing import TYPE_CHECKING

import msgspec

from app.sdp.answers import Row
from app.sdp.errors import SdpError

if TYPE_CHECKING:
    from app.sdp.client import Client

Key = tuple[str, int]  # a row's ticket, and when that was last updated


class Fresh(msgspec.Struct, frozen=True):
    """Rows of a page that no page before it had; `total` is how many tickets there are, if the first page says so."""

    rows: list[Row]
    total: int


async def updated_from(client: "Client", begin: int) -> AsyncIterator[Fresh]:
    """Yield the tickets that were last updated at `begin` (milliseconds) or later, by that time. Raises SdpError."""
    moment, total = begin, None
    known: set[Key] = set()
    while True:
        page = await client.page(moment, count=total is None)
        total = page.list_info.total_count or total or 0
        rows = _in_order(page.requests)
        yield Fresh(_unknown(rows, known), total)
        if not rows or not page.list_info.has_more_rows:
            return
        if rows[-1].updated > moment:
            moment = rows[-1].updated
            known = {_key(row) for row in rows if row.updated == moment}
        else:
            known |= {_key(row) for row in rows}
            async for fresh in _rest_of(moment, client, len(rows) + 1, known):
                yield Fresh(fresh, total)
            moment, known = moment + 1, set()


async def _rest_of(moment: int, client: "Client", start: int, known: set[Key]) -> AsyncIterator[list[Row]]:
    """Yield the rows of one moment from the row number `start` on, then all of them again until none is new.

    `known` holds the keys of the rows that were read before; they are not repeated.
    """
    is_settled = False
    while not is_settled:
        is_settled = start == 1  # the first time begins behind rows that may have moved since, so it settles nothing
        is_last = False
        while not is_last:
            page = await client.page(moment, start)
            rows = [row for row in _in_order(page.requests) if row.updated == moment]
            is_last = len(rows) < len(page.requests) or not rows or not page.list_info.has_more_rows
            if fresh := _unknown(rows, known):
                is_settled = False
                known |= {_key(row) for row in fresh}
            yield fresh
            start += len(rows)
        start = 1


def _unknown(rows: list[Row], known: set[Key]) -> list[Row]:
    return [row for row in rows if _key(row) not in known]


def _key(row: Row) -> Key:
    return row.id, row.updated


def _in_order(rows: list[Row]) -> list[Row]:
    """Return the rows as they are. Raises SdpError if they are not in order: the run would miss some."""
    times = [row.updated for row in rows]
    if times != sorted(times):
        raise SdpError("ServiceDesk Plus gave a list that is not in order of last_updated_time, as was asked for")
    return rows
