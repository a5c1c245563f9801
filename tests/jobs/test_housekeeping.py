"""Periodic jobs: sweep gives rows without a job a new one, prune deletes old rows."""

import asyncio
import json
from collections.abc import Callable

import psycopg
import pytest

from db import engine as engines
from db import queue
from tests import ROOT
from tests.conftest import clean_environment
from tests.support import preloaded
from tests.support.system import Database, Tenant, Worker

ACME = Tenant("acme", "secret")
StartWorker = Callable[..., Worker]
PENDING = "SELECT count(*) FROM inbox WHERE status = 'pending'"
PROMOTES = "SELECT count(*) FROM procrastinate_jobs WHERE task_name = 'promote'"


def unattended(database: Database) -> tuple[int, int]:
    """Defer the jobs that sweep would defer, and return how many rows and jobs they are."""

    async def defer() -> tuple[int, int]:
        engine = engines.create_engine(database.url, "test", 1, 30.0)
        try:
            async with engines.connection(engine) as connection:
                rows, jobs = await queue.defer_unattended(connection, 10_000)
                return rows, len(jobs)
        finally:
            await engine.dispose()

    return asyncio.run(defer())


def work_once(database: Database, *queues: str) -> None:
    """Run the jobs that wait now, with Procrastinate's own worker."""
    command = ["procrastinate", "--app=jobs.app", "worker", "--one-shot", f"--queues={','.join(queues)}"]
    done = preloaded.run(command, clean_environment(DATABASE_URL=database.url), cwd=ROOT)
    assert done.returncode == 0, done.stderr


def test_rows_without_a_job_are_stored_soon(database: Database, start_worker: StartWorker) -> None:
    """Whether their jobs were deleted, cancelled or failed, and however many rows there are."""
    ids = database.deliver(*(ACME.payload() for _ in range(1_200)))
    database.query("DELETE FROM procrastinate_jobs")
    worker = start_worker()
    database.wait_for(PENDING, 0, within=30)
    [line] = worker.lines("rows_requeued")
    assert (line["rows"], line["jobs"], line["level"]) == (len(ids), 3, "warning")
    assert database.value("SELECT count(*) FROM inbox WHERE attempts = 1") == len(ids)


@pytest.mark.parametrize(
    "change",
    [
        "status = 'failed'",
        "status = 'cancelled'",
        "queue_name = 'nobody-reads-it'",
        "lock = 'held for ever'",
        "scheduled_at = now() + interval '1 hour'",
        'args = \'{"inbox_ids": "all"}\'',
        "args = '{\"inbox_ids\": [1e400, null, {}, 1.5]}'",
        "task_name = 'another'",
    ],
)
def test_a_job_that_will_not_promote_a_row_counts_for_nothing(database: Database, change: str) -> None:
    database.deliver(ACME.payload())
    assert unattended(database) == (0, 0)
    database.query(f"UPDATE procrastinate_jobs SET {change}")
    assert unattended(database) == (1, 1)
    assert unattended(database) == (0, 0), "the row has a new job now"


def test_a_job_that_was_begun_counts_for_two_minutes(database: Database) -> None:
    """After that sweep defers another, even if the job's worker is alive: only the inbox row counts."""
    database.deliver(ACME.payload())
    database.query("UPDATE procrastinate_jobs SET status = 'doing'")
    assert unattended(database) == (0, 0)
    database.query("UPDATE procrastinate_events SET at = at - interval '3 minutes'")
    assert unattended(database) == (1, 1)


def test_jobs_of_dead_workers_are_done_by_another(database: Database, start_worker: StartWorker) -> None:
    """A job whose worker has no heartbeat or is unknown is requeued; the job of a live worker is not."""
    ids = database.deliver(ACME.payload()) + database.deliver(ACME.payload()) + database.deliver(ACME.payload())
    dead, alive = (
        database.value(
            "INSERT INTO procrastinate_workers (last_heartbeat) VALUES (now() + %s::interval) RETURNING id", ago
        )
        for ago in ("-21 seconds", "1 hour")
    )
    jobs = [row["id"] for row in database.query("SELECT id FROM procrastinate_jobs ORDER BY id")]
    for job_id, worker_id in zip(jobs, (dead, None, alive), strict=True):
        database.query(
            "UPDATE procrastinate_jobs SET status = 'doing', worker_id = %s WHERE id = %s", worker_id, job_id
        )
    worker = start_worker()
    database.wait_for("SELECT count(*) FROM ticket_history", 2, within=30)
    assert {line["job_id"] for line in worker.lines("job_requeued")} == set(jobs[:2])
    assert [row["id"] for row in database.query("SELECT id FROM inbox WHERE status = 'pending'")] == [ids[2]]


def test_a_sweep_that_died_holds_up_no_other(database: Database, start_worker: StartWorker) -> None:
    """A dead worker left it `doing`, and another sweep waits under the same queueing lock."""
    database.deliver(ACME.payload())
    database.query("DELETE FROM procrastinate_jobs")
    for status in ("doing", "todo"):
        database.query(
            "INSERT INTO procrastinate_jobs (queue_name, task_name, queueing_lock, status) VALUES ('sweep', 'sweep', 'sweep', %s)",
            status,
        )
    start_worker()
    database.wait_for(PENDING, 0, within=30)
    database.wait_for(
        "SELECT count(*) FROM procrastinate_jobs WHERE task_name = 'sweep' AND status = 'doing'", 0, within=5
    )


