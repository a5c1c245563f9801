"""`serve --processes N`: one port, one log, one /metrics; the parent restarts a dead process, and none outlives it."""

import contextlib
import http.client
import os
import re
import resource
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import psycopg
import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as open_metrics

from app.webhook import PATH
from tests.support.free_ports import free_port
from tests.support.otlp_receiver import receiving_http
from tests.support.scraped_metrics import Values, values, webhooks
from tests.support.system import STARTS_WITHIN, Database, Process, Server, Tenant, run, running_server

pytestmark = pytest.mark.one_postgres

StartServer = Callable[..., Server]


@pytest.fixture
def temporary(tmp_path: Path) -> Path:
    """The directory in which the server under test makes its temporary directories."""
    path = tmp_path / "temporary"
    path.mkdir()
    return path


@pytest.fixture(scope="module")
def listening(
    module_environment: dict[str, str],
    tenants: Iterator[Tenant],  # noqa: ARG001  (the tenants exist before the server starts)
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[dict[int, Server]]:
    """A server of one process and one of two, by that number, for tests that change nothing."""
    directory = tmp_path_factory.mktemp("listening")
    with contextlib.ExitStack() as stack:
        starting = (running_server(module_environment, directory / f"{count}.log", count) for count in (1, 2))
        yield dict(enumerate(map(stack.enter_context, starting), 1))


@pytest.fixture
def acme(database: Database, secrets_key: str) -> Tenant:
    return database.add_tenant(secrets_key, "acme")


def send(server: Server, tenant: Tenant) -> int:
    """Post a signed webhook on a connection of its own, and return the status."""
    body = tenant.body()
    connection = http.client.HTTPConnection("127.0.0.1", port_of(server), timeout=30)
    with contextlib.closing(connection):
        connection.request("POST", PATH, body, tenant.headers(body))
        return connection.getresponse().status


def send_many(server: Server, tenant: Tenant, count: int) -> None:
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(lambda _: send(server, tenant), range(count))) == [202] * count


def scraped(server: Server) -> Values:
    """Return the /metrics of the process that happens to answer."""
    return values(httpx.get(f"{server.url}/metrics", verify=False).text)


def serving(server: Process) -> list[int]:
    """Return the ids of the processes that serve; the server's other children are Python's own."""
    return [one for one in server.children() if b"spawn_main" in Path(f"/proc/{one}/cmdline").read_bytes()]


@contextlib.contextmanager
def starting(env: dict[str, str], log: Path) -> Iterator[Process]:
    """Start a server without waiting for it; it ends with the block."""
    command = [sys.executable, "-m", "app", "serve", "--processes", "2"]
    with log.open("wb") as stderr, subprocess.Popen(command, env=env, stderr=stderr) as process:
        try:
            yield Process(process, log)
        finally:
            process.terminate()


def lives(process_id: int) -> bool:
    """Return whether a process has a thread that runs: until the last one ends, its sockets stay open."""
    try:
        threads = [path.read_text() for path in Path(f"/proc/{process_id}/task").glob("*/stat")]
        return any(thread.rsplit(")", 1)[1].split()[0] != "Z" for thread in threads)
    except (FileNotFoundError, ProcessLookupError):
        return False


def port_of(server: Server) -> int:
    return urlsplit(server.url).port or 0


def sockets(process_id: int) -> set[str]:
    """Return the sockets that a process has open, by their numbers."""
    found = set()
    for opened in Path(f"/proc/{process_id}/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):  # the process has closed it meanwhile
            found.add(str(opened.readlink()))
    return found


def connections(server: Server) -> list[int]:
    """Return how many connections each process has accepted and not closed."""
    rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    ours = {f"socket:[{row[9]}]" for row in rows if row[3] == "01" and int(row[1].split(":")[1], 16) == port_of(server)}
    return [len(ours & sockets(process_id)) for process_id in serving(server)]


def wait_until(condition: Callable[[], object], within: float = 10.0) -> None:
    deadline = time.monotonic() + within
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


@contextlib.contextmanager
def held_up(database: Database, server: Server, tenant: Tenant, count: int = 16) -> Iterator[list[Future[int]]]:
    """Lock the inbox, so that webhooks wait in every process until the block ends."""
    with ThreadPoolExecutor(count) as pool, psycopg.connect(database.url) as holder:
        holder.execute("LOCK inbox IN ACCESS EXCLUSIVE MODE")
        waiting = [pool.submit(send, server, tenant) for _ in range(count)]
        wait_until(lambda: sum(connections(server)) >= count)
        assert all(connections(server)), "a process has no answer to finish"
        time.sleep(0.3)
        yield waiting
        holder.rollback()


def refuses(server: Server) -> bool:
    """Return whether no process listens on the port any more."""
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port_of(server))) != 0


