"""A sweep or a prune that fails is tried again, leaves no failed job, and logs one line."""

import contextlib
from collections.abc import Callable, Iterator

import psycopg
import pytest

from app.dev.embedded_postgres import EmbeddedPostgres
from tests.support.eventually import eventually
from tests.support.system import Database, Tenant, Worker

ACME = Tenant("acme", "secret")
StartWorker = Callable[..., Worker]
PENDING = "SELECT count(*) FROM inbox WHERE status = 'pending'"
NOT_DONE = "SELECT count(*) FROM procrastinate_jobs WHERE task_name = '{}' AND status NOT IN ('todo', 'doing')"
DOING = "SELECT count(*) FROM procrastinate_jobs WHERE id = {} AND status = 'doing'"
HELD_UP = """
FROM pg_stat_activity
WHERE datname = current_database() AND application_name = 'ticket-inbox worker' AND wait_event_type = 'Lock'
  AND query NOT LIKE '%procrastinate_fetch_job%' AND query LIKE '%inbox%'
""".replace("%", "%%")


@contextlib.contextmanager
def held_up(database: Database) -> Iterator[None]:
    """Let whatever reads the inbox wait until the block ends."""
    with psycopg.connect(database.url) as holder:
        holder.execute("LOCK inbox IN ACCESS EXCLUSIVE MODE")
        yield


def kill_held_up(database: Database) -> None:
    """Kill the session that waits for the inbox, as soon as there is one."""
    database.wait_for(f"SELECT count(*) > 0 {HELD_UP}", True, within=25)  # noqa: FBT003
    database.query(f"SELECT pg_terminate_backend(pid) {HELD_UP}")


@pytest.mark.parametrize("task", ["sweep", "prune"])
def test_one_that_fails_is_tried_again(database: Database, start_worker: StartWorker, task: str) -> None:
    worker = start_worker()
    worker.wait_for_line("worker_started")
    with held_up(database):
        database.query("SELECT procrastinate_defer_jobs_v1(ARRAY[ROW(%s, %s, 100, %s, NULL, '{}', NULL)::procrastinate_job_to_defer_v1])", task, task, task)  # fmt: skip
        kill_held_up(database)
        [line, *_] = worker.wait_for_line("job_retried")
    assert line["task"] in ("sweep", "prune")  # a periodic one may have been first
    assert "terminating connection" in line["error"]
    database.wait_for(f"SELECT count(*) FROM procrastinate_jobs WHERE id = {line['job_id']}", 0, within=15)
    assert database.value(NOT_DONE.format(task)) == 0
    assert "raceback" not in worker.text()


def test_one_that_fails_while_the_next_waits_leaves_the_work_to_that(
    database: Database, start_worker: StartWorker
) -> None:
    """Two may not wait under one queueing lock; Postgres never has to refuse the second."""
    worker = start_worker()
    worker.wait_for_line("worker_started")
    database.wait_for("SELECT count(*) FROM procrastinate_jobs WHERE task_name = 'sweep'", 0, within=10)
    with held_up(database):
        database.wait_for(f"SELECT count(*) > 0 {HELD_UP}", True, within=25)  # noqa: FBT003  (the next periodic sweep)
        database.query(
            "INSERT INTO procrastinate_jobs (queue_name, task_name, queueing_lock, scheduled_at) "
            "VALUES ('sweep', 'sweep', 'sweep', now() + interval '1 hour') ON CONFLICT DO NOTHING"
        )
        kill_held_up(database)
        # Just after 03:17 the daily prune waits for the inbox as well, and is killed with it.
        [line] = eventually(lambda: [line for line in worker.lines("job_retried") if line["task"] == "sweep"])
    database.wait_for(f"SELECT count(*) FROM procrastinate_jobs WHERE id = {line['job_id']}", 0, within=5)
    assert not worker.lines("task_failed")
    assert not worker.lines("job_requeued")
    assert database.value("SELECT count(*) FROM procrastinate_jobs WHERE task_name = 'sweep'") == 1


@pytest.mark.parametrize("task", ["sweep", "prune"])
def test_wrong_arguments_are_named_and_not_tried_for_ever(
    database: Database, start_worker: StartWorker, task: str
) -> None:
    worker = start_worker()
    job_id = database.defer(task, days=3)
    [line] = worker.wait_for_line("job_refused")
    assert line["error"] == "there is no argument `days`; it takes no argument"
    database.wait_for(f"SELECT status::text FROM procrastinate_jobs WHERE id = {job_id}", "failed", within=5)
    assert "raceback" not in worker.text()


def test_a_sweep_while_postgres_goes_away_leaves_no_traceback(
    own_postgres: EmbeddedPostgres, start_worker: StartWorker
) -> None:
    database = Database(own_postgres.url())
    worker = start_worker(DATABASE_URL=database.url)
    worker.wait_for_line("worker_started")
    with contextlib.suppress(psycopg.OperationalError), held_up(database):
        database.query("SELECT procrastinate_defer_jobs_v1(ARRAY[ROW('sweep', 'sweep', 100, NULL, NULL, '{}', NULL)::procrastinate_job_to_defer_v1])")  # fmt: skip
        database.wait_for(f"SELECT count(*) > 0 {HELD_UP}", True, within=25)  # noqa: FBT003
        own_postgres.stop()
    assert worker.wait_for_line("job_retried")
    own_postgres.start()
    database.deliver(ACME.payload())
    database.wait_for(PENDING, 0, within=20)
    assert database.value(NOT_DONE.format("sweep")) == 0
    # Where ten seconds, five minutes or the hour of the daily prune begin just now, these periodic ones met the same.
    assert {line["task"] for line in worker.lines("job_retried")} - {"index", "reconcile", "prune"} == {"sweep"}
    assert "raceback" not in worker.text()
