"""Unforeseen errors: the answer has a correlation id to look for, and the log has the error."""

import json
import socket
from urllib.parse import urlsplit

import pytest
from litestar.testing import TestClient

from app import main
from app.settings import Settings
from app.webhook import PATH
from tests.support.system import JSON, Database, Server, run

pytestmark = pytest.mark.one_postgres


def test_500_has_no_traceback_and_the_log_has(
    database: Database, secrets_key: str, capfd: pytest.CaptureFixture[str]
) -> None:
    """In the real application with a part removed; like every webhook, this one leaves one line."""
    app = main.create_app(Settings(database_url=database.url, secrets_key=secrets_key))
    with TestClient(app, raise_server_exceptions=False) as client:
        app.state.dependencies = None
        answer = client.post(PATH, headers={**JSON, "X-Correlation-ID": "kept"})
    assert (answer.status_code, answer.headers["content-type"]) == (500, "application/problem+json")
    assert answer.json()["correlation_id"] == answer.headers["x-correlation-id"] == "kept"
    assert "NoneType" not in answer.text
    assert "Traceback" not in answer.text
    [line] = [json.loads(line) for line in capfd.readouterr().err.splitlines() if "webhook_answered" in line]
    assert (line["level"], line["status"], line["correlation_id"]) == ("error", 500, "kept")
    assert line["error"].startswith("AttributeError: 'NoneType' object")
    assert "in answer" in line["traceback"]


def test_serving_on_a_port_that_is_taken_is_one_line(environment: dict[str, str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        done = run(["serve"], {**environment, "PORT": str(taken.getsockname()[1])})
    assert (done.returncode, len(done.stderr.splitlines())) == (1, 1), done.stderr
    assert "Address already in use" in done.stderr


@pytest.mark.parametrize(
    "request_head",
    [
        b"POST " + PATH.encode() + b" HTTP/1.1\r\nHost: x\r\nContent-Length: x\r\n\r\n",
        b"POST " + PATH.encode() + b" HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"NONSENSE\r\n\r\n",
    ],
)
def test_400_for_what_is_no_http(server: Server, request_head: bytes) -> None:
    """The answer is a problem with a correlation id like any other, and the server closes the connection."""
    address = urlsplit(server.url)
    with socket.create_connection((address.hostname, address.port), timeout=5) as connection:
        connection.sendall(request_head)
        answer = b"".join(iter(lambda: connection.recv(65536), b""))
    head, body = answer.split(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 400 ")
    assert b"application/problem+json" in head
    problem = json.loads(body)
    assert f"X-Correlation-ID: {problem['correlation_id']}".encode() in head
    assert problem["status"] == 400


@pytest.mark.parametrize(
    ("path", "allowed"), [("/health/live", {"GET", "HEAD", "OPTIONS"}), (PATH, {"OPTIONS", "POST"})]
)
def test_405_says_once_what_is_allowed(server: Server, path: str, allowed: set[str]) -> None:
    answer = server.client.request("DELETE", path)
    assert answer.status_code == 405
    [allow] = answer.headers.get_list("allow")
    assert {method.strip() for method in allow.split(",")} == allowed
