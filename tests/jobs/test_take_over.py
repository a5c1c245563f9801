"""A promote job takes over the rows of other waiting jobs: in its own commit, within bounds, and only from our jobs."""

import asyncio
import json

import psycopg
import pytest

from db import engine as engines
from db import failures, queue
from jobs import promote
from jobs.batch_telemetry import Job
from tests.support.system import Database, Tenant

ACME = Tenant("acme", "secret")
WAITING = "SELECT count(*) FROM procrastinate_jobs WHERE status = 'todo'"


def promote_first(database: Database, inbox_ids: list[int], tries: int = 1) -> bool:
    """Promote as the first waiting job does once a worker has fetched it; return whether it took over others."""
    job_id = database.value("UPDATE procrastinate_jobs SET status = 'doing' WHERE id = (SELECT min(id) FROM procrastinate_jobs) RETURNING id")  # fmt: skip

    async def run() -> bool:
        engine = engines.create_engine(database.url, "test", 1, 5.0)
        try:
            outcomes = await promote.promote_batch(engine, inbox_ids, Job(job_id, tries), queue.TakeOverCursor(job_id))
            return len(outcomes) > len(inbox_ids)
        finally:
            await engine.dispose()

    return asyncio.run(run())


def test_rows_of_other_waiting_jobs_are_promoted_with_it(database: Database) -> None:
    """The other jobs are deleted, and their rows name the job that promoted them."""
    first = database.deliver(ACME.payload(), ACME.payload())
    for _ in range(5):
        database.deliver(*(ACME.payload() for _ in range(10)))
    assert promote_first(database, first)
    assert database.query(
        "SELECT status, attempts, count(*) AS rows, count(DISTINCT job_id) AS jobs FROM inbox GROUP BY 1, 2"
    ) == [{"status": "promoted", "attempts": 1, "rows": 52, "jobs": 1}]
    assert database.value(WAITING) == 0


def test_it_does_not_look_at_the_jobs_before_it(database: Database) -> None:
    """Deleted jobs have left dead rows there, and a job that waits there has its turn anyway."""
    database.deliver(ACME.payload())
    second = database.deliver(ACME.payload())
    database.deliver(ACME.payload())

    async def run() -> list[int]:
        engine = engines.create_engine(database.url, "test", 1, 5.0)
        cursor = queue.TakeOverCursor(
            database.value("SELECT id FROM procrastinate_jobs WHERE args->'inbox_ids' = %s::jsonb", str(second))
        )
        try:
            taken = [len(await promote.promote_batch(engine, [], Job(), cursor)) for _ in range(2)]
            return [*taken, cursor.after]
        finally:
            await engine.dispose()

    last = database.value("SELECT max(id) FROM procrastinate_jobs")
    assert asyncio.run(run()) == [1, 0, last]
    assert database.value(WAITING) == 2


def test_no_more_than_one_job_may_hold(database: Database) -> None:
    first = database.deliver(*(ACME.payload() for _ in range(100)))
    for _ in range(3):
        database.deliver(*(ACME.payload() for _ in range(300)))
    assert promote_first(database, first)
    assert database.value("SELECT count(*) FROM inbox WHERE status = 'promoted'") == 400 <= queue.JOB_ROWS
    assert database.value(WAITING) == 2


def test_no_more_bytes_than_one_job_may_hold(database: Database) -> None:
    first = database.deliver(ACME.payload())
    for _ in range(12):
        database.deliver(ACME.payload(resolution="x" * 1_000_000))
    assert promote_first(database, first)
    assert (
        database.value("SELECT sum(octet_length(payload)) FROM inbox WHERE status = 'promoted'")
        <= queue.JOB_BYTES + 2_000
    )
    assert database.value("SELECT count(*) FROM inbox WHERE status = 'promoted'") == 9
    assert database.value(WAITING) == 4


def test_a_job_that_is_tried_again_takes_over_no_other(database: Database) -> None:
    """Its own rows may be the cause, and its attempts must not count for the others' rows."""
    first = database.deliver(ACME.payload())
    database.deliver(ACME.payload())
    assert not promote_first(database, first, tries=2)
    assert database.query("SELECT status, attempts FROM inbox ORDER BY id") == [
        {"status": "promoted", "attempts": 2},
        {"status": "pending", "attempts": 0},
    ]
    assert database.value(WAITING) == 1


def test_jobs_taken_over_are_back_after_a_failure(database: Database) -> None:
    """The transaction that promotes the others' rows also deletes their jobs; when it rolls back, the jobs are back."""
    first = database.deliver(ACME.payload())
    database.deliver(ACME.payload())
    with psycopg.connect(database.url) as holder:
        holder.execute("LOCK ticket_history IN ACCESS EXCLUSIVE MODE")
        with pytest.raises(failures.DatabaseError):
            promote_first(database, first)
    assert database.value(WAITING) == 1
    assert database.value("SELECT count(*) FROM inbox WHERE status = 'pending' AND attempts = 0") == 2


@pytest.mark.parametrize(
    "change",
    [
        "scheduled_at = now() + interval '1 hour'",
        "lock = 'mine'",
        "queueing_lock = 'mine'",
        "queue_name = 'elsewhere'",
        "task_name = 'another'",
        "status = 'doing'",
        "attempts = 1",
        "priority = 1",
        "args = '{}'",
        *(
            f"args = '{json.dumps({'inbox_ids': ids})}'"
            for ids in ("all", 7, None, ["7"], [7.5], [0], [-1], [None], [[7]])
        ),
        "args = '{\"inbox_ids\": [1e400]}'",
    ],
)
def test_a_job_unlike_ours_is_left_alone(database: Database, change: str) -> None:
    """An operator deferred it by hand, or a worker owns it; it runs by itself, and reports its own fault."""
    first = database.deliver(ACME.payload())
    database.deliver(ACME.payload())
    database.query(f"UPDATE procrastinate_jobs SET {change} WHERE id = (SELECT max(id) FROM procrastinate_jobs)")
    before = database.query("SELECT id, args FROM procrastinate_jobs ORDER BY id")
    assert not promote_first(database, first)
    assert database.query("SELECT id, args FROM procrastinate_jobs ORDER BY id") == before
