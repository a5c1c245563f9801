"""`DRAIN_DELAY_SECONDS`: a stopping server is not ready, but takes webhooks until its balancer has turned away."""

import os
import signal
import socket
from collections.abc import Callable
from urllib.parse import urlsplit

import httpx
import pytest

from app.webhook import PATH
from tests.support.stalled import children, wait_until
from tests.support.system import Database, Server, Tenant

pytestmark = pytest.mark.one_postgres

StartServer = Callable[..., Server]
each_way = pytest.mark.parametrize("processes", [1, 2])


@pytest.fixture
def acme(database: Database, secrets_key: str) -> Tenant:
    return database.add_tenant(secrets_key, "acme")


def asked(server: Server, path: str = "/health/ready") -> httpx.Response:
    """Ask on a new connection, as a balancer does."""
    return httpx.get(f"{server.url}{path}", timeout=30, verify=False)


def refuses(server: Server) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", urlsplit(server.url).port or 0)) != 0


def sent(server: Server, tenant: Tenant) -> httpx.Response:
    body = tenant.body()
    return httpx.post(f"{server.url}{PATH}", content=body, headers=tenant.headers(body), timeout=30, verify=False)


def begin(server: Server) -> None:
    """Send SIGTERM, and wait until every process says that it is stopping."""
    server.process.terminate()
    count = max(1, len(children(server.process.pid)) - 1)
    server.wait_for_line("draining", count)


@each_way
def test_it_says_so_and_goes_on_until_the_signal_comes_again(
    start_server: StartServer, acme: Tenant, processes: int
) -> None:
    """Each answer ends its connection, so that a proxy's pool is empty when the port is closed."""
    server = start_server(processes=processes, DRAIN_DELAY_SECONDS="3600")
    server.wait_until_known(acme)
    kept = server.send(acme)  # its connection stays open
    assert "connection" not in kept.headers
    begin(server)
    for _ in range(8):
        refused = asked(server)
        assert (refused.status_code, "is stopping" in refused.json()["detail"]) == (503, True)
        assert asked(server, "/health/live").status_code == 200
        for answer in (server.send(acme), sent(server, acme)):
            assert (answer.status_code, answer.headers["connection"]) == (202, "close")
    assert server.process.poll() is None
    server.process.terminate()
    wait_until(lambda: refuses(server))
    assert server.process.wait(15) == 0


@each_way
def test_after_the_delay_it_closes_its_port_and_ends(start_server: StartServer, acme: Tenant, processes: int) -> None:
    server = start_server(processes=processes, DRAIN_DELAY_SECONDS="2", SHUTDOWN_TIMEOUT_SECONDS="1")
    server.wait_until_known(acme)
    begin(server)
    assert sent(server, acme).status_code == 202
    wait_until(lambda: refuses(server))
    assert server.process.wait(15) == 0
    assert {line["seconds"] for line in server.lines("draining")} == {2}


def test_a_signal_to_all_processes_is_the_supervisors_word_alone(start_server: StartServer, acme: Tenant) -> None:
    """As systemd sends it to each: the supervisor's own SIGTERM, which follows, is no second one."""
    server = start_server(processes=2, DRAIN_DELAY_SECONDS="3600")
    server.wait_until_known(acme)
    for process_id in children(server.process.pid):
        os.kill(process_id, signal.SIGTERM)
    begin(server)
    for _ in range(20):
        assert sent(server, acme).status_code == 202
    server.process.send_signal(signal.SIGINT)
    assert server.process.wait(15) == 0


def test_without_a_delay_the_port_is_closed_at_once(start_server: StartServer) -> None:
    server = start_server()
    server.process.terminate()
    assert server.process.wait(15) == 0
    assert not server.lines("draining")
