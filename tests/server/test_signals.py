"""Which signals end a server, which are not meant for it, and what becomes of webhooks that are not answered yet."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import httpx
import psycopg
import pytest

from app.webhook import PATH
from tests.support.raw_http import Wire, head
from tests.support.stalled import children, wait_until
from tests.support.system import Database, Server, Tenant

pytestmark = pytest.mark.one_postgres

StartServer = Callable[..., Server]
NOT_MEANT = [signal.SIGUSR1, signal.SIGUSR2, signal.SIGWINCH, signal.SIGPIPE]


@pytest.fixture
def acme(database: Database, secrets_key: str) -> Tenant:
    return database.add_tenant(secrets_key, "acme")


@contextmanager
def held_up(
    database: Database, server: Server, tenant: Tenant, count: int = 8
) -> Iterator[list[Future[httpx.Response]]]:
    """Lock the inbox, so that webhooks wait in the server until the block ends."""
    with ThreadPoolExecutor(count) as pool, psycopg.connect(database.url) as holder:
        holder.execute("LOCK inbox IN ACCESS EXCLUSIVE MODE")
        waiting = [pool.submit(sent, server, tenant) for _ in range(count)]
        wait_until(lambda: database.value("SELECT count(*) FROM pg_locks WHERE NOT granted"))
        time.sleep(0.5)  # those that wait for a statement's turn wait in the server alone
        yield waiting
        holder.rollback()


def sent(server: Server, tenant: Tenant) -> httpx.Response:
    """Post a webhook on a connection of its own."""
    body = tenant.body()
    return httpx.post(f"{server.url}{PATH}", content=body, headers=tenant.headers(body), timeout=30, verify=False)


@pytest.mark.parametrize("number", [signal.SIGQUIT, signal.SIGHUP, signal.SIGINT])
def test_it_ends_a_server_after_its_answers(
    database: Database, start_server: StartServer, acme: Tenant, number: signal.Signals
) -> None:
    """As SIGTERM does; a second, different one changes nothing."""
    server = start_server(APPEND_TIMEOUT_SECONDS="20")
    with held_up(database, server, acme) as waiting:
        server.process.send_signal(number)
        time.sleep(0.5)
        server.process.send_signal(signal.SIGTERM)
        assert server.process.poll() is None
    assert [one.result().status_code for one in waiting] == [202] * 8
    assert server.process.wait(15) == 0
    assert "Traceback" not in server.text()


def test_sigquit_ends_several_after_their_answers(database: Database, start_server: StartServer, acme: Tenant) -> None:
    """A terminal sends it to all processes at once, and systemd SIGTERM."""
    server = start_server(processes=2, APPEND_TIMEOUT_SECONDS="20")
    with held_up(database, server, acme) as waiting:
        for process_id in (*children(server.process.pid), server.process.pid):
            os.kill(process_id, signal.SIGQUIT)
        time.sleep(0.5)
        assert server.process.poll() is None
    assert [one.result().status_code for one in waiting] == [202] * 8
    assert server.process.wait(15) == 0


def test_one_of_several_processes_finishes_its_answers_and_another_takes_its_place(
    database: Database, start_server: StartServer, acme: Tenant
) -> None:
    server = start_server(processes=2, APPEND_TIMEOUT_SECONDS="20")
    ended = serving(server)[0]
    with held_up(database, server, acme) as waiting:
        os.kill(ended, signal.SIGQUIT)
        time.sleep(0.5)
    assert [one.result().status_code for one in waiting] == [202] * 8
    [line] = server.wait_for_line("process_restarted")
    assert (line["process_id"], line["exit_code"]) == (ended, 0)


@pytest.mark.parametrize("processes", [1, 2])
def test_what_is_not_meant_for_it_changes_nothing(start_server: StartServer, acme: Tenant, processes: int) -> None:
    """The two that freeze a process in the background of a terminal neither, where there is one process."""
    server = start_server(processes=processes)
    server.wait_until_known(acme)
    before = children(server.process.pid)
    for number in [*NOT_MEANT, *([signal.SIGTTIN, signal.SIGTTOU] if processes == 1 else [])]:
        for process_id in (*serving(server), server.process.pid):
            os.kill(process_id, number)
    time.sleep(1)
    assert sent(server, acme).status_code == 202
    assert children(server.process.pid) == before
    assert {line["event"] for line in server.lines()} == {"listening", "webhook_answered"}


def test_two_signals_add_a_process_and_take_one_away(start_server: StartServer, acme: Tenant) -> None:
    server = start_server(processes=2, DRAIN_DELAY_SECONDS="3600")
    server.process.send_signal(signal.SIGTTIN)
    wait_until(lambda: len(serving(server)) == 3)
    server.process.send_signal(signal.SIGTTOU)
    wait_until(lambda: len(serving(server)) == 2)
    assert sent(server, acme).status_code == 202
    server.process.terminate()
    server.wait_for_line("draining", 2)
    assert server.stop() == 0  # and cuts the delay


def test_a_server_under_nohup_outlives_its_terminal(environment: dict[str, str], tmp_path: Path) -> None:
    """`nohup` has SIGHUP ignored, and that stays so."""
    with (tmp_path / "log").open("wb") as log:
        command = ["nohup", sys.executable, "-m", "app", "serve"]
        process = subprocess.Popen(command, env=environment, stderr=log, stdout=log, stdin=subprocess.DEVNULL)
    try:
        server = Server(process, tmp_path / "log")
        process.send_signal(signal.SIGHUP)
        time.sleep(0.5)
        with server.client:
            server.wait_until_live()
        assert server.stop() == 0
    finally:
        process.kill()
        process.wait()


def test_a_replacement_is_logged_and_a_signal_to_stop_is_obeyed_meanwhile(start_server: StartServer) -> None:
    """It needs no delay: the other process takes the webhooks."""
    server = start_server(processes=2, DRAIN_DELAY_SECONDS="3600")
    before = serving(server)
    server.process.send_signal(signal.SIGHUP)
    lines = server.wait_for_line("process_replaced", 2, within=40)
    assert [line["process_id"] for line in lines] == before
    wait_until(lambda: serving(server) == [line["by"] for line in lines])
    server.process.send_signal(signal.SIGHUP)
    wait_until(lambda: len(serving(server)) == 3)
    for _ in range(2):
        server.process.terminate()
        time.sleep(1)
    assert server.process.wait(20) == 0


@pytest.mark.parametrize("pieces", [1, 2])
def test_a_request_that_was_on_its_way_is_answered(start_server: StartServer, acme: Tenant, pieces: int) -> None:
    """Its connection was open before the signal came, its first bytes, or the rest of its head, arrive after it."""
    server = start_server()
    server.wait_until_known(acme)
    body = acme.body()
    whole = head(acme, body) + body
    cut = 0 if pieces == 1 else 40
    with Wire.to(server) as wire:
        wire.send(whole[:cut])
        server.client.get("/health/live")  # the server has greeted the connection by now
        server.process.terminate()
        time.sleep(0.4)
        wire.send(whole[cut:])
        answer = wire.answer()
    assert (answer.status, answer.headers["connection"]) == (202, "close")
    assert server.process.wait(15) == 0


def serving(server: Server) -> list[int]:
    """Return the ids of the processes that serve; the server's other children are Python's own."""
    found = children(server.process.pid)
    return [one for one in found if b"spawn_main" in Path(f"/proc/{one}/cmdline").read_bytes()]
