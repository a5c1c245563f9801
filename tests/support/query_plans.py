"""How does Postgres plan a statement of ours, whatever its values are?"""

from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql

from db import engine as engines
from db.statement import Statement
from tests.support.system import Database


async def plan(database: Database, statement: sa.Select[Any] | sa.TextClause | Statement) -> str:
    """Return the generic plan, which Postgres makes without knowing the values."""
    engine = engines.create_engine(database.url, "test", 1, 30.0)
    compiled, count = _compiled(statement)
    nulls = ", ".join(["NULL"] * count)
    try:
        async with engines.connection(engine) as connection:
            session = (await connection.get_raw_connection()).driver_connection
            assert session is not None
            await session.execute("SET plan_cache_mode = force_generic_plan")
            await session.execute(f"PREPARE statement AS {compiled}")
            [[explained]] = await session.fetch(f"EXPLAIN (FORMAT JSON) EXECUTE statement ({nulls})")
            return str(explained)
    finally:
        await engine.dispose()


def _compiled(statement: sa.Select[Any] | sa.TextClause | Statement) -> tuple[str, int]:
    """Return a statement with numbers in place of its parameters, and how many these are."""
    if isinstance(statement, Statement):
        return statement.sql, len(statement.names)
    compiled = statement.compile(dialect=postgresql.dialect(paramstyle="numeric_dollar"))  # type: ignore[no-untyped-call]
    return str(compiled), len(compiled.params)
