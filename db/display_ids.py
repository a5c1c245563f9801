"""Which ticket do people mean by a number? Tickets by their display id, among a tenant's tickets and deliveries."""

from collections.abc import Mapping, Sequence

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

SAMPLE = 1_000  # tickets; on premises all of a portal's have the same number as their id, and in the cloud none

# A delivery that is not promoted yet, or never, has no row in ticket_history; and the delivery that named a ticket may
# be pruned. OFFSET 0, for one display id after the other by the indexes: Postgres has no statistics of them.
TICKETS = sa.text(
    """
    SELECT display_id, array_agg(DISTINCT ticket_id ORDER BY ticket_id) AS ticket_ids
    FROM unnest(CAST(:display_ids AS text[])) AS wanted (display_id),
         LATERAL (SELECT ticket_id FROM ticket_history AS one
                  WHERE one.tenant_id = :tenant_id AND one.display_id = wanted.display_id
                  UNION
                  SELECT ticket_id FROM inbox AS one
                  WHERE one.display_id = wanted.display_id AND one.tenant_id = :tenant_id AND ticket_id IS NOT NULL
                  OFFSET 0) AS named
    GROUP BY display_id
    """
)

DIFFER = sa.text(
    """
    SELECT coalesce(bool_or(display_id <> ticket_id), false)
    FROM (SELECT display_id, ticket_id FROM ticket_history
          WHERE tenant_id = :tenant_id AND display_id IS NOT NULL ORDER BY display_id LIMIT :most) AS sample
    """
)


async def tickets(
    connection: AsyncConnection, tenant_id: str, display_ids: Sequence[str]
) -> Mapping[str, Sequence[str]]:
    """Return the ids of a tenant's tickets by display id, for those of `display_ids` that are known.

    Where several tickets have the same one, the ids are in order; it names none of them alone. One question, whose
    cost grows with the number of display ids: some hundreds are a good number.
    """
    found = await connection.execute(TICKETS, {"tenant_id": tenant_id, "display_ids": list(display_ids)})
    return {row.display_id: row.ticket_ids for row in found}


async def differ_from_ids(connection: AsyncConnection, tenant_id: str) -> bool:
    """Return True if a tenant's known display ids are others than its tickets' ids; False where none is known."""
    return bool(await connection.scalar(DIFFER, {"tenant_id": tenant_id, "most": SAMPLE}))
