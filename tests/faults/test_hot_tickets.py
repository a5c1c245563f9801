"""Several workers on the same few tickets: no deadlock, and the newest event of each ticket stands."""

import random
import time
from collections.abc import Callable

import pytest

from tests.support.system import Database, Tenant, Worker

pytestmark = pytest.mark.one_postgres

ACME = Tenant("acme", "secret")
SECONDS = 20

NEWEST = """
SELECT DISTINCT ON (ticket_id) ticket_id, id AS inbox_id, resolved_date
FROM (SELECT id, ticket_id, (payload->>'resolved_date')::timestamptz AS resolved_date, payload->>'resolution' AS resolution
      FROM (SELECT id, ticket_id, convert_from(payload, 'UTF8')::jsonb AS payload FROM inbox) AS delivery) AS event
ORDER BY ticket_id, resolved_date DESC, resolution <> '' DESC, id DESC
"""


@pytest.mark.begins_early
@pytest.mark.parametrize("workers", [2, 4])
def test_workers_at_once_on_hot_tickets(database: Database, start_worker: Callable[..., Worker], workers: int) -> None:
    rng = random.Random(workers)
    running = [start_worker() for _ in range(workers)]
    ends = time.monotonic() + SECONDS
    delivered: list[int] = []
    while time.monotonic() < ends:
        delivered += database.deliver(
            *(
                ACME.payload(
                    ticket_id=str(rng.randrange(6)),
                    resolved_date=f"2026-01-01T00:{rng.randrange(60):02}:00Z",
                    resolution=rng.choice(["", "mended"]),
                )
                for _ in range(rng.randint(1, 40))
            )
        )
        # Promoted rows come again now and then, in batches that overlap the others.
        database.defer("reprocess", inbox_ids=rng.sample(delivered, min(len(delivered), 30)))
    database.wait_for("SELECT count(*) FROM inbox WHERE status <> 'promoted'", 0, within=60)
    database.wait_for("SELECT count(*) FROM procrastinate_jobs WHERE status IN ('todo', 'doing')", 0, within=60)
    assert database.query(
        "SELECT ticket_id, inbox_id, resolved_date FROM ticket_history ORDER BY ticket_id"
    ) == database.query(NEWEST)
    assert database.value("SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()") == 0
    assert all(worker.lines("ticket_promoted") for worker in running), "each worker had a share"
    assert not [line for worker in running for line in worker.lines() if line["level"] in ("error", "critical")]
