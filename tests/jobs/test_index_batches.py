"""Tickets of many words take long to index; however long that is, the job goes on, and no other tenant waits for ever."""

import asyncio
import contextlib

import pytest

from db import engine as engines
from db import failures
from jobs import index
from tests.support import tickets_found
from tests.support.system import Database
from tests.support.tickets_found import Ticket

pytestmark = pytest.mark.one_postgres

TIMEOUT = 1.0  # seconds that a statement may take
SLOW = """
CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM pg_sleep(0.01); RETURN NEW; END $$;
CREATE TRIGGER slow BEFORE INSERT ON search_tickets FOR EACH ROW EXECUTE FUNCTION slow();
"""


def test_a_batch_that_postgres_cuts_is_tried_again_with_fewer_tickets(database: Database) -> None:
    size = index.BatchSize()
    with database.on_one_connection() as connection:
        connection.execute(SLOW)
        tickets_found.add_tenant(database, "acme")
        tickets_found.index(database)
        tickets_found.add(database, "acme", *(Ticket(str(number), "printer") for number in range(150)))

    async def commit_three_times() -> None:
        engine = engines.create_engine(database.url, "test", 1, TIMEOUT)
        for _ in range(3):
            with contextlib.suppress(*failures.DatabaseError):
                async with engines.connection(engine) as connection:
                    await index.commit(connection, size)
        await engine.dispose()

    asyncio.run(commit_three_times())
    assert database.value("SELECT count(*) FROM search_due") < 150
    assert size.tickets < index.BATCH


def test_batches_are_smaller_after_one_that_took_long_and_grow_again() -> None:
    size = index.BatchSize()
    size.note(index.LONG + 1)
    assert size.tickets == index.BATCH // 2
    for _ in range(20):
        size.note_failure()
    assert size.tickets == 1
    for _ in range(20):
        size.note(0.1)
    assert size.tickets == index.BATCH
