"""How does a process share its sessions with Postgres? A pool, which connects again by itself after an outage."""

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import sqlalchemy as sa
from sqlalchemy.exc import DBAPIError, DisconnectionError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from db.failures import ENDED, DatabaseError, sqlstate
from db.sessions import Connector


def create_engine(url: str, name: str, connections: int, timeout: float) -> AsyncEngine:
    """Return a pool of at most `connections` to the database at `url`, which it opens when they are needed.

    pg_stat_activity shows `name`. `timeout` (seconds) bounds the wait for a free connection, and each
    statement. Each statement commits by itself, except in `engine.begin()`.
    """
    engine = create_async_engine(
        "postgresql+asyncpg://",
        async_creator=Connector(url, name, timeout).connect,
        pool_size=connections,
        max_overflow=0,
        pool_timeout=timeout,
        pool_use_lifo=True,
        hide_parameters=True,  # they contain ticket text
    )
    sa.event.listen(engine.sync_engine, "checkout", _refuse_closed)
    return engine


def _refuse_closed(connection: Any, _record: object, _proxy: object) -> None:  # noqa: ANN401
    """Make the pool replace a connection that Postgres closed while it was idle; costs no round trip."""
    if connection.driver_connection.is_closed():
        raise DisconnectionError


def renew(engine: AsyncEngine) -> None:
    """Replace each session that the pool has now, before it is used again: it may be dumb, and seem alive."""
    engine.sync_engine.pool._invalidate_time = time.time()  # noqa: SLF001  (public only for a session in use)


@asynccontextmanager
async def transaction(engine: AsyncEngine) -> AsyncIterator[AsyncConnection]:
    """Yield a connection in a transaction, which commits at the end of the block; an exception rolls it back."""
    async with connection(engine, "READ COMMITTED") as connected, connected.begin():
        yield connected


@asynccontextmanager
async def connection(engine: AsyncEngine, isolation: str = "AUTOCOMMIT") -> AsyncIterator[AsyncConnection]:
    """Yield a connection on which each statement commits by itself, unless `isolation` says otherwise.

    A connection whose statement was interrupted is closed and does not return to the pool: it may still hold
    its locks (https://github.com/sqlalchemy/sqlalchemy/issues/12077).
    """
    async with engine.connect() as connected:
        await connected.execution_options(isolation_level=isolation)
        try:
            yield connected
        except DatabaseError as error:
            if not isinstance(error, DBAPIError) or (sqlstate(error) or ENDED[0]).startswith(ENDED):
                await connected.invalidate()
            raise
        except BaseException:
            await connected.invalidate()
            raise
