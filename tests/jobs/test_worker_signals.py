"""Which signals end a worker, which are not meant for it, and what becomes of the job in hand."""

import signal
import time
from collections.abc import Callable

import psycopg
import pytest

from tests.support.stalled import wait_until
from tests.support.system import Database, Tenant, Worker

pytestmark = pytest.mark.one_postgres

StartWorker = Callable[..., Worker]
ACME = Tenant("acme", "secret")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGQUIT, signal.SIGHUP])
def test_it_ends_the_worker_after_the_job_in_hand(
    database: Database, start_worker: StartWorker, number: signal.Signals
) -> None:
    """Another one meanwhile, of the same kind or of another, changes nothing."""
    worker = start_worker()
    worker.wait_for_line("worker_started")
    with psycopg.connect(database.url) as holder:
        holder.execute("LOCK ticket_history IN EXCLUSIVE MODE")
        database.deliver(ACME.payload())
        wait_until(lambda: database.value("SELECT count(*) FROM pg_locks WHERE NOT granted"))
        for one in (number, number, signal.SIGTERM):
            worker.process.send_signal(one)
            time.sleep(0.3)
        assert worker.process.poll() is None
        holder.rollback()
    assert worker.process.wait(15) == 0
    assert database.value("SELECT status FROM inbox") == "promoted"
    assert "Traceback" not in worker.text()


def test_what_is_not_meant_for_it_changes_nothing(database: Database, start_worker: StartWorker) -> None:
    """Nor do the two that freeze a process in the background of a terminal."""
    worker = start_worker()
    worker.wait_for_line("worker_started")
    for number in (signal.SIGUSR1, signal.SIGUSR2, signal.SIGTTIN, signal.SIGTTOU, signal.SIGWINCH, signal.SIGPIPE):
        worker.process.send_signal(number)
    database.deliver(ACME.payload())
    database.wait_for("SELECT status FROM inbox", "promoted", within=15)
    assert worker.stop() == 0
