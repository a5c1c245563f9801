"""A login with CONNECT alone fills Postgres' queue of notifications, so that no job can be added, and leaves."""

import contextlib
from collections.abc import Callable

import psycopg
import pytest
from sqlalchemy.exc import SQLAlchemyError

from app.dev.embedded_postgres import EmbeddedPostgres
from tests.support.commands_in_process import run_here
from tests.support.eventually import eventually
from tests.support.stranger import stranger
from tests.support.system import Database, Server, Worker

pytestmark = pytest.mark.one_postgres

FILL = "SELECT pg_notify('any', repeat('x', 7900) || number) FROM generate_series(1, 60) AS number"
FULL = psycopg.errors.ProgramLimitExceeded


def test_they_are_seen_and_jobs_are_added_again_once_their_listener_is_gone(
    own_postgres: EmbeddedPostgres,
    environment: dict[str, str],
    secrets_key: str,
    start_server: Callable[..., Server],
    start_worker: Callable[..., Worker],
) -> None:
    """A worker's log, /health/ready and `doctor` say so; Postgres alone keeps it full, even when no listener is left.

    The worker goes on while its periodic jobs are refused; it began anew twice a second.
    """
    database = Database(own_postgres.url())
    if database.value("SELECT count(*) FROM pg_settings WHERE name = 'max_notify_queue_pages'") == 0:
        pytest.skip("before Postgres 17 it takes 8 GB to fill the queue")
    database.query("ALTER SYSTEM SET max_notify_queue_pages = 64")
    own_postgres.stop()
    own_postgres.start()
    tenant = database.add_tenant(secrets_key)
    event, words = tenant.payload(), "queue of notifications is full"
    server = start_server(DATABASE_URL=database.url)
    with stranger(database) as listener, stranger(database) as sender:
        listener.execute("LISTEN nothing")
        with listener.transaction():
            listener.execute("SELECT 1")
            sender.execute(FILL)
            with pytest.raises(FULL):
                sender.execute(FILL)
            with pytest.raises(SQLAlchemyError, match="too many notifications"):
                database.deliver(event)
            answers = [server.client.get("/health/ready"), server.send(tenant)]
            assert [(answer.status_code, words in answer.text) for answer in answers] == [(503, True), (503, False)]
            worker = start_worker(DATABASE_URL=database.url)
            [line] = worker.wait_for_line("notifications_pile_up", within=30)
            assert "once it is, no webhook is stored" in line["error"]
            said = run_here(["doctor", "--tenant", "acme"], {**environment, "DATABASE_URL": database.url}).stdout
            assert "wrong Postgres' queue of notifications is " in said
            assert [words in line["error"] for line in worker.lines("postgres_failed")] == [True]
            assert len(worker.lines("worker_started")) == 1, worker.text()
    database.wait_for("SELECT count(*) FROM pg_stat_activity WHERE usename LIKE 'stranger%%'", 0, within=10)

    def is_added() -> bool:
        with contextlib.suppress(SQLAlchemyError):
            return len(database.deliver(event)) == 1
        return False

    assert server.client.get("/health/ready").status_code == 200  # which had the queue emptied
    assert eventually(is_added, within=20)
    worker.wait_for_line("notifications_read", within=30)
    assert len(worker.lines("notifications_pile_up")) == 1
