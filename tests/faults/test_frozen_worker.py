"""A worker freezes (a paused VM, SIGSTOP) while Postgres works for it: it holds nobody up, and does no harm later."""

import contextlib
import signal
import time
from collections.abc import Callable, Iterator

import psycopg
import pytest

from db import workers
from tests.support.system import Database, Tenant, Worker

pytestmark = [pytest.mark.one_postgres, pytest.mark.begins_early]

StartWorker = Callable[..., Worker]
ACME = Tenant("acme", "secret")
STORED = "SELECT count(*) FROM ticket_history"
WAITING = (
    "SELECT count(*) > 0 FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
    " AND query LIKE '%%{}%%'"
)
OPEN = (
    "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()"
    " AND application_name = 'ticket-inbox worker' AND state = 'idle in transaction'"
)


def begun(start_worker: StartWorker, database: Database) -> Worker:
    """Start a worker, and wait until it has promoted something."""
    worker = start_worker()
    worker.wait_for_line("worker_started", within=30)
    [inbox_id] = database.deliver(ACME.payload())
    database.wait_for(f"SELECT count(*) FROM ticket_history WHERE inbox_id = {inbox_id}", 1, within=10)
    return worker


@contextlib.contextmanager
def frozen_in(database: Database, worker: Worker, table: str, statement: str) -> Iterator[None]:
    """Freeze a worker while its `statement` waits for a lock on `table`; Postgres then runs it, and nobody reads."""
    with psycopg.connect(database.url) as holder:
        holder.execute(f"LOCK {table} IN ACCESS EXCLUSIVE MODE")
        database.deliver(*(ACME.payload() for _ in range(20))) if table == "ticket_history" else None
        database.wait_for(WAITING.format(statement), wanted=True, within=10)
        worker.process.send_signal(signal.SIGSTOP)
    try:
        yield
    finally:
        worker.process.send_signal(signal.SIGCONT)


@pytest.mark.parametrize(
    ("table", "statement"), [("procrastinate_jobs", "fetch_job"), ("procrastinate_workers", "update_heartbeat")]
)
def test_frozen_in_a_statement_of_procrastinates(
    database: Database, start_worker: StartWorker, table: str, statement: str
) -> None:
    """No transaction stays open behind it, so the healthy worker promotes, sweeps and defers periodic jobs at once."""
    first = begun(start_worker, database)
    with frozen_in(database, first, table, statement):
        second = begun(start_worker, database)
        assert database.value(OPEN) == 0
        deferred = (
            "SELECT count(*) FROM procrastinate_periodic_defers WHERE task_name = 'sweep' AND defer_timestamp > {}"
        )
        database.wait_for(deferred.format(int(time.time())) + " - 1", 1, within=30)
    first.wait_for_line("worker_started")
    assert second.process.poll() is None


@pytest.mark.long
@pytest.mark.parametrize("has_prepared", [True, False], ids=["in a transaction", "in a statement"])
def test_its_batch_is_stored_by_another_and_its_end_is_not_written(
    database: Database, start_worker: StartWorker, *, has_prepared: bool
) -> None:
    """It freezes in its batch's transaction, which Postgres ends; the job is another worker's when it thaws.

    Where it had yet to prepare the statement, it freezes between two messages: no timeout of Postgres' ends that.
    """
    if has_prepared:
        first = begun(start_worker, database)
    else:
        first = start_worker()
        first.wait_for_line("worker_started", within=30)
    with frozen_in(database, first, "ticket_history", "ticket_history"):
        second = begun(start_worker, database)
        database.wait_for(STORED, 21 + has_prepared, within=75)
        assert second.lines("ticket_promoted")
    begun_anew = time.monotonic() + 15
    while not first.lines("job_lost") and not first.lines("job_retried"):
        assert time.monotonic() < begun_anew, first.text()
        time.sleep(0.1)
    database.wait_for("SELECT count(*) FROM procrastinate_jobs WHERE status = 'doing'", 0, within=10)
    assert database.value("SELECT count(*) FROM procrastinate_jobs WHERE task_name = 'promote'") == 0
    assert database.value("SELECT count(*) FROM inbox WHERE status <> 'promoted'") == 0


def test_the_end_of_a_try_that_another_worker_runs_is_not_written(database: Database) -> None:
    """The statements know the try: Procrastinate's own would delete the job that another worker runs now."""
    job_id = database.defer("promote", inbox_ids=[1])
    database.query("UPDATE procrastinate_jobs SET status = 'doing', attempts = 1 WHERE id = %s", job_id)
    old, new = ({"job_id": job_id, "attempts": attempts} for attempts in (0, 1))
    finish = {"status": "succeeded", "delete_job": True}
    retry = {"retry_at": "2026-01-01T00:00:00Z", "priority": None, "queue": None, "lock": None}
    with psycopg.connect(database.url, autocommit=True) as connection:
        assert not connection.execute(workers.FINISH_OWN, {**old, **finish}).fetchall()
        assert not connection.execute(workers.RETRY_OWN, {**old, **retry}).fetchall()
        assert database.value("SELECT status FROM procrastinate_jobs") == "doing"
        assert connection.execute(workers.RETRY_OWN, {**new, **retry}).fetchall()
        assert database.value("SELECT status FROM procrastinate_jobs") == "todo"
