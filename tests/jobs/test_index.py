"""A worker brings written tickets into search's index, behind promotion, and one worker at a time."""

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime

import pytest

from db import engine as engines
from db import leases, queue, search_index
from tests.support import tickets_found
from tests.support.system import Database, Worker
from tests.support.tickets_found import Ticket

pytestmark = pytest.mark.one_postgres

IN_INDEX = "SELECT coalesce(sum(tickets), 0) FROM search_indexes WHERE is_ready"


def held_back(database: Database) -> bool:
    """Return whether the job would wait for promotion now; tickets wait for it for five minutes at most."""

    async def ask() -> bool:
        engine = engines.create_engine(database.url, "test", 1, 30.0)
        try:
            async with engines.connection(engine) as connection:
                return await search_index.is_held_back(connection, 300.0)
        finally:
            await engine.dispose()

    return asyncio.run(ask())


def test_a_worker_indexes_what_is_written_and_what_was_there_before(
    database: Database, start_worker: Callable[..., Worker]
) -> None:
    """A webhook's ticket, one of another program, and all of a tenant whose index was replaced."""
    tickets_found.add_tenant(database, "acme")
    tickets_found.add(database, "acme", Ticket("by hand", "printer"))
    database.query("TRUNCATE search_due")
    worker = start_worker()
    database.wait_for(IN_INDEX, 1, within=30)
    event = {
        "tenant_id": "acme",
        "ticket_id": "sent",
        "subject": "vpn",
        "description": "is slow",
        "resolution": "Mended.",
    }
    database.deliver({**event, "resolved_date": datetime.now(UTC).isoformat(), "priority": "High"})
    tickets_found.add(database, "acme", Ticket("by hand, too", "toner"))
    database.wait_for("SELECT count(*) FROM ticket_history", 3, within=30)
    database.defer(queue.INDEX)  # sooner than the periodic one
    database.wait_for(IN_INDEX, 3, within=30)
    assert database.value("SELECT count(*) FROM search_due") == 0
    assert tickets_found.ask(database, "acme", "slow vpn").ids == ["sent"]
    assert sum(line["rows"] for line in worker.lines("indexed")) >= 3
    assert not worker.lines("job_retried")


def test_promotion_goes_first_and_for_minutes_at_most(database: Database) -> None:
    assert not held_back(database)
    database.deliver({"tenant_id": "acme", "ticket_id": "1"})
    assert held_back(database)
    database.query(
        "INSERT INTO search_due (tenant_id, tickets, noted_at) VALUES ('acme', '{1}', now() - interval '4 minutes')"
    )
    assert held_back(database)
    database.query("UPDATE search_due SET noted_at = now() - interval '6 minutes'")
    assert not held_back(database)


def test_a_job_that_finds_another_at_work_leaves_it_to_that(
    database: Database, start_worker: Callable[..., Worker]
) -> None:
    tickets_found.add_tenant(database, "acme")
    tickets_found.add(database, "acme", Ticket("1", "printer"))
    lease = f"INSERT INTO leases (name, owner, expires_at) VALUES (%s, 'another', now() + interval '{leases.LASTS} s')"
    database.query(lease, leases.INDEX)
    worker = start_worker()
    database.defer(queue.INDEX)
    [line, *_] = worker.wait_for_line("index_skipped", within=30)
    assert "another one is under way, by another, since" in line["error"]
    database.query("DELETE FROM leases WHERE owner = 'another'")
    database.defer(queue.INDEX)
    database.wait_for(IN_INDEX, 1, within=30)
