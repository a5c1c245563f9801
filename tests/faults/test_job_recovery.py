"""If a worker dies or loses Postgres, its rows are stored within seconds; a living worker keeps its jobs."""

import contextlib
import signal
import time
from collections.abc import Callable, Iterator

import psycopg
import pytest

from app.dev.embedded_postgres import EmbeddedPostgres
from db import queue, workers
from tests.support.system import Database, Tenant, Worker

StartWorker = Callable[..., Worker]
ACME = Tenant("acme", "secret")
THE_JOB = "SELECT FROM procrastinate_jobs WHERE task_name = 'promote' AND status = 'doing'"
WORKS = "SELECT worker_id FROM procrastinate_jobs WHERE task_name = 'promote' AND status = 'doing' LIMIT 1"
PROMOTES = "SELECT count(*) FROM procrastinate_jobs WHERE task_name = 'promote'"
STORED = "SELECT count(*) FROM ticket_history"
WAITING = (
    "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
    " AND query LIKE '%%{}%%'"
)


@contextlib.contextmanager
def held_up(database: Database) -> Iterator[psycopg.Connection]:
    """Let a worker fetch 20 deliveries, and hold it up in mid-batch until the block ends."""
    with psycopg.connect(database.url) as holder:
        holder.execute("LOCK ticket_history IN ACCESS EXCLUSIVE MODE")
        database.deliver(*(ACME.payload() for _ in range(20)))
        database.wait_for(WAITING.format("INSERT INTO ticket_history"), 1, within=10)
        yield holder


def kill_waiting(database: Database, query: str) -> None:
    """Kill the session whose `query` waits for a lock, as soon as there is one."""
    database.wait_for(WAITING.format(query), 1, within=5)
    database.query(WAITING.format(query).replace("count(*)", "pg_terminate_backend(pid)"))


def requeued(worker: Worker) -> int:
    """Return how many promote jobs a worker requeued."""
    return len([line for line in worker.lines("job_requeued") if line["task"] == queue.PROMOTE])


def test_a_job_whose_end_could_not_be_written(database: Database, start_worker: StartWorker) -> None:
    """The test kills the job's session, then the one that should write the failure; the worker does the job again."""
    worker = start_worker()
    with held_up(database) as holder:
        holder.execute(f"{THE_JOB} FOR UPDATE")
        kill_waiting(database, "INSERT INTO ticket_history")
        kill_waiting(database, "procrastinate_retry_job")
        time.sleep(2.5)  # meanwhile heartbeats find it locked
    database.wait_for(STORED, 20, within=5)
    assert requeued(worker) == 1
    assert len(worker.lines("worker_started")) == 1
    database.wait_for(PROMOTES, 0, within=5)


def test_a_job_that_was_promoted_and_whose_end_could_not_be_written(
    database: Database, start_worker: StartWorker
) -> None:
    """Run again, the job finds no pending row, succeeds and is deleted."""
    worker = start_worker()
    with psycopg.connect(database.url) as holder:
        with held_up(database):
            holder.execute(f"{THE_JOB} FOR UPDATE")
        kill_waiting(database, "procrastinate_finish_job")
        assert database.value(STORED) == 20
    database.wait_for(PROMOTES, 0, within=5)
    assert requeued(worker) == 1
    assert database.value("SELECT count(*) FROM inbox WHERE attempts = 1") == 20
    assert len(worker.lines("ticket_promoted")) == 20


@pytest.mark.one_postgres
def test_jobs_of_a_worker_that_reconnects(own_postgres: EmbeddedPostgres, start_worker: StartWorker) -> None:
    """Postgres is away for longer than the worker waits for a connection, so it cannot write how its job ended."""
    database = Database(own_postgres.url())
    worker = start_worker(DATABASE_URL=database.url)
    with contextlib.suppress(psycopg.OperationalError), held_up(database):
        own_postgres.stop(signal.SIGQUIT)
    worker.wait_for_line("worker_waits")
    own_postgres.start()
    database.wait_for(STORED, 20, within=5)
    assert requeued(worker) == 1


@pytest.mark.parametrize("when", ["before", "after"])
def test_jobs_of_a_killed_worker(database: Database, start_worker: StartWorker, when: str) -> None:
    """Another worker finds them at once, whether it ran already or starts then."""
    first = start_worker()
    with held_up(database):
        second = start_worker() if when == "before" else None
        first.process.kill()
        first.process.wait()
        killed = time.monotonic()
    second = second or start_worker()
    database.wait_for(STORED, 20, within=15 - (time.monotonic() - killed))
    assert requeued(second) == 1
    assert database.value("SELECT count(*) FROM procrastinate_workers") == 1


@pytest.mark.one_postgres
@pytest.mark.parametrize("how", ["frozen", "lost a session"])
def test_jobs_of_a_living_worker_are_left_to_it(database: Database, start_worker: StartWorker, how: str) -> None:
    first = start_worker()
    with held_up(database):
        second = start_worker()
        database.wait_for("SELECT count(*) FROM procrastinate_workers", 2, within=10)
        if how == "frozen":
            first.process.send_signal(signal.SIGSTOP)
        else:
            assert database.query(
                f"SELECT pg_terminate_backend(sessions[1]) FROM leases WHERE name = 'worker:' || ({WORKS})"
            )
        time.sleep(workers.SILENT_AFTER + 3)
        first.process.send_signal(signal.SIGCONT)
    database.wait_for(STORED, 20, within=10)
    assert requeued(first) == requeued(second) == 0
    assert not second.lines("ticket_promoted")
    assert database.value("SELECT count(*) FROM inbox WHERE attempts = 1") == 20


@pytest.mark.one_postgres
def test_jobs_of_a_worker_whose_heartbeat_was_killed(database: Database, start_worker: StartWorker) -> None:
    """The test kills the session with its heartbeat and those before it: it finishes the jobs that it owns, and ends."""
    first = start_worker()
    with held_up(database):
        second = start_worker()
        database.wait_for("SELECT count(*) FROM procrastinate_workers", 2, within=10)
        with psycopg.connect(database.url) as holder:
            holder.execute(f"SELECT FROM procrastinate_workers WHERE id = ({WORKS}) FOR UPDATE")
            database.wait_for(WAITING.format("procrastinate_update_heartbeat"), 1, within=5)
            database.query(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                f" WHERE pid IN (SELECT unnest(sessions) FROM leases WHERE name = 'worker:' || ({WORKS}))"
                " OR wait_event_type = 'Lock' AND query LIKE '%%procrastinate_update_heartbeat%%'"
            )
        time.sleep(workers.SILENT_AFTER + 3)
    database.wait_for(STORED, 20, within=10)
    assert requeued(first) == requeued(second) == 0
    assert not second.lines("ticket_promoted")
