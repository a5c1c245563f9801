"""Two servers behind a balancer are restarted one after the other, while webhooks come: none is refused."""

import contextlib
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest

from app.webhook import PATH
from tests.support.balancers import HAPROXY, NGINX, run_haproxy, run_nginx
from tests.support.free_ports import free_port
from tests.support.system import Database, Server, Tenant, running_server

pytestmark = [pytest.mark.one_postgres, pytest.mark.begins_early]

SENDERS = 5
EVERY = 0.1  # seconds; each sender sends as often
SETTLES = 3.0  # seconds in which each balancer finds out that a server is back; docs/load-balancers.md says so
RunBalancer = Callable[[Path, list[int], int], subprocess.Popen[bytes]]
BALANCERS = [
    pytest.param(run_nginx, marks=pytest.mark.skipif(not NGINX, reason="needs nginx"), id="nginx"),
    pytest.param(
        run_haproxy,
        marks=[pytest.mark.skipif(not HAPROXY, reason="needs haproxy"), pytest.mark.long],
        id="haproxy",
    ),
]


@contextlib.contextmanager
def sending(url: str, tenant: Tenant) -> Iterator[list[object]]:
    """Send webhooks until the block ends; yield the list of what became of them, which grows."""
    results: list[object] = []
    over = threading.Event()

    def send() -> None:
        with httpx.Client(verify=False, timeout=30) as client:
            while not over.wait(EVERY):
                body = tenant.body()
                try:
                    answer = client.post(f"{url}{PATH}", content=body, headers=tenant.headers(body))
                    results.append(answer.status_code)
                except httpx.HTTPError as error:
                    results.append(repr(error))

    threads = [threading.Thread(target=send) for _ in range(SENDERS)]
    for one in threads:
        one.start()
    try:
        yield results
    finally:
        over.set()
        for one in threads:
            one.join()


@pytest.mark.parametrize("run_balancer", BALANCERS)
def test_none_is_refused(
    environment: dict[str, str], database: Database, secrets_key: str, tmp_path: Path, run_balancer: RunBalancer
) -> None:
    acme = database.add_tenant(secrets_key, "acme")
    port, ports = free_port(), [free_port(), free_port()]

    def start(number: int, stack: contextlib.ExitStack) -> Server:
        env = {**environment, "PORT": str(ports[number]), "DRAIN_DELAY_SECONDS": "5"}
        server = stack.enter_context(running_server(env, tmp_path / f"{len(list(tmp_path.iterdir()))}.log"))
        server.wait_until_known(acme)
        return server

    with contextlib.ExitStack() as stack:
        servers = [start(number, stack) for number in (0, 1)]
        balancer = run_balancer(tmp_path, ports, port)
        stack.callback(balancer.wait)
        stack.callback(balancer.kill)
        time.sleep(SETTLES)
        with sending(f"https://localhost:{port}", acme) as results:
            for number, server in enumerate(servers):
                time.sleep(1)
                assert server.stop() == 0
                start(number, stack)
                time.sleep(SETTLES)
        assert len(results) > 100
        assert [one for one in results if one != 202] == []
    assert database.value("SELECT count(*) FROM inbox") >= len(results)
