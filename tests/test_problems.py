"""What nobody foresaw: the answer says where to look, the log says what it was."""

import json
import socket
from typing import Any

import pytest
from litestar import Request, get
from litestar.testing import TestClient

from app import exchange, main
from app.settings import Settings
from tests.parts import Database, run


def test_500_has_no_traceback_and_the_log_has(
    database: Database, secrets_key: str, capfd: pytest.CaptureFixture[str]
) -> None:
    """A route that breaks, in the real application; it is a webhook, so it leaves its one line."""

    @get("/breaks", sync_to_thread=False)
    def breaks(request: Request[Any, Any, Any]) -> None:
        exchange.of_webhook(request.scope)
        raise ZeroDivisionError("what nobody should read")

    app = main.create_app(Settings(database_url=database.url, secrets_key=secrets_key))
    app.register(breaks)
    with TestClient(app, raise_server_exceptions=False) as client:
        answer = client.get("/breaks", headers={"X-Correlation-ID": "kept"})
    assert (answer.status_code, answer.headers["content-type"]) == (500, "application/problem+json")
    assert answer.json()["correlation_id"] == answer.headers["x-correlation-id"] == "kept"
    assert "what nobody should read" not in answer.text
    assert "Traceback" not in answer.text
    [line] = [json.loads(line) for line in capfd.readouterr().err.splitlines() if "webhook_answered" in line]
    assert (line["level"], line["status"], line["correlation_id"]) == ("error", 500, "kept")
    assert line["error"] == "ZeroDivisionError: what nobody should read"
    assert "in breaks" in line["traceback"]


def test_serving_on_a_port_that_is_taken_is_one_line(environment: dict[str, str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        done = run(["serve"], {**environment, "PORT": str(taken.getsockname()[1])})
    assert (done.returncode, len(done.stderr.splitlines())) == (1, 1), done.stderr
    assert "Address already in use" in done.stderr