def ctrl_c(server: Process) -> None:
    """Send SIGINT to all processes, as a terminal does."""
    for process_id in (*server.children(), server.process.pid):
        os.kill(process_id, signal.SIGINT)


def terminate(server: Process) -> None:
    server.process.terminate()


def test_all_take_webhooks_on_one_port_and_connections_are_spread_evenly(
    listening: dict[int, Server], tenant: Tenant
) -> None:
    """They listen on a free port and log it once. A process that was busy gets its share too, or it would stay idle.

    By chance, one process gets fewer than 12 of 64 connections in one start of ten million.
    """
    server = listening[2]
    with contextlib.ExitStack() as stack:
        busy = serving(server)[0]
        stack.callback(os.kill, busy, signal.SIGCONT)  # other tests use this server, also if this test fails
        os.kill(busy, signal.SIGSTOP)
        for _ in range(64):
            stack.enter_context(socket.create_connection(("127.0.0.1", port_of(server))))
        time.sleep(0.3)
        os.kill(busy, signal.SIGCONT)
        wait_until(lambda: sum(connections(server)) >= 64)
        assert len(connections(server)) == 2
        assert min(connections(server)) >= 12, connections(server)
    send_many(server, tenant, 32)
    [line] = server.lines("listening")
    assert (line["port"], line["processes"]) == (port_of(server), 2)


@pytest.mark.parametrize("first", [1, 2])
@pytest.mark.parametrize("second", [1, 2])
def test_a_port_of_another_server_is_refused(
    listening: dict[int, Server], environment: dict[str, str], first: int, second: int
) -> None:
    port = str(port_of(listening[first]))
    done = run(["serve", "--processes", str(second)], {**environment, "PORT": port})
    assert done.returncode == 1
    assert re.fullmatch(rf"Error: cannot listen on 127.0.0.1:{port} \(Address already in use\): .+\n", done.stderr)


def test_of_two_that_start_at_once_one_is_refused(environment: dict[str, str], tmp_path: Path) -> None:
    """Even before a process of either listens, and although Linux would let both listen."""
    env = {**environment, "PORT": str(free_port())}
    with starting(env, tmp_path / "one") as one, starting(env, tmp_path / "two") as two:
        wait_until(lambda: '"listening"' in one.text() + two.text(), within=STARTS_WITHIN)
    codes = [one.process.wait(), two.process.wait()]
    assert sorted(codes) == [0, 1]
    assert (one, two)[codes.index(1)].text().startswith("Error: cannot listen on ")


@pytest.mark.parametrize("stop", [terminate, ctrl_c])
def test_a_server_that_gets_a_signal_while_it_starts_stops(
    environment: dict[str, str], tmp_path: Path, stop: Callable[[Process], None]
) -> None:
    with starting(environment, tmp_path / "log") as server:
        wait_until(lambda: len(serving(server)) == 2)
        children = server.children()
        time.sleep(0.1)  # Python handles signals by now, and no process serves yet
        stop(server)
        assert server.process.wait(5) == 0
    assert server.text() == ""
    wait_until(lambda: not any(map(lives, children)))


def test_a_process_that_is_killed_while_it_starts_is_started_again(environment: dict[str, str], tmp_path: Path) -> None:
    """Even while the parent waits for its first message."""
    with starting(environment, tmp_path / "log") as server:
        wait_until(lambda: len(serving(server)) == 2)
        killed = serving(server)[0]
        os.kill(killed, signal.SIGSTOP)
        time.sleep(1)
        os.kill(killed, signal.SIGKILL)
        server.wait_for_line("listening", within=STARTS_WITHIN)
        assert [line["process_id"] for line in server.lines("process_restarted")] == [killed]


