"""Rows are found by key whatever the planner believes of a table's size: a plan outlives what it was made for."""

import asyncio
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy.dialects import postgresql

from db import engine as engines
from db import imports, inbox, queue, ticket_history
from tests.support.system import Database

STATEMENTS: dict[str, sa.Select[Any] | sa.TextClause] = {
    "claim": inbox.CLAIM,
    "holds": inbox.HOLDS,
    "mark": inbox.MARK,
    "take over": queue.TAKE_OVER,
    "upsert": ticket_history.UPSERT,
    "standing": ticket_history.STANDING,
    "is known": imports.IS_KNOWN,
    "imported": imports.IMPORTED,
}


@pytest.mark.parametrize("name", STATEMENTS)
def test_no_table_is_read_as_a_whole(database: Database, name: str) -> None:
    """On tables that nobody has analyzed, with a plan that is not made for its values."""
    assert "Seq Scan" not in asyncio.run(plan(database, STATEMENTS[name]))


async def plan(database: Database, statement: sa.Select[Any] | sa.TextClause) -> str:
    engine = engines.create_engine(database.url, "test", 1, 30.0)
    compiled = statement.compile(dialect=postgresql.dialect(paramstyle="numeric_dollar"))  # type: ignore[no-untyped-call]
    nulls = ", ".join(["NULL"] * len(compiled.params))
    try:
        async with engines.connection(engine) as connection:
            session = (await connection.get_raw_connection()).driver_connection
            assert session is not None
            await session.execute("SET plan_cache_mode = force_generic_plan")
            await session.execute(f"PREPARE statement AS {compiled}")
            [[told]] = await session.fetch(f"EXPLAIN (FORMAT JSON) EXECUTE statement ({nulls})")
            return str(told)
    finally:
        await engine.dispose()
