"""How does a process share its sessions with Postgres? A pool, which connects again by itself after an outage."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import sqlalchemy as sa
from sqlalchemy import QueuePool
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from db import failures
from db.renewal import KEY, LONGEST_LIFE, Renewal, Session
from db.sessions import Connector

TAKES_WRITES = sa.text("SELECT NOT pg_is_in_recovery() AND current_setting('transaction_read_only') = 'off'")


def create_engine(url: str, name: str, connections: int, timeout: float, patience: float = 0) -> AsyncEngine:
    """Return a pool of at most `connections` to the database at `url`, which it opens when they are needed.

    pg_stat_activity shows `name`. `timeout` (seconds) bounds the wait for a free connection, and each
    statement. Each statement commits by itself, except in `transaction`. With `patience` (seconds) Postgres has so much
    longer to say that it cut a statement: without that word the session is closed.
    """
    renewal = Renewal()
    engine = create_async_engine(
        "postgresql+asyncpg://",
        async_creator=Connector(url, name, timeout, patience).connect,
        pool_size=connections,
        max_overflow=0,
        pool_timeout=timeout,
        pool_use_lifo=True,
        pool_recycle=LONGEST_LIFE,
        hide_parameters=True,  # they contain ticket text
        execution_options={"renewal": renewal},
    )
    renewal.watch(engine.sync_engine)
    return engine


def renew(engine: AsyncEngine) -> None:
    """End every idle session of `engine` now, and every other one when its statement has ended."""
    renewal: Renewal = engine.get_execution_options()["renewal"]
    renewal.renew()


@asynccontextmanager
async def transaction(engine: AsyncEngine) -> AsyncIterator[AsyncConnection]:
    """Yield a connection in a transaction, which commits at the end of the block; an exception rolls it back."""
    async with connection(engine, "READ COMMITTED") as connected, connected.begin():
        yield connected


@asynccontextmanager
async def connection(engine: AsyncEngine, isolation: str = "AUTOCOMMIT") -> AsyncIterator[AsyncConnection]:
    """Yield a connection on which each statement commits by itself, unless `isolation` says otherwise.

    A connection whose statement was interrupted is closed and does not return to the pool: it may still hold
    its locks (https://github.com/sqlalchemy/sqlalchemy/issues/12077). Nor does one that an error shows to be no good,
    such as one of a standby: see db/renewal.py.
    """
    async with engine.connect() as connected:
        session: Session = connected.info[KEY]
        await connected.execution_options(isolation_level=isolation)
        try:
            yield connected
        except failures.DatabaseError as error:
            if session.is_to_end(error):
                await _end(connected, session)
            raise
        except BaseException:
            await connected.invalidate()
            raise


def driver(connection: AsyncConnection) -> Any:  # noqa: ANN401  (asyncpg has no types)
    """Return the session of asyncpg's beneath `connection`, for a db.statement.Statement."""
    session: Session = connection.info[KEY]
    return session.driver


def is_used_up(engine: AsyncEngine) -> bool:
    """Return True if every connection of the pool is in use, or is being opened."""
    pool = engine.pool
    return isinstance(pool, QueuePool) and pool.checkedout() >= pool.size()


async def require_writes(connection: AsyncConnection) -> None:
    """Raise ReadOnlyError where the connection's Postgres takes no writes, as a standby doesn't."""
    if not await connection.scalar(TAKES_WRITES):
        raise failures.ReadOnlyError


async def _end(connected: AsyncConnection, session: Session) -> None:
    """End a session without waiting for Postgres, which may never answer on it."""
    session.driver.terminate()
    await connected.invalidate()
