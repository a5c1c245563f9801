"""Which tickets were never edited? They have no time of a last update, so no list by that time has them.

Someone who walks in is helped at once, and the ticket is created as Closed. Such tickets are listed by their creation,
among all others; these are skipped, as the list by the last update has them.
"""

import time
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING

from app.sdp import pages
from app.sdp.errors import RefusedError, SdpError
from app.sdp.listed import CREATED, REQUESTS
from app.sdp.pages import Fresh

if TYPE_CHECKING:
    from app.sdp.client import Client

# Seconds after which the end of the list is asked for again. The next run begins ten minutes before the last ticket
# that this one met, so what was created after the list had ended is listed then.
SOON = 60.0
NOT_LISTED = "tickets that were never edited after their creation were not listed: {}"
OF_THIS_LIST = (
    SdpError,
    RefusedError,
)  # it is refused, or is none that can be gone through; other lists may be in order


async def trouble(client: "Client") -> list[str]:
    """Return in words why such tickets cannot be listed, or nothing. Raises SdpError if nothing can be asked now."""
    try:
        await client.check_created()
    except SdpError as error:
        if type(error) not in OF_THIS_LIST:
            raise
        return [NOT_LISTED.format(error)]
    return []


class Unedited:
    """The tickets that were created at `begin` (milliseconds) or later and never edited, as far as a run has come.

    Where ServiceDesk Plus gives no list by the time of creation, they end early, and `trouble` says why.
    """

    def __init__(self, client: "Client", begin: int, where: str = REQUESTS) -> None:
        self._client, self._where = client, where
        self._reached = begin  # all that were created before it were listed
        self._met: set[str] = set()  # those that were created just then
        self._pages = self._list()
        self._asked = 0.0  # by the monotonic clock
        self._has_ended = False
        self.trouble: str | None = None

    async def until(self, moment: float) -> AsyncIterator[Fresh]:
        """Yield those that were created up to `moment` (milliseconds), by the time of creation. Raises SdpError."""
        if self._has_ended and not self.trouble and time.monotonic() - self._asked > SOON:
            self._pages, self._has_ended = self._list(), False
        while not self._has_ended and self._reached <= moment:
            asked = time.monotonic()
            try:
                page = await anext(self._pages, None)
            except SdpError as error:
                if type(error) not in OF_THIS_LIST:
                    raise
                self.trouble, page = str(error), None
            if page is None:
                self._has_ended = True
                return
            self._asked = asked
            yield self._fresh(page)

    def _list(self) -> AsyncIterator[Fresh]:
        return pages.updated_from(self._client, self._reached, self._where, CREATED)

    def _fresh(self, page: Fresh) -> Fresh:
        """Move on to the end of a page, and return its tickets that were never edited and not met before."""
        rows = [row for row in page.rows if row.id not in self._met]
        if page.rows and page.rows[-1].updated > self._reached:
            self._reached, self._met = page.rows[-1].updated, set()
        self._met |= {row.id for row in page.rows if row.updated == self._reached}
        return Fresh([row for row in rows if not row.is_edited], [odd for odd in page.odd if not odd.is_edited], 0)
