"""One session in each driver, opened as the processes open theirs: what do they say of it?"""

import asyncio

from db import failures, sessions

DRIVERS = ("asyncpg", "psycopg")


def ask(url: str, driver: str, sql: str = "SELECT 1") -> object:
    """Return the one value that `sql` has in a session of `driver`. Raises what the driver raises."""
    return asyncio.run(_of_asyncpg(url, sql)) if driver == "asyncpg" else _of_psycopg(url, sql)


def ask_both(url: str, sql: str = "SELECT 1") -> object:
    """Return what both drivers answer alike."""
    first, second = (ask(url, driver, sql) for driver in DRIVERS)
    assert first == second
    return first


def refused_by(url: str, driver: str) -> str:
    """Return why a session cannot be opened, or "" if it can."""
    try:
        ask(url, driver)
    except failures.DatabaseError as error:
        return failures.reason(error)
    return ""


async def _of_asyncpg(url: str, sql: str) -> object:
    session = await sessions.Connector(url, "test", 10.0).connect()
    try:
        return await session.fetchval(sql)
    finally:
        await session.close()


def _of_psycopg(url: str, sql: str) -> object:
    with sessions.open_sync(url, "test") as connection:
        row = connection.execute(sql).fetchone()
        return row[0] if row else None
