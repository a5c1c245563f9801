"""What nobody foresaw: the answer says where to look, the log says what it was."""

import json
import socket

import pytest
from litestar.testing import TestClient

from app import main
from app.settings import Settings
from tests.parts import JSON, PATH, Database, run


def test_500_has_no_traceback_and_the_log_has(
    database: Database, secrets_key: str, capfd: pytest.CaptureFixture[str]
) -> None:
    """In the real application, one of whose parts is missing; it is a webhook, so it leaves its one line."""
    app = main.create_app(Settings(database_url=database.url, secrets_key=secrets_key))
    with TestClient(app, raise_server_exceptions=False) as client:
        app.state.inlet = None
        answer = client.post(PATH, headers={**JSON, "X-Correlation-ID": "kept"})
    assert (answer.status_code, answer.headers["content-type"]) == (500, "application/problem+json")
    assert answer.json()["correlation_id"] == answer.headers["x-correlation-id"] == "kept"
    assert "NoneType" not in answer.text
    assert "Traceback" not in answer.text
    [line] = [json.loads(line) for line in capfd.readouterr().err.splitlines() if "webhook_answered" in line]
    assert (line["level"], line["status"], line["correlation_id"]) == ("error", 500, "kept")
    assert line["error"].startswith("AttributeError: 'NoneType' object")
    assert "in resolved_ticket" in line["traceback"]


def test_serving_on_a_port_that_is_taken_is_one_line(environment: dict[str, str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        done = run(["serve"], {**environment, "PORT": str(taken.getsockname()[1])})
    assert (done.returncode, len(done.stderr.splitlines())) == (1, 1), done.stderr
    assert "Address already in use" in done.stderr
