"""docs/nginx.conf with only addresses and files changed: a sender's answers with our server behind it, and without."""

import json
import shutil
import socket
import ssl
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from app.webhook import PATH
from tests.support.balancers import NGINX, run_nginx
from tests.support.free_ports import free_port
from tests.support.raw_http import head
from tests.support.system import Database, Server, Tenant

CURL = shutil.which("curl")
pytestmark = [
    pytest.mark.one_postgres,
    pytest.mark.skipif(not (NGINX and CURL), reason="needs nginx and curl: apt-get install nginx-light curl"),
]


class Front:
    """An nginx before a server."""

    def __init__(self, port: int) -> None:
        self.url = f"https://localhost:{port}{PATH}"

    def post(self, body: bytes, headers: dict[str, str], *options: str) -> tuple[int, dict[str, str], bytes]:
        """Post with curl, which speaks HTTP/2; return status, headers and body."""
        fields = [part for name, value in headers.items() for part in ("-H", f"{name}: {value}")]
        command = ["curl", "-sk", "--http2", "-i", "-H", "Expect:", "--data-binary", "@-", *fields, *options, self.url]
        done = subprocess.run(command, input=body, capture_output=True, check=True, timeout=20)
        head, _, content = done.stdout.partition(b"\r\n\r\n")
        first, *lines = head.decode().split("\r\n")
        assert first.startswith("HTTP/2 ")
        return (
            int(first.split()[1]),
            {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)},
            content,
        )


@pytest.fixture
def front(tmp_path: Path) -> Iterator[Callable[[int], Front]]:
    """Yield a function that starts nginx before a port; nginx ends with the test."""
    started: list[subprocess.Popen[bytes]] = []

    def start(behind: int) -> Front:
        port = free_port()
        started.append(run_nginx(tmp_path, [behind], port))
        return Front(port)

    yield start
    for process in started:
        process.terminate()
        assert process.wait(10) == 0


def test_a_webhook_goes_through_it(
    server: Server, tenant: Tenant, module_database: Database, front: Callable[[int], Front]
) -> None:
    """Over TLS and HTTP/2, byte for byte, with the sender's correlation id; at the body's limit, and over it."""
    nginx = front(urlsplit(server.url).port or 0)
    body = b" \n" + tenant.body(subject="Größe \U0001f5a8")
    status, headers, _ = nginx.post(body, tenant.headers(body, **{"X-Correlation-ID": "through"}))
    assert (status, headers["x-correlation-id"]) == (202, "through")
    [row] = module_database.query("SELECT payload FROM inbox WHERE tenant_id = %s", tenant.id)
    assert bytes(row["payload"]) == body
    assert nginx.post(body, {**tenant.headers(body), "X-ServiceDesk-Signature": "no"})[0] == 401
    limit = tenant.body(more="x" * (1024 * 1024 - len(tenant.body(more=""))))
    assert nginx.post(limit, tenant.headers(limit), "-H", "Transfer-Encoding:")[0] == 202
    refused(nginx, limit + b" ", tenant.headers(limit), 413)
    assert nginx.post(b"", {}, "--path-as-is", "--request-target", "/metrics")[0] == 404


def test_a_slow_sender_does_not_reach_the_server(server: Server, tenant: Tenant, front: Callable[[int], Front]) -> None:
    """The proxy keeps a half-sent request, so that the server sees every sender as a fast one."""
    nginx = front(urlsplit(server.url).port or 0)
    context = ssl._create_unverified_context()  # noqa: S323, SLF001  (the certificate is self-signed)
    body = tenant.body()
    with (
        socket.create_connection(("127.0.0.1", urlsplit(nginx.url).port or 0)) as plain,
        context.wrap_socket(plain) as tls,
    ):
        tls.sendall(head(tenant, body, f"X-Correlation-ID: slow-{tenant.id}") + body[:-1])
        time.sleep(1)
        tls.sendall(body[-1:])
        assert tls.recv(12) == b"HTTP/1.1 202"
    [line] = server.wait_for_line("webhook_answered", correlation_id=f"slow-{tenant.id}")
    assert line["duration_ms"] < 900


def test_without_a_server_behind_it_the_answer_is_a_503_of_ours(tenant: Tenant, front: Callable[[int], Front]) -> None:
    """A proxy's own 502 has no Retry-After, no correlation id, and is HTML."""
    body = tenant.body()
    headers = refused(front(free_port()), body, tenant.headers(body, **{"X-Correlation-ID": "away"}), 503)
    assert (headers["x-correlation-id"], headers["retry-after"]) == ("away", "5")


def refused(nginx: Front, body: bytes, headers: dict[str, str], status: int) -> dict[str, str]:
    """Check that nginx' own answer is a problem as ours are; return its headers."""
    found, fields, content = nginx.post(body, headers)
    assert (found, fields["content-type"]) == (status, "application/problem+json"), content
    problem = json.loads(content)
    assert (problem["status"], problem["correlation_id"]) == (status, fields["x-correlation-id"])
    return fields
