"""What does a removal do with policies of ticket_history that were typed by hand? It widens nobody's rights."""

import asyncio

import pytest

from db import engine as engines
from db import tenant_removal, tenant_rows
from db.tenant_removal import RemovalError
from tests.support.removing import fill, left
from tests.support.system import Database

pytestmark = pytest.mark.one_postgres
POLICY = "CREATE POLICY only_acme ON ticket_history AS {} FOR SELECT TO PUBLIC USING (tenant_id = 'acme')"


async def look(database: Database) -> list[str]:
    engine = engines.create_engine(database.url, "test", 1, 30.0)
    try:
        async with engines.connection(engine) as connection:
            await tenant_removal.look(connection, "acme")
            return await tenant_rows.readers_left(connection, "acme")
    finally:
        await engine.dispose()


def test_one_that_restricts_is_named_and_stays(database: Database) -> None:
    """Without it, whom another policy lets read every tenant would read every tenant."""
    fill(database, "acme")
    before = left(database, "acme")
    database.query(POLICY.format("RESTRICTIVE"))
    with pytest.raises(RemovalError, match="policy only_acme on ticket_history restricts PUBLIC to this tenant"):
        asyncio.run(look(database))
    assert database.value("SELECT count(*) FROM pg_policy WHERE polname = 'only_acme'") == 1
    assert left(database, "acme") == before


def test_one_for_everybody_is_a_reader_that_an_earlier_tenant_left(database: Database) -> None:
    """Every role that may read the table would read the next tenant of that name."""
    database.query(POLICY.format("PERMISSIVE"))
    assert asyncio.run(look(database)) == ["PUBLIC"]
