"""How does a run read all tickets while some are edited, and miss none?

Each page begins at the time of the last row of the page before it: a ticket that is edited moves behind what was read,
and comes again. Skipping a number of rows instead would miss those that move up when others are edited. Only rows of
one moment that fill more than a page have to be read by skipping; so they are read again until none is new.
"""

from collections.abc import AsyncIterator, Sequence
from typing import TYPE_CHECKING

import msgspec

from app.sdp import order
from app.sdp.errors import SdpError
from app.sdp.listed import REQUESTS, ROWS, UPDATED, OddRow, Page, Row

if TYPE_CHECKING:
    from app.sdp.client import Client

SLACK = 1_000  # rows that a list may repeat, as its order may change while it is read, before it counts as endless
ENDLESS = "ServiceDesk Plus repeats the same tickets for ever, and says that there are more: the list has no end"
Key = tuple[str, int]  # a row's ticket, and when that was last updated


class Fresh(msgspec.Struct, frozen=True):
    """Rows of a page that no page before it had; `total` is how many tickets there are, if the first page says so."""

    rows: Sequence[Row]
    odd: Sequence[OddRow]
    total: int


class _Listing(msgspec.Struct):
    """How many rows were listed, of how many in `total`; None before the first page says so."""

    where: str = REQUESTS
    by: str = UPDATED
    listed: int = 0
    total: int | None = None

    async def page(self, client: "Client", moment: int, start: int = 1) -> Page:
        """Return the next page. Raises SdpError, also if the list has no end."""
        found = await self._ask(client, moment, start)
        self.total = found.total or self.total or 0
        if found.count == ROWS < self.total:  # such a page is not the end only because `has_more_rows` says so
            found = msgspec.structs.replace(found, has_more_rows=True)
        found = order.checked(found, moment, self.by)
        self.listed += found.count
        if self.total and self.listed > 4 * self.total + 10 * SLACK:  # each may be read some times, and new ones come
            raise SdpError(ENDLESS)
        return found

    async def _ask(self, client: "Client", moment: int, start: int) -> Page:
        return await client.page(moment, start, count=self.total is None, where=self.where, by=self.by)

    def fresh(self, page: Page, rows: Sequence[Row], known: set[Key]) -> Fresh:
        """Return those of the rows that are not `known`."""
        return Fresh([row for row in rows if _key(row) not in known], page.odd, self.total or 0)


async def updated_from(client: "Client", begin: int, where: str = REQUESTS, by: str = UPDATED) -> AsyncIterator[Fresh]:
    """Yield the tickets that were last updated at `begin` (milliseconds) or later, by that time. Raises SdpError.

    With `by` it is another time of theirs.
    """
    moment, listing = begin, _Listing(where, by)
    known: set[Key] = set()
    while True:
        page = await listing.page(client, moment)
        yield listing.fresh(page, page.rows, known)
        if not page.count or not page.has_more_rows:
            return
        if not page.rows:
            why = page.odd[0].why or "none has a time"
            raise SdpError(f"ServiceDesk Plus gave a list in which no ticket can be read: {why}")
        if page.rows[-1].updated > moment:
            moment = page.rows[-1].updated
            known = {_key(row) for row in page.rows if row.updated == moment}
        else:
            known |= {_key(row) for row in page.rows}
            async for fresh in _rest_of(moment, client, listing, page.count + 1, known):
                yield fresh
            moment, known = moment + 1, set()


async def _rest_of(
    moment: int, client: "Client", listing: _Listing, start: int, known: set[Key]
) -> AsyncIterator[Fresh]:
    """Yield the rows of one moment from the row number `start` on, then all of them again until none is new.

    `known` holds the keys of the rows that were read before; they are not repeated. Raises SdpError.
    """
    is_settled = False
    while not is_settled:
        is_settled = start == 1  # the first time begins behind rows that may have moved since, so it settles nothing
        is_last = False
        while not is_last:
            page = await listing.page(client, moment, start)
            rows = [row for row in page.rows if row.updated <= moment]
            is_last = len(rows) < len(page.rows) or not page.count or not page.has_more_rows
            fresh = listing.fresh(page, rows, known)
            is_settled = is_settled and not fresh.rows
            known |= {_key(row) for row in rows}
            yield fresh
            start += page.count
            if start > 3 * len(known) + SLACK:  # an order that is new with each page repeats a third of the rows
                raise SdpError(ENDLESS)
        start = 1


def _key(row: Row) -> Key:
    return row.id, row.updated
