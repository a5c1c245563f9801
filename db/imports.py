"""How far has a file come into the inbox, and how much of what was imported still waits? Reads only."""

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from db import queue
from db.inbox import BULK

IS_TENANT = sa.text("SELECT EXISTS (SELECT FROM tenant_configs WHERE tenant_id = :tenant_id)")

# All of these ids are of one form and length, so that every collation puts them in the order of their numbers. By
# ORDER BY, because max() would read all of them.
LAST_IMPORTED = sa.text(
    """
    SELECT correlation_id FROM inbox
    WHERE correlation_id BETWEEN :first AND :last AND tenant_id = :tenant_id AND source = :source
    ORDER BY correlation_id DESC
    LIMIT 1
    """
)

WAITING = sa.text(
    f"""
    SELECT count(*) FROM procrastinate_jobs
    WHERE status = 'todo' AND priority = {queue.BULK_PRIORITY} AND task_name = '{queue.PROMOTE}'
    """  # noqa: S608  (composed of constants)
)


async def is_tenant(connection: AsyncConnection, tenant_id: str) -> bool:
    """Tell whether there is such a tenant, enabled or not."""
    return bool(await connection.scalar(IS_TENANT, {"tenant_id": tenant_id}))


async def last_imported(connection: AsyncConnection, tenant_id: str, first: str, last: str) -> str | None:
    """Give the highest correlation id from `first` to `last` that was imported for the tenant."""
    within = {"first": first, "last": last, "tenant_id": tenant_id, "source": BULK}
    found: str | None = await connection.scalar(LAST_IMPORTED, within)
    return found


async def count_waiting(connection: AsyncConnection) -> int:
    """Count the promote jobs of imports that wait."""
    return await connection.scalar(WAITING) or 0
