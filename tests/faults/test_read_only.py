"""Postgres answers and may not be written to: a standby, or a managed one whose disk is full. The worker waits calmly."""

import time
from collections.abc import Callable

import pytest

from tests.support.read_only import read_only, sessions_opened
from tests.support.system import Database, Tenant, Worker

pytestmark = [pytest.mark.one_postgres, pytest.mark.begins_early]

ACME = Tenant("acme", "secret")
SECONDS = 30.0


def promotes(database: Database, within: float) -> None:
    [inbox_id] = database.deliver(ACME.payload())
    database.wait_for(f"SELECT count(*) FROM ticket_history WHERE inbox_id = {inbox_id}", 1, within=within)


@pytest.mark.long
def test_a_worker_on_a_read_only_postgres_says_so_once_and_opens_few_sessions(
    database: Database, start_worker: Callable[..., Worker]
) -> None:
    """Then it may write, and promotes within 30 seconds; the sessions were 218, the lines 140."""
    with read_only(database):
        worker = start_worker()
        worker.wait_for_line("worker_waits", within=30)
        before = sessions_opened(database)
        time.sleep(SECONDS)
        assert len(worker.lines()) <= 2, worker.text()
        [line] = worker.lines("worker_waits")
        assert "read-only" in line["error"]
        assert sessions_opened(database) - before <= 10
    promotes(database, within=30)
    assert worker.stop() == 0


def test_a_worker_whose_sessions_became_read_only_is_back(
    database: Database, start_worker: Callable[..., Worker]
) -> None:
    """As in a failover: its sessions end, the new ones may not write for a while, and then they may."""
    worker = start_worker()
    worker.wait_for_line("worker_started", within=30)
    promotes(database, within=10)
    with read_only(database):
        worker.wait_for_line("worker_waits", within=20)
        time.sleep(10)
    promotes(database, within=30)
    assert len(worker.lines("worker_waits")) == 1, worker.text()
    assert len(worker.lines()) < 12, worker.text()
