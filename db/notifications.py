"""How full is Postgres' queue of notifications? No job can be added once it is, since that notifies the workers.

All databases of a Postgres share this queue. A session that listens keeps each notification until it has read it, which
it does not while it has a transaction open. Every login may listen and notify.
"""

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from db import failures

# From 0 to 1. Asking also drops what each listener has read: once the queue was full nothing else does.
SHARE = "SELECT pg_notification_queue_usage() AS share"
PILED_UP = 0.25
FULL = 0.9999  # before version 17 Postgres refuses the last segment of its 8 GB, and this function counts it


def piled_up(share: float) -> str:
    """Return in words that notifications pile up, and what to do."""
    return (
        f"Postgres' queue of notifications is {share:.0%} full, and once it is, no webhook is stored: a session that "
        "listens has had a transaction open for long, or somebody sends very many. Postgres' log names a process: end "
        "it by pg_terminate_backend"
    )


async def share(connection: AsyncConnection) -> float:
    """Return how full the queue is, from 0 to 1."""
    return float(await connection.scalar(sa.text(SHARE)) or 0)


async def require_room(connection: AsyncConnection) -> None:
    """Raise NotificationsFullError where the queue is full."""
    if await share(connection) >= FULL:
        raise failures.NotificationsFullError
