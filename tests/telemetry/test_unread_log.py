"""Server, worker and `--processes 2` whose log nobody reads: they work, answer their probes, end, and count what is lost."""

import contextlib
import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.support.free_ports import free_port
from tests.support.scraped_metrics import values
from tests.support.system import Database, Process, Server, Tenant, Worker
from tests.support.unread_log import Reader, started

pytestmark = pytest.mark.one_postgres

MANY = 60  # lines: several times what the pipe takes
both = pytest.mark.parametrize("processes", [1, 2])


@pytest.fixture
def acme(database: Database, secrets_key: str) -> Tenant:
    return database.add_tenant(secrets_key, "acme")


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "log"


@contextlib.contextmanager
def serving(env: dict[str, str], log: Path, processes: int) -> Iterator[tuple[Server, Reader]]:
    with started(["serve", "--processes", str(processes)], env, log, Server) as (server, reader):
        server.wait_until_live()
        with contextlib.closing(server.client):
            yield server, reader


@contextlib.contextmanager
def working(env: dict[str, str], log: Path) -> Iterator[tuple[Worker, Reader, str]]:
    """Run a worker; yield it, its log's reader, and the URL of its metrics."""
    port = free_port()
    with started(["worker"], {**env, "WORKER_METRICS_PORT": str(port)}, log, Worker) as (worker, reader):
        worker.wait_for_line("worker_started")
        yield worker, reader, f"http://127.0.0.1:{port}/metrics"


def wait_until(condition: Callable[[], object], within: float = 20.0) -> None:
    deadline = time.monotonic() + within
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def dropped(url: str) -> float:
    """Return the counter of a scrape."""
    return values(httpx.get(url).text)["ticket_inbox_log_lines_dropped_total", ()]


def send_many(server: Server, acme: Tenant, first: int, count: int) -> None:
    for number in range(first, first + count):
        assert server.send(acme, ticket_id=str(number)).status_code == 202
        assert server.client.get("/health/live").status_code == 200


def told(process: Process) -> int:
    return sum(line["count"] for line in process.lines("log_lines_dropped"))


def ticket_numbers(lines: list[dict[str, Any]]) -> list[int]:
    return [int(line["ticket_id"]) for line in lines if line["event"] in ("webhook_answered", "ticket_promoted")]


@both
def test_a_server_answers_and_says_afterwards_how_many_lines_it_dropped(
    environment: dict[str, str], log: Path, acme: Tenant, processes: int
) -> None:
    """Every line is written in its order, or counted: by the line that comes first when the log is read again."""
    with serving(environment, log, processes) as (server, reader):
        metrics = f"{server.url}/metrics"
        send_many(server, acme, 0, 5)
        reader.pause()
        send_many(server, acme, 5, MANY)
        wait_until(lambda: dropped(metrics))
        reader.resume()
        wait_until(lambda: dropped(metrics) == told(server))
        send_many(server, acme, 5 + MANY, 5)
        assert server.stop() == 0
    numbers = ticket_numbers(server.lines())
    assert numbers == sorted(numbers) or processes > 1
    assert numbers[:5] + numbers[-5:] == [*range(5), *range(5 + MANY, 10 + MANY)]
    assert len(numbers) + told(server) == 10 + MANY
    assert told(server)
    line = server.lines("log_lines_dropped")[0]
    assert line["level"] == "warning"
    assert line["since"] < line["timestamp"]


def test_a_worker_promotes_and_says_afterwards_how_many_lines_it_dropped(
    environment: dict[str, str], log: Path, database: Database, acme: Tenant
) -> None:
    database.query(  # no other index job comes while this one waits: that one logs, too
        "INSERT INTO procrastinate_jobs (queue_name, task_name, queueing_lock, scheduled_at) "
        "VALUES ('index', 'index', 'index', now() + interval '1 hour')"
    )
    with working(environment, log) as (worker, reader, metrics):
        reader.pause()
        for number in range(MANY):
            database.deliver(acme.payload(ticket_id=str(number)))
        database.wait_for("SELECT count(*) FROM ticket_history", MANY, within=20)
        wait_until(lambda: dropped(metrics))
        reader.resume()
        wait_until(lambda: dropped(metrics) == told(worker))
        database.deliver(acme.payload(ticket_id=str(MANY)))
        worker.wait_for_line("ticket_promoted", ticket_id=str(MANY))
        assert worker.stop() == 0
    assert len(ticket_numbers(worker.lines())) + told(worker) == MANY + 1
    assert told(worker)


@both
def test_a_server_whose_log_is_not_read_ends_on_sigterm(
    environment: dict[str, str], log: Path, acme: Tenant, processes: int
) -> None:
    with serving(environment, log, processes) as (server, reader):
        reader.pause()
        send_many(server, acme, 0, MANY)
        assert server.stop() == 0


def test_a_worker_whose_log_is_not_read_ends_on_sigterm(
    environment: dict[str, str], log: Path, database: Database, acme: Tenant
) -> None:
    with working(environment, log) as (worker, reader, _):
        reader.pause()
        for number in range(MANY):
            database.deliver(acme.payload(ticket_id=str(number)))
        database.wait_for("SELECT count(*) FROM ticket_history", MANY, within=20)
        assert worker.stop() == 0


def test_a_process_that_is_killed_is_started_again_though_nobody_reads_the_log(
    environment: dict[str, str], log: Path, acme: Tenant
) -> None:
    """The supervisor logs that it replaced a process. It shares the pipe with its processes, which have filled it."""
    with serving(environment, log, 2) as (server, reader):
        reader.pause()
        send_many(server, acme, 0, MANY)
        for _ in range(2):
            before = set(server.children())
            os.kill(max(before), signal.SIGKILL)
            wait_until(lambda before=before: set(server.children()) - before)  # type: ignore[misc]
        send_many(server, acme, MANY, MANY)
        reader.resume()
        wait_until(lambda: server.lines("log_lines_dropped"))
        assert server.stop() == 0
