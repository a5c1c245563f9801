"""How are tickets gone through that are edited meanwhile, and none is missed?

Each page begins at the time of the last row of the one before it, so that a ticket that is edited moves behind what
was read, and is met again. A count of rows to skip would skip those that moved up. It is needed for one thing: where
more tickets than a page holds have the same time. Those are read a second time, and again until nothing new is among
them.
"""

from collections.abc import AsyncIterator

import msgspec

from app.sdp.answers import Row
from app.sdp.client import Client
from app.sdp.errors import SdpError


class Fresh(msgspec.Struct, frozen=True):
    """Rows of a page that no page before it had; `total` is known of the first."""

    rows: list[Row]
    total: int | None


async def updated_from(client: Client, begin: int) -> AsyncIterator[Fresh]:
    """Give the tickets that were last updated at `begin` (milliseconds) or later, by that time. Raises SdpError."""
    moment, start = begin, 1
    is_again = is_new = False  # whether the pages of one moment are read again, and what they have shown is new
    known: set[tuple[str, int]] = set()
    total: int | None = None
    while True:
        page = await client.page(moment, start, count=total is None)
        total = page.list_info.total_count or total or 0
        rows = _in_order(page.requests)
        is_last = not rows or not page.list_info.has_more_rows
        is_past = is_last or rows[-1].updated > moment
        fresh = [row for row in rows if (row.id, row.updated) not in known]
        of_moment = [row for row in fresh if row.updated <= moment]
        is_new = is_new or (bool(of_moment) if is_again else start > 1)
        shown = of_moment if is_past and is_new else fresh
        known |= {(row.id, row.updated) for row in shown}
        yield Fresh(shown, total)
        if is_past and is_new:
            start, is_again, is_new = 1, True, False
        elif is_last:
            return
        elif is_past:
            moment, start, is_again = rows[-1].updated, 1, False
            known = {key for key in known if key[1] >= moment}
        else:
            start += len(rows)


def _in_order(rows: list[Row]) -> list[Row]:
    """Give the rows as they are. Raises SdpError where they are not in order: then we would miss some."""
    times = [row.updated for row in rows]
    if times != sorted(times):
        raise SdpError("ServiceDesk Plus gave a list that is not in order of last_updated_time, as was asked for")
    return rows
