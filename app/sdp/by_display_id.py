"""Which tickets does ServiceDesk Plus know by these numbers? A hundred display ids in a question, never one."""

import contextlib
from collections.abc import Sequence
from typing import TYPE_CHECKING

from app.sdp.errors import AccessError, GoneError, RefusedError, SdpError
from app.sdp.listed import ARCHIVE, REQUESTS, ROWS

if TYPE_CHECKING:
    from app.sdp.client import Client

OTHERS = "ServiceDesk Plus was asked for tickets by their display ids, and gave others"


async def find(client: "Client", display_ids: Sequence[str], found: dict[str, list[str]]) -> None:
    """Add to `found`, by display id, the ids of the tickets that ServiceDesk Plus knows by `display_ids`, archived too.

    Where several tickets have the same one, all of their ids. Raises SdpError, or a database error.
    """
    await _ask(client, list(dict.fromkeys(display_ids)), REQUESTS, found)
    missing = [one for one in dict.fromkeys(display_ids) if one not in found]
    with contextlib.suppress(AccessError, GoneError, RefusedError):  # no archive, or none that we may read
        await _ask(client, missing, ARCHIVE, found)


async def _ask(client: "Client", wanted: Sequence[str], where: str, found: dict[str, list[str]]) -> None:
    """Add to `found` those of the tickets `wanted` that are there. Raises SdpError where a list has others too."""
    for first in range(0, len(wanted), ROWS):
        asked = wanted[first : first + ROWS]
        # As the vendor's page on search criteria has it: several values are `values`, one is `value`.
        values = {"values": list(asked)} if len(asked) > 1 else {"value": asked[0]}
        criterion = {"field": "display_id", "condition": "is", **values}
        for display_id, ticket_id in await client.named(criterion, where):
            if display_id is None or display_id not in asked:
                raise SdpError(OTHERS)
            found.setdefault(display_id, []).append(ticket_id)