@pytest.mark.parametrize("other", ["todo", "doing"])
def test_a_lost_job_that_may_wait_only_once(database: Database, start_worker: StartWorker, other: str) -> None:
    """Another one waits or was lost too: one of the two stays, and other lost jobs are requeued all the same."""
    database.deliver(ACME.payload())
    database.query("UPDATE procrastinate_jobs SET status = 'doing'")
    for status in ("doing", other):
        database.query(
            "INSERT INTO procrastinate_jobs (queue_name, task_name, queueing_lock, status, scheduled_at) "
            "VALUES ('reprocess', 'reprocess', 'mine', %s, now() + interval '1 hour')",
            status,
        )
    start_worker()
    database.wait_for(PENDING, 0, within=10)
    assert database.value("SELECT count(*) FROM procrastinate_jobs WHERE task_name = 'reprocess'") == 1


def test_rows_that_an_old_session_holds_are_stored_when_it_ends(database: Database, start_worker: StartWorker) -> None:
    """The session's worker has lost its network. The next job for the rows skips them and ends."""
    database.deliver(ACME.payload())
    with psycopg.connect(database.url) as old:
        old.execute("SELECT FROM inbox FOR UPDATE")
        start_worker()
        database.wait_for(PROMOTES, 0, within=10)
        assert database.value(PENDING) == 1
        old.rollback()
    database.wait_for(PENDING, 0, within=30)


def test_five_sweeps_at_once_make_one_job(database: Database, start_worker: StartWorker) -> None:
    workers = [start_worker(WORKER_CONCURRENCY="2") for _ in range(5)]
    database.wait_for("SELECT count(*) FROM procrastinate_workers", 5, within=20)
    for _ in range(10):
        database.query(
            "INSERT INTO inbox (tenant_id, correlation_id, payload, signature) VALUES ('acme', 'c', %s, 's')",
            ACME.body(),
        )
        for _ in range(5):
            database.defer("sweep")
        database.wait_for(PENDING, 0, within=10)
    assert sum(line["jobs"] for worker in workers for line in worker.lines("rows_requeued")) == 10
    assert database.value("SELECT count(*) FROM inbox WHERE attempts = 1") == 10


def test_prune_deletes_what_is_old_and_promoted_and_nothing_else(database: Database) -> None:
    """The rows fill more than one window of ids, with every status and age in each."""
    database.query(
        "INSERT INTO inbox (tenant_id, correlation_id, payload, signature, status, received_at) "
        "SELECT 'acme', 'c', '', 's', (ARRAY['pending', 'promoted', 'failed', 'rejected'])[n %% 4 + 1], "
        "       now() - (ARRAY[89, 91])[n %% 8 / 4 + 1] * interval '1 day' FROM generate_series(1, 12000) AS n"
    )
    before = database.query(
        "SELECT id FROM inbox WHERE status <> 'promoted' OR received_at > now() - interval '90 days'"
    )
    for status in ("succeeded", "failed", "cancelled", "aborted", "todo", "doing"):
        for days in (6, 8):
            job_id = database.value(
                "INSERT INTO procrastinate_jobs (queue_name, task_name, status) VALUES ('elsewhere', %s, %s) RETURNING id",
                f"{status} {days}", status,
            )  # fmt: skip
            database.query("DELETE FROM procrastinate_events WHERE job_id = %s", job_id)
            database.query(
                "INSERT INTO procrastinate_events (job_id, at) VALUES (%s, now() - %s * interval '1 day')", job_id, days
            )
    database.defer("prune")
    work_once(database, "prune")
    assert database.query("SELECT id FROM inbox ORDER BY id") == sorted(before, key=lambda row: row["id"])
    left = {
        row["task_name"]
        for row in database.query("SELECT task_name FROM procrastinate_jobs WHERE queue_name = 'elsewhere'")
    }
    assert left == {f"{status} 6" for status in ("succeeded", "failed", "cancelled", "aborted")} | {
        f"{status} {days}" for status in ("todo", "doing") for days in (6, 8)
    }


def test_zero_days_keep_for_ever(database: Database, start_worker: StartWorker) -> None:
    database.query(
        "INSERT INTO inbox (tenant_id, correlation_id, payload, signature, status, received_at) "
        "VALUES ('acme', 'c', '', 's', 'promoted', now() - interval '99 years')"
    )
    worker = start_worker(RETENTION_DAYS="0", JOB_RETENTION_DAYS="0")
    database.defer("prune")
    [line, *_] = worker.wait_for_line("pruned")
    assert (line["rows"], line["jobs"]) == (0, 0)
    assert database.value("SELECT count(*) FROM inbox") == 1


def test_succeeded_jobs_are_deleted_at_once(database: Database, start_worker: StartWorker) -> None:
    start_worker()
    [inbox_id] = database.deliver(ACME.payload())
    database.wait_for(PENDING, 0, within=10)
    database.wait_for(PROMOTES, 0, within=5)
    assert database.value("SELECT job_id FROM inbox WHERE id = %s", inbox_id) > 0
    assert json.loads(database.value("SELECT convert_from(payload, 'UTF8') FROM inbox"))["tenant_id"] == "acme"