@pytest.mark.parametrize("stop", [terminate, ctrl_c])
def test_on_a_signal_to_stop_every_process_finishes_its_answers(
    database: Database, start_server: StartServer, acme: Tenant, temporary: Path, stop: Callable[[Server], None]
) -> None:
    server = start_server(processes=2, TMPDIR=str(temporary), APPEND_TIMEOUT_SECONDS="20")
    children = server.children()
    with held_up(database, server, acme) as waiting:
        stop(server)
        wait_until(lambda: refuses(server), within=5)
        assert server.process.poll() is None
    assert [one.result() for one in waiting] == [202] * 16
    assert server.process.wait(15) == 0
    wait_until(lambda: not any(map(lives, children)))
    assert list(temporary.iterdir()) == []
    assert {line["event"] for line in server.lines()} <= {"listening", "webhook_answered"}


def test_a_second_ctrl_c_waits_for_no_answer(database: Database, start_server: StartServer, acme: Tenant) -> None:
    server = start_server(processes=2, APPEND_TIMEOUT_SECONDS="20")
    children = server.children()
    with held_up(database, server, acme) as waiting:
        ctrl_c(server)
        wait_until(lambda: refuses(server), within=5)
        ctrl_c(server)
        assert server.process.wait(10) == 0  # and not the 20 s that a webhook may wait
    assert all(one.exception() for one in waiting)
    wait_until(lambda: not any(map(lives, children)))


def test_a_process_that_does_not_stop_in_time_is_killed(
    database: Database, start_server: StartServer, acme: Tenant
) -> None:
    server = start_server(processes=2, SHUTDOWN_TIMEOUT_SECONDS="1", APPEND_TIMEOUT_SECONDS="20")
    children = serving(server)
    with held_up(database, server, acme):
        server.process.terminate()
        wait_until(lambda: refuses(server), within=5)
        for child in children:
            os.kill(child, signal.SIGSTOP)
        assert server.process.wait(15) == 0  # the supervisor kills after 6 s; the webhooks wait for 20
    assert not any(map(lives, children))


def test_a_process_that_is_killed_is_started_again_and_no_count_is_lost(
    start_server: StartServer, acme: Tenant
) -> None:
    """The other process answers meanwhile, and /metrics still has the dead one's counts."""
    server = start_server(processes=2)
    send_many(server, acme, 32)
    killed, kept = serving(server)
    os.kill(killed, signal.SIGKILL)
    wait_until(lambda: not lives(killed))
    sent = 32

    def restarted() -> bool:
        nonlocal sent
        assert send(server, acme) == 202
        sent += 1
        assert webhooks(scraped(server)) == {("accepted", "acme"): sent}
        return bool(server.lines("process_restarted"))

    wait_until(restarted)
    [line] = server.lines("process_restarted")
    assert (line["level"], line["process_id"], line["exit_code"]) == ("warning", killed, -signal.SIGKILL)
    assert kept in serving(server)
    with contextlib.ExitStack() as stack:

        def both_accept() -> bool:
            stack.enter_context(socket.create_connection(("127.0.0.1", port_of(server))))
            return all(connections(server))

        wait_until(both_accept, within=STARTS_WITHIN)
    send_many(server, acme, 32)
    assert webhooks(scraped(server)) == {("accepted", "acme"): sent + 32}
    assert server.stop() == 0


def test_when_the_parent_is_killed_the_others_finish_their_answers_and_end(
    database: Database, start_server: StartServer, acme: Tenant, environment: dict[str, str], temporary: Path
) -> None:
    """They release the port and remove the temporary directory."""
    server = start_server(processes=2, TMPDIR=str(temporary), APPEND_TIMEOUT_SECONDS="20")
    children = server.children()
    assert list(temporary.iterdir())
    with held_up(database, server, acme) as waiting:
        server.process.kill()
        wait_until(lambda: refuses(server), within=5)
    assert [one.result() for one in waiting] == [202] * 16
    wait_until(lambda: not any(map(lives, children)), within=5)
    assert list(temporary.iterdir()) == []
    again = start_server(processes=2, PORT=str(port_of(server)))
    assert send(again, acme) == 202
    assert server.lines()
    assert environment["PORT"] == "0"


