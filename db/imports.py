"""Which lines of a file are in the inbox already, and how many import jobs still wait? Reads only."""

from collections.abc import Sequence

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from db import allowed, queue
from db.inbox import BULK

IS_KNOWN = sa.text(
    """
    SELECT EXISTS (SELECT FROM inbox
                   WHERE correlation_id BETWEEN :first AND :last AND tenant_id = :tenant_id AND source = :source)
    """
)

# Line by line, and OFFSET 0, for the reason of inbox.OPEN_TICKETS.
IMPORTED = sa.text(
    """
    SELECT correlation_id FROM unnest(CAST(:correlation_ids AS text[])) AS wanted (correlation_id)
    WHERE EXISTS (SELECT FROM (SELECT tenant_id, source FROM inbox
                               WHERE inbox.correlation_id = wanted.correlation_id OFFSET 0) AS delivery
                  WHERE tenant_id = :tenant_id AND source = :source)
    """
)

WAITING = sa.text(
    f"""
    SELECT count(*) FROM procrastinate_jobs
    WHERE status = 'todo' AND priority = {queue.BULK_PRIORITY} AND task_name = '{queue.PROMOTE}'
    """  # noqa: S608  (composed of constants)
)


async def is_tenant(connection: AsyncConnection, tenant_id: str) -> bool:
    """Return True if the tenant exists, enabled or not, and is not being removed."""
    return await allowed.is_allowed(connection, allowed.KEPT, tenant_id, is_bulk=True)


async def is_known(connection: AsyncConnection, tenant_id: str, first: str, last: str) -> bool:
    """Return True if an import wrote a row of the tenant with a correlation id from `first` to `last`."""
    within = {"first": first, "last": last, "tenant_id": tenant_id, "source": BULK}
    return bool(await connection.scalar(IS_KNOWN, within))


async def imported(connection: AsyncConnection, tenant_id: str, correlation_ids: Sequence[str]) -> set[str]:
    """Return those of `correlation_ids` for which an import wrote a row of the tenant."""
    wanted = {"correlation_ids": correlation_ids, "tenant_id": tenant_id, "source": BULK}
    return set(await connection.scalars(IMPORTED, wanted))


async def count_waiting(connection: AsyncConnection) -> int:
    """Return the number of promote jobs of imports that wait."""
    return await connection.scalar(WAITING) or 0
