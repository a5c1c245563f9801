"""docs/haproxy.cfg with only addresses and files changed: a sender's answers with our server behind it, and without."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest

from app.webhook import PATH
from tests.support.balancers import HAPROXY, run_haproxy
from tests.support.free_ports import free_port
from tests.support.system import Database, Server, Tenant

pytestmark = [
    pytest.mark.one_postgres,
    pytest.mark.skipif(not HAPROXY, reason="needs haproxy: apt-get install haproxy"),
]


@pytest.fixture
def front(tmp_path: Path) -> Iterator[Callable[[int], httpx.Client]]:
    """Yield a function that starts HAProxy before a port and returns a client; both end with the test."""
    with ExitStack() as stack:

        def start(behind: int) -> httpx.Client:
            port = free_port()
            process = run_haproxy(tmp_path, [behind], port)
            stack.callback(process.wait)
            stack.callback(process.kill)
            return stack.enter_context(httpx.Client(base_url=f"https://localhost:{port}", verify=False, timeout=30))

        yield start


def test_a_webhook_goes_through_it(
    server: Server, tenant: Tenant, module_database: Database, front: Callable[[int], httpx.Client]
) -> None:
    """Byte for byte, with the sender's correlation id, also where it is longer than HAProxy's buffer."""
    haproxy = front(urlsplit(server.url).port or 0)
    body = b" \n" + tenant.body(subject="Größe \U0001f5a8")
    answer = haproxy.post(PATH, content=body, headers=tenant.headers(body, **{"X-Correlation-ID": "through"}))
    assert (answer.status_code, answer.headers["x-correlation-id"]) == (202, "through")
    [row] = module_database.query("SELECT payload FROM inbox WHERE tenant_id = %s", tenant.id)
    assert bytes(row["payload"]) == body
    assert (
        haproxy.post(PATH, content=body, headers={**tenant.headers(body), "X-ServiceDesk-Signature": "no"}).status_code
        == 401
    )
    limit = tenant.body(more="x" * (1024 * 1024 - len(tenant.body(more=""))))
    assert haproxy.post(PATH, content=limit, headers=tenant.headers(limit)).status_code == 202
    assert haproxy.post(PATH, content=limit + b" ", headers=tenant.headers(limit)).status_code == 413
    assert haproxy.get("/metrics").status_code == 404


def test_without_a_server_behind_it_the_answer_is_a_503_of_ours(
    tenant: Tenant, front: Callable[[int], httpx.Client]
) -> None:
    """Whatever id the sender gave: its own page has none, and is HTML."""
    body = tenant.body()
    haproxy = front(free_port())
    for given, expected in {"away": "away", "not valid": None}.items():
        answer = haproxy.post(PATH, content=body, headers=tenant.headers(body, **{"X-Correlation-ID": given}))
        assert (answer.status_code, answer.headers["content-type"]) == (503, "application/problem+json")
        assert answer.headers["retry-after"] == "5"
        assert answer.json()["correlation_id"] == answer.headers["x-correlation-id"]
        assert answer.headers["x-correlation-id"] == expected or (
            expected is None and given != answer.headers["x-correlation-id"]
        )
