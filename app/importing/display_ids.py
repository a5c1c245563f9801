"""Is a report's `RequestID` the id of a ticket, or the number that people know it by, and which ticket is that then?

Reports of ServiceDesk Plus in the cloud show the number that people use, `display_id`; its ids have 18 digits. On
premises the two are one, as far as is known.
"""

import itertools
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

import msgspec

from db import display_ids as known_display_ids
from db import sdp

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncConnection

TICKET_ID, DISPLAY_ID = "ticket_id", "display_id"
REQUEST_ID = "request_id"  # what a column named RequestID holds: one of the two
ID_DIGITS = 16  # the fewest that an id of the cloud has
BATCH = 500  # display ids in a question to the database
UNKNOWN = "no ticket is known by the number {}, and this tenant's numbers are not its tickets' ids"
SEVERAL = "several tickets are known by the number {}: give a column of ticket_id"
TAKEN_AS_ID = "display ids are of no ticket that is known, and were taken as the tickets' ids"


class KnownIds(msgspec.Struct):
    """What is known of a tenant's tickets: its edition, None without ServiceDesk Plus' API, and ids by display id.

    `differ` is True where its display ids are known to be others than its tickets' ids.
    """

    edition: str | None = None
    by_display_id: Mapping[str, Sequence[str]] = {}
    differ: bool = False


def meant_by(value: str, member: str, edition: str | None) -> str:
    """Return whether the value of a column is a ticket's TICKET_ID or its DISPLAY_ID; `member` is the column's."""
    if member != REQUEST_ID:
        return member
    is_short = sum(character.isdecimal() for character in value) < ID_DIGITS
    return DISPLAY_ID if edition == sdp.CLOUD and is_short else TICKET_ID


async def look_up(
    connection: "AsyncConnection",
    tenant_id: str,
    given: Iterable[tuple[str, str]],
) -> KnownIds:
    """Return what is known of a tenant: its edition, and the ids of those of its tickets that display ids name.

    `given` yields each id of the file after its column's member, and reads the file when it is iterated over.
    """
    config = await sdp.read(connection, tenant_id)
    edition = config.edition if config else None
    display_ids = (value for member, value in given if meant_by(value, member, edition) == DISPLAY_ID)
    found = await _among_known(connection, tenant_id, display_ids)
    return KnownIds(edition, found, await known_display_ids.differ_from_ids(connection, tenant_id))


async def _among_known(
    connection: "AsyncConnection",
    tenant_id: str,
    display_ids: Iterable[str],
) -> Mapping[str, Sequence[str]]:
    """Return the ids of the tickets that have these display ids, for those that are known."""
    found: dict[str, Sequence[str]] = {}
    rest = iter(display_ids)
    while batch := list(itertools.islice(rest, BATCH)):
        found.update(await known_display_ids.tickets(connection, tenant_id, batch))
    return found
