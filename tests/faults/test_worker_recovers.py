"""The worker goes on by itself within 5 s, whatever happened to its sessions, to Postgres or to itself."""

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import psycopg
import pytest

from app.dev.embedded_postgres import EmbeddedPostgres
from tests.support.system import Database, Tenant, Worker

pytestmark = pytest.mark.one_postgres

StartWorker = Callable[..., Worker]
ACME = Tenant("acme", "secret")
WITHIN = 5.0  # seconds
SESSIONS = "FROM pg_stat_activity WHERE datname = current_database() AND application_name = 'ticket-inbox worker'"


def promotes(database: Database, within: float = WITHIN) -> None:
    """Deliver one more event, and wait until it is stored."""
    [inbox_id] = database.deliver(ACME.payload())
    database.wait_for(f"SELECT count(*) FROM ticket_history WHERE inbox_id = {inbox_id}", 1, within=within)


def cpu_seconds(worker: Worker) -> float:
    """Return the processor time that the worker and its child processes have used."""
    stats = [Path(f"/proc/{one}/stat").read_text() for one in (worker.process.pid, *worker.children())]
    ticks = sum(int(part) for stat in stats for part in stat.rsplit(")", 1)[1].split()[11:13])
    return ticks / os.sysconf("SC_CLK_TCK")


@pytest.mark.parametrize(
    "which", ["LIKE 'LISTEN%%'", "NOT LIKE 'LISTEN%%'", "LIKE '%%'"], ids=["listen", "others", "all"]
)
def test_after_its_sessions_were_killed(database: Database, start_worker: StartWorker, which: str) -> None:
    """Five times, while it works and while it is idle."""
    start_worker()
    promotes(database, within=10)
    for _ in range(5):
        database.deliver(*(ACME.payload() for _ in range(50)))
        killed = database.query(f"SELECT pg_terminate_backend(pid) {SESSIONS} AND query {which}")
        assert killed
        promotes(database)
    database.wait_for("SELECT count(*) FROM inbox WHERE status <> 'promoted'", 0, within=30)


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGQUIT, signal.SIGKILL])
def test_after_postgres_was_restarted(
    own_postgres: EmbeddedPostgres, start_worker: StartWorker, how: signal.Signals
) -> None:
    database = Database(own_postgres.url())
    worker = start_worker(DATABASE_URL=database.url)
    promotes(database, within=10)
    own_postgres.stop(how)
    own_postgres.start()
    promotes(database)
    assert worker.process.poll() is None


@pytest.mark.begins_early
def test_after_postgres_was_away_for_long(own_postgres: EmbeddedPostgres, start_worker: StartWorker) -> None:
    """Postgres is away when the worker starts; it logs that once, and its CPU time shows that it does not spin."""
    database = Database(own_postgres.url())
    own_postgres.stop()
    worker = start_worker(DATABASE_URL=database.url)
    worker.wait_for_line("worker_waits")
    own_postgres.start()
    promotes(database)
    own_postgres.stop()
    time.sleep(8)
    before, said = cpu_seconds(worker), len(worker.text())
    time.sleep(15)
    assert cpu_seconds(worker) - before < 1.5
    assert len(worker.text()) == said
    own_postgres.start()
    promotes(database)
    assert worker.stop() == 0


def test_it_ends_on_sigterm_while_postgres_is_away(own_postgres: EmbeddedPostgres, start_worker: StartWorker) -> None:
    database = Database(own_postgres.url())
    worker = start_worker(DATABASE_URL=database.url)
    promotes(database, within=10)
    own_postgres.stop()
    assert worker.stop() == 0


def test_it_waits_for_a_schema(empty_database: Database, start_worker: StartWorker) -> None:
    worker = start_worker(DATABASE_URL=empty_database.url)
    [line, *_] = worker.wait_for_line("worker_waits")
    assert "schema" in line["error"]
    from db import schema  # noqa: PLC0415

    schema.upgrade(empty_database.url)
    promotes(empty_database)


def test_after_it_was_killed_and_started_again(database: Database, start_worker: StartWorker) -> None:
    for _ in range(3):
        worker = start_worker()
        promotes(database, within=10)
        worker.process.kill()
        worker.process.wait()
    start_worker()
    promotes(database)


def test_a_killed_workers_batch_is_stored_within_a_minute(database: Database, start_worker: StartWorker) -> None:
    """It dies in mid-batch, held up by a lock; another worker stores the rows, without an operator."""
    first = start_worker()
    promotes(database, within=10)
    with psycopg.connect(database.url) as holder:
        holder.execute("LOCK ticket_history IN ACCESS EXCLUSIVE MODE")
        database.deliver(*(ACME.payload() for _ in range(20)))
        database.wait_for(
            "SELECT count(*) FROM procrastinate_jobs WHERE task_name = 'promote' AND status = 'doing'", 1, within=5
        )
        first.process.kill()
        first.process.wait()
        killed = time.monotonic()
    second = start_worker()
    database.wait_for("SELECT count(*) FROM ticket_history", 21, within=60 - (time.monotonic() - killed))
    assert database.query("SELECT attempts, count(*) AS rows FROM inbox GROUP BY attempts ORDER BY attempts") == [
        {"attempts": 1, "rows": 1},
        {"attempts": 2, "rows": 20},
    ]
    assert second.lines("job_requeued")
    database.wait_for("SELECT count(*) FROM procrastinate_jobs WHERE task_name = 'promote'", 0, within=5)