def test_a_process_that_cannot_start_ends_all_of_them(start_server: StartServer, temporary: Path) -> None:
    """The test removes the directory for the counts; the parent must not restart the process again and again."""
    server = start_server(processes=2, TMPDIR=str(temporary))
    children = server.children()
    [shared] = temporary.iterdir()
    shared.rename(temporary / "elsewhere")
    os.kill(serving(server)[0], signal.SIGKILL)
    assert server.process.wait(10) == 1
    [line] = server.lines("process_not_started")
    assert line["error"].startswith("FileNotFoundError: ")
    assert "Traceback" not in server.text()
    wait_until(lambda: not any(map(lives, children)))


@pytest.mark.parametrize("name", ["PORT", "OTEL_TRACES_SAMPLER"])
def test_a_wrong_setting_is_one_line(environment: dict[str, str], name: str) -> None:
    done = run(["serve", "--processes", "2"], {**environment, name: "http"})
    assert done.returncode == 1
    assert re.fullmatch(rf"(ticket-inbox|Error): {name} is wrong: it must be .+\n", done.stderr), done.stderr


@pytest.mark.parametrize("number", ["0", "-1", "x", "1.5"])
def test_a_wrong_number_is_wrong_use(environment: dict[str, str], number: str) -> None:
    done = run(["serve", "--processes", number], environment)
    assert done.returncode == 2
    assert "Error: Invalid value for '--processes': " in done.stderr


def test_sighup_replaces_them_one_by_one(start_server: StartServer, acme: Tenant) -> None:
    server = start_server(processes=2)
    send_many(server, acme, 8)
    before = serving(server)
    server.process.send_signal(signal.SIGHUP)
    wait_until(lambda: len(serving(server)) == 2 and not set(before) & set(serving(server)), within=20)
    send_many(server, acme, 8)
    assert webhooks(scraped(server)) == {("accepted", "acme"): 16}
    assert not server.lines("process_restarted")
    assert server.stop() == 0


def test_each_process_reports_what_all_have_counted(
    database: Database, start_server: StartServer, acme: Tenant
) -> None:
    """A scrape shows the inbox once, though each process reads it. By OTLP each exports its own counts, with its id."""
    for number in range(3):
        database.deliver(acme.payload(ticket_id=str(number)))
    with receiving_http() as receiver:
        server = start_server(processes=2, **receiver.environment)
        send_many(server, acme, 32)
        for _ in range(8):
            text = httpx.get(f"{server.url}/metrics", verify=False).text
            found = values(text)
            assert webhooks(found) == {("accepted", "acme"): 32}
            assert text.count('ticket_inbox_rows{status="pending"}') == 1
            assert found["ticket_inbox_rows", (("status", "pending"),)] >= 3
            assert found["ticket_inbox_workers_alive", ()] == 0
        counts = "http.server.request.duration"
        receiver.wait_until(lambda: sum(receiver.newest_by_instance(counts).values()) == 32)
        assert len(receiver.newest_by_instance(counts)) == 2
        asked = {"Accept": "application/openmetrics-text; version=1.0.0"}
        assert list(open_metrics(httpx.get(f"{server.url}/metrics", headers=asked, verify=False).text))  # type: ignore[no-untyped-call]


def test_without_a_directory_for_the_counts_it_says_so(environment: dict[str, str]) -> None:
    """As on a full disk, the server can write no file."""
    nothing = (0, 0)
    done = subprocess.run(
        [sys.executable, "-m", "app", "serve", "--processes", "2"], env=environment, capture_output=True, text=True,
        timeout=60, check=False, preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, nothing),
    )  # fmt: skip
    assert done.returncode == 1
    assert re.fullmatch(r"Error: the processes need a directory to count in: .+; set TMPDIR\n", done.stderr)
