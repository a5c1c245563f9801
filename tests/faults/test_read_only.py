"""Postgres answers and may not be written to: a standby, or a managed one whose disk is full. The worker waits calmly."""

import time
from collections.abc import Callable

import pytest

from tests.support.system import Database, Tenant, Worker

pytestmark = [pytest.mark.one_postgres, pytest.mark.begins_early]

ACME = Tenant("acme", "secret")
SESSIONS = "FROM pg_stat_activity WHERE datname = current_database() AND application_name = 'ticket-inbox worker'"
OPENED = "SELECT sessions::int FROM pg_stat_database WHERE datname = current_database()"
SECONDS = 30.0


def set_read_only(database: Database, *, read_only: bool) -> None:
    """Have every new session of the database be read-only, or no longer."""
    name, value = database.value("SELECT current_database()"), "on" if read_only else "off"
    database.query("SET default_transaction_read_only = off")
    database.query(f'ALTER DATABASE "{name}" SET default_transaction_read_only = {value}')


def promotes(database: Database, within: float) -> None:
    with database.on_one_connection():
        database.query("SET default_transaction_read_only = off")
    [inbox_id] = database.deliver(ACME.payload())
    database.wait_for(f"SELECT count(*) FROM ticket_history WHERE inbox_id = {inbox_id}", 1, within=within)


@pytest.mark.long
def test_a_worker_on_a_read_only_postgres_says_so_once_and_opens_few_sessions(
    database: Database, start_worker: Callable[..., Worker]
) -> None:
    """Then it may write, and promotes within 30 seconds; the sessions were 218, the lines 140."""
    with database.on_one_connection():
        set_read_only(database, read_only=True)
        worker = start_worker()
        worker.wait_for_line("worker_waits", within=30)
        before = database.value(OPENED)
        time.sleep(SECONDS)
        database.query("SELECT pg_stat_force_next_flush()")
        assert len(worker.lines()) <= 2, worker.text()
        [line] = worker.lines("worker_waits")
        assert "read-only" in line["error"]
        assert database.value(OPENED) - before <= 10
        set_read_only(database, read_only=False)
    promotes(database, within=30)
    assert worker.stop() == 0


def test_a_worker_whose_sessions_became_read_only_is_back(
    database: Database, start_worker: Callable[..., Worker]
) -> None:
    """As in a failover: its sessions end, the new ones may not write for a while, and then they may."""
    worker = start_worker()
    worker.wait_for_line("worker_started", within=30)
    promotes(database, within=10)
    with database.on_one_connection():
        set_read_only(database, read_only=True)
        database.query(f"SELECT pg_terminate_backend(pid) {SESSIONS}")
        worker.wait_for_line("worker_waits", within=20)
        time.sleep(10)
        set_read_only(database, read_only=False)
    promotes(database, within=30)
    assert len(worker.lines("worker_waits")) == 1, worker.text()
    assert len(worker.lines()) < 12, worker.text()
