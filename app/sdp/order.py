"""Are the rows of a page in the order that was asked for? A run that trusted another order would miss tickets."""

import bisect
from collections.abc import Sequence

import msgspec

from app.sdp.errors import SdpError
from app.sdp.listed import UPDATED, OddRow, Page, Row

EARLIER = (
    60_000  # milliseconds by which a row may lie before what was asked for: some compare whole seconds, or minutes
)
ENOUGH = 3  # rows, from which on one can be told from the others
OUT_OF_ORDER = "its `{}` does not fit its place in the list"
NOT_IN_ORDER = "ServiceDesk Plus gave a list that is not in order of {}, as was asked for"
NOT_FILTERED = "ServiceDesk Plus gave a list that begins before the {} that was asked for"


def checked(page: Page, begin: int, by: str = UPDATED) -> Page:
    """Return a page whose rows are in order and none before `begin` (milliseconds); the few that are not become odd.

    `by` is the time that was asked for.

    Raises SdpError if they are too many to be the odd ones, or if the very first is too early: then the list is not
    the one that was asked for. The last page is sorted: no page depends on its order.
    """
    if not page.rows:
        return page
    if page.rows[0].updated < begin - EARLIER:
        raise SdpError(NOT_FILTERED.format(by))
    kept = _in_order(page.rows) if page.has_more_rows else sorted(page.rows, key=lambda row: row.updated)
    later = [row for row in kept if row.updated >= begin - EARLIER]
    if len(later) == len(page.rows):
        return msgspec.structs.replace(page, rows=later)
    places = {row.id for row in later}
    odd = [OddRow(row.id, OUT_OF_ORDER.format(by)) for row in page.rows if row.id not in places]
    if len(page.rows) < ENOUGH or len(odd) > max(1, len(page.rows) // 10):
        raise SdpError((NOT_FILTERED if len(kept) == len(page.rows) else NOT_IN_ORDER).format(by))
    return msgspec.structs.replace(page, rows=later, odd=[*page.odd, *odd])


def _in_order(rows: Sequence[Row]) -> Sequence[Row]:
    """Return as many of the rows as are in order: the longest part of them whose times do not fall."""
    ends: list[int] = []  # of the best part of each length: its last time
    lengths = []  # of the best part that ends with each row
    for row in rows:
        place = bisect.bisect_right(ends, row.updated)
        ends[place : place + 1] = [row.updated]
        lengths.append(place + 1)
    kept, wanted = list[Row](), len(ends)
    for row, length in zip(reversed(rows), reversed(lengths), strict=True):
        if length == wanted and (not kept or row.updated <= kept[-1].updated):
            kept.append(row)
            wanted -= 1
    return kept[::-1]
