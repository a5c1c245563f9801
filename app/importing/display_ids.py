"""Is a report's `RequestID` the id of a ticket, or the number that people know it by, and which ticket is that then?

Reports of ServiceDesk Plus in the cloud show the number that people use, `display_id`; its ids have 18 digits. On
premises the two are one, as far as is known.
"""

import itertools
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
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
UNKNOWN = (
    "no ticket is known by the number {}, and this tenant's numbers are not its tickets' ids: "
    "run `ticket-inbox tenant sdp set`, so that ServiceDesk Plus can be asked, or give a column of ticket_id"
)
UNKNOWN_THERE = "no ticket is known by the number {}, neither here nor in ServiceDesk Plus"
UNASKED = "no ticket is known here by the number {}, and ServiceDesk Plus did not say which it is: {}"
SEVERAL = "several tickets are known by the number {}: give a column of ticket_id"
TAKEN_AS_ID = "display ids are of no ticket that is known, and were taken as the tickets' ids"
GUESSED = (
    "numbers were taken as the tickets' ids, which they are on premises; for the cloud run "
    "`ticket-inbox tenant sdp set` before such an import"
)
NOT_LOOKED_UP = "display ids: the import looks up which tickets have them"

# Asks a tenant's ServiceDesk Plus for the tickets that have display ids, and adds their ids by display id to a dict;
# returns None, or why it found no more.
Ask = Callable[[Sequence[str], dict[str, list[str]]], Awaitable[str | None]]


class KnownIds(msgspec.Struct):
    """What is known of a tenant's tickets: its edition, None where nothing says it, and ids by display id.

    `unknown` says why a display id that is not among them is of no ticket; None where it is taken as the ticket's id,
    and `remark` says so. `is_sure` is False where nothing says whether a `RequestID` is the id.
    """

    edition: str | None = None
    by_display_id: Mapping[str, Sequence[str]] = {}
    unknown: Callable[[str], str] | None = None
    remark: str = NOT_LOOKED_UP
    is_sure: bool = True


def meant_by(value: str, member: str, edition: str | None) -> str:
    """Return whether the value of a column is a ticket's TICKET_ID or its DISPLAY_ID; `member` is the column's."""
    if member != REQUEST_ID:
        return member
    is_short = sum(character.isdecimal() for character in value) < ID_DIGITS
    return DISPLAY_ID if edition == sdp.CLOUD and is_short else TICKET_ID


async def look_up(
    connection: "AsyncConnection", tenant_id: str, given: Iterable[tuple[str, str]], ask: Ask
) -> KnownIds:
    """Return what is known of a tenant: its edition, and the ids of those of its tickets that display ids name.

    `given` yields each id of the file after its column's member, and reads the file when it is iterated over. What is
    not known here, `ask` asks ServiceDesk Plus for, where the tenant has its API. Without one the tickets that webhooks
    brought say which edition it is: a number taken as an id would be a second row for a ticket in the cloud.
    """
    config = await sdp.read(connection, tenant_id)
    differ = await known_display_ids.differ_from_ids(connection, tenant_id)
    edition = config.edition if config else sdp.CLOUD if differ else None
    display_ids = (value for member, value in given if meant_by(value, member, edition) == DISPLAY_ID)
    found, missing = await _among_known(connection, tenant_id, display_ids)
    if config and missing:
        error = await ask(missing, found)
        words = UNASKED if error else UNKNOWN_THERE
        return KnownIds(edition, found, lambda display_id: words.format(display_id, error))
    return KnownIds(edition, found, UNKNOWN.format if differ else None, TAKEN_AS_ID, is_sure=edition is not None)


async def _among_known(
    connection: "AsyncConnection", tenant_id: str, display_ids: Iterable[str]
) -> tuple[dict[str, list[str]], list[str]]:
    """Return the ids of the tickets that have these display ids, and the display ids that no known ticket has."""
    found: dict[str, list[str]] = {}
    missing: dict[str, None] = {}
    rest = iter(display_ids)
    while batch := list(itertools.islice(rest, BATCH)):
        known = await known_display_ids.tickets(connection, tenant_id, batch)
        found.update((display_id, list(ids)) for display_id, ids in known.items())
        missing.update(dict.fromkeys(one for one in batch if one not in known))
    return found, list(missing)
