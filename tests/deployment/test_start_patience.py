"""A server or worker that was never ready says why, once a minute, and gives up; one that was ready never does."""

import logging
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from app.readiness import Patience
from db import schema
from jobs.outage_log import OutageLog
from tests.support import preloaded
from tests.support.json_log import JsonLog
from tests.support.system import Database, Server, Worker

pytestmark = pytest.mark.one_postgres

COMMANDS = {"serve --processes 2": "server_waits", "worker": "worker_waits"}


@pytest.mark.parametrize("command", COMMANDS)
def test_one_that_was_never_ready_ends(environment: dict[str, str], tmp_path: Path, command: str) -> None:
    """On a database that does not exist: a line at the start, and one at the end. Of several processes, all."""
    url = environment["DATABASE_URL"].replace("/test_", "/no_")
    env = environment | {"DATABASE_URL": url, "START_PATIENCE_SECONDS": "8"}
    with (tmp_path / "log").open("wb") as log:
        process = preloaded.start(["app", *command.split()], env, log.fileno())
    try:
        code = process.wait(60)
    finally:
        process.kill()
        process.wait()
    lines = [line for line in JsonLog(tmp_path / "log").lines(is_whole=True) if line["event"] != "listening"]
    assert (code, [line["event"] for line in lines][-1]) == (1, "start_given_up"), lines
    assert "never ready in 8 s since the start (START_PATIENCE_SECONDS): " in lines[-1]["error"]
    if len(lines) == 2:  # on a busy machine the processes of several may take these seconds to begin
        assert lines[0]["event"] == COMMANDS[command]
        assert "the database does not exist" in lines[0]["error"]
        assert "the database does not exist" in lines[1]["error"]
    assert len(lines) == 2 or (command == "serve --processes 2" and len(lines) == 1), lines


def test_one_that_was_ready_stays(
    database: Database, start_server: Callable[..., Server], start_worker: Callable[..., Worker]
) -> None:
    """Their Postgres goes, in a way that no session of theirs comes back, for longer than the patience."""
    server, worker = start_server(START_PATIENCE_SECONDS="6"), start_worker(START_PATIENCE_SECONDS="6")
    worker.wait_for_line("worker_started")
    began = time.monotonic()
    assert server.client.get("/health/ready").is_success
    database.wait_for("SELECT count(*) > 0 FROM procrastinate_workers", wanted=True, within=5)
    time.sleep(2)  # the worker looks once a second whether it is ready
    database.query("UPDATE alembic_version SET version_num = '0005'")
    database.query("ALTER TABLE procrastinate_workers RENAME TO gone")
    database.query(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
    )
    worker.wait_for_line("worker_waits")
    time.sleep(max(0.0, began + 7 - time.monotonic()))
    assert server.client.get("/health/ready").status_code == 503
    assert (server.process.poll(), worker.process.poll()) == (None, None)
    assert not [line for one in (server, worker) for line in one.lines("start_given_up")]


def test_why_a_server_waits_is_logged_once_a_minute(caplog: pytest.LogCaptureFixture) -> None:
    logger, patience = logging.getLogger("test"), Patience(seconds=0, every=0.2)
    for _ in range(10):
        patience.log(logger, "no database")
        patience.log(logger, None)
    time.sleep(0.25)
    patience.log(logger, "no schema")
    assert [record.fields for record in caplog.records] == [{"error": "no database"}, {"error": "no schema"}]  # type: ignore[attr-defined]
    assert not patience.is_over()  # 0 is for ever


def test_a_schema_that_is_behind_is_logged_again(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    outages = OutageLog()
    for _ in range(3):
        outages.behind(f"behind {schema.head()}")
    monkeypatch.setattr("jobs.outage_log.AGAIN_AFTER", 0.0)
    outages.behind("behind")
    assert [record.message for record in caplog.records] == ["schema_behind"] * 2
