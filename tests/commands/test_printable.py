"""Nothing that others wrote reaches a terminal raw: not from a command, nor from a log line of either form."""

import json
import logging
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest

from app.commands import terminal
from otel import logs
from tests.support.answering import answering
from tests.support.commands_in_process import run_here
from tests.support.system import Database

pytestmark = pytest.mark.one_postgres

# C0 with escape sequences, a line that looks like ours, DEL, C1's CSI, controls of direction, a separator of lines.
HOSTILE = "\x1b[2J\x1b]0;title\x07\r\nok    all is well\t\x7f\x9b1m\u202e\u2066\u2028"


def escaped(text: str) -> str:
    """Assert that a terminal shows `text` as it is, and return it."""
    assert [one for one in text if not (one.isprintable() or one == "\n")] == []
    return text


@pytest.fixture(scope="module")
def env(module_database: Database, module_environment: dict[str, str]) -> dict[str, str]:
    """A database in which everything that others may write is hostile."""
    query = module_database.query
    with module_database.on_one_connection():
        for tenant_id in (HOSTILE, "acme"):
            query("INSERT INTO tenant_configs (tenant_id, secret) VALUES (%s, 'no token')", tenant_id)
        for status in ("failed", "rejected", "promoted"):
            query(
                "INSERT INTO inbox (tenant_id, ticket_id, correlation_id, traceparent, payload, signature, status, error, "
                "promoted_at) VALUES (%s, %s, %s, '00-' || %s || '-x-01', '', %s, %s, %s, now())",
                *[HOSTILE] * 5, status, HOSTILE,
            )  # fmt: skip
        query(
            "INSERT INTO sdp_configs (tenant_id, edition, base_url, credentials) VALUES ('acme', 'on_premises', %s, 'x')",
            HOSTILE,
        )
        query(
            "INSERT INTO sdp_cursors (tenant_id, source, position, since, error) "
            "VALUES ('acme', 'api_fallback', now(), now(), %s)",
            HOSTILE,
        )
    return module_environment


COMMANDS: dict[tuple[str, ...], int] = {
    ("status",): 0,
    ("trace", HOSTILE): 0,
    ("trace", HOSTILE, "--tenant", "x" + HOSTILE): 1,
    ("tenant", "list"): 0,
    ("tenant", "list", "--json"): 0,
    ("tenant", "add", HOSTILE): 2,
    ("tenant", "disable", HOSTILE): 0,  # there is one of this name
    ("tenant", "remove", "--yes", f"x{HOSTILE}"): 1,
    ("tenant", "language", HOSTILE): 0,
    ("tenant", "language", HOSTILE, HOSTILE): 1,
    ("similar", "--tenant", HOSTILE, HOSTILE): 0,  # it has no ticket like that
    ("similar", "--tenant", "acme", "--file", HOSTILE): 2,
    ("doctor", "--tenant", HOSTILE, "--url", f"http://127.0.0.1:9/{HOSTILE}"): 1,
    ("tenant", "sdp", "show", "acme"): 0,
    ("tenant", "sdp", "show", HOSTILE): 1,
    ("tenant", "sdp", "set", "acme", "--edition", HOSTILE, "--url", "http://x"): 2,
    ("reconcile", "--tenant", "acme", "--since", HOSTILE): 2,
    ("reprocess", "--tenant", HOSTILE, "--dry-run"): 0,
    ("reprocess", "--tenant", "x" + HOSTILE): 2,
    ("reprocess", "--after", HOSTILE): 2,
    ("roles", "reader", HOSTILE, HOSTILE): 1,
    ("import", "--tenant", "acme", "--file", HOSTILE): 2,
    ("send", "--tenant", "acme", "--secret", "s", "--url", f"http://127.0.0.1:9/{HOSTILE}"): 1,
    (HOSTILE,): 2,
    (f"--{HOSTILE}",): 2,
    ("status", f"--{HOSTILE}"): 2,
    ("trace", "x\udc80"): 1,  # an argument that is not UTF-8
}


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: ascii(" ".join(command)[:30]))
def test_a_command_prints_what_others_wrote_escaped(env: dict[str, str], command: tuple[str, ...]) -> None:
    done = run_here(command, env)
    assert done.returncode == COMMANDS[command], done.stderr
    assert "Traceback" not in escaped(done.stdout + done.stderr)
    assert "\nok    all is well" not in done.stdout + done.stderr


def test_json_has_it_whole_and_escaped(env: dict[str, str]) -> None:
    done = run_here(["status", "--json"], env)
    [first, *_] = json.loads(escaped(done.stdout))["trouble"]
    assert (first["tenant_id"], first["commonest_reason"]) == (HOSTILE, HOSTILE)
    done = run_here(["trace", HOSTILE, "--json"], env)
    assert {one["ticket_id"] for one in json.loads(escaped(done.stdout))["deliveries"]} == {HOSTILE}
    assert terminal.as_json(["ü\udc80😀"]) == '["\\u00fc?\\ud83d\\ude00"]'


def test_what_a_file_holds(env: dict[str, str], tmp_path: Path) -> None:
    file = tmp_path / "tickets.jsonl"
    file.write_text(json.dumps({"tenant_id": HOSTILE, HOSTILE: HOSTILE}) + f"\n{{{HOSTILE!r}\n")
    done = run_here(["import", "--tenant", "acme", "--file", str(file), "--dry-run"], env)
    assert done.returncode == 1
    escaped(done.stdout + done.stderr)


def test_what_a_server_answers(env: dict[str, str]) -> None:
    """Neither an answer of the wrong kind, nor a problem with hostile members, nor a redirect."""

    class Hostile(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            status, body, headers = answers[0]
            self.send_response_only(status, "\x1b[2J")
            for name, value in {**headers, "Content-Length": str(len(body))}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    problem = json.dumps({"title": HOSTILE, "detail": HOSTILE, "correlation_id": HOSTILE}).encode()
    answers: list[tuple[int, bytes, dict[str, str]]] = []
    with answering(Hostile) as url:
        for answer in [(401, problem, {}), (503, HOSTILE.encode(), {"Retry-After": "\x1b[2J"}), (202, b"{}", {}),
                       (302, b"", {"Location": "http://me:safe@x/\x1b[2J"}), (200, b"[" * 100_000, {})]:  # fmt: skip
            answers[:] = [answer]
            for command in (["send", "--tenant", "acme", "--secret", "s"], ["doctor", "--tenant", "acme"]):
                done = run_here([*command, "--url", url], env)
                assert done.returncode == 1
                assert "safe" not in escaped(done.stdout + done.stderr)


def test_a_jobs_outcome(env: dict[str, str], capsys: pytest.CaptureFixture[str]) -> None:
    assert env
    terminal.echo(f"job 1 failed: {HOSTILE}")
    terminal.echo(HOSTILE, err=True, over_bar=False)
    printed = capsys.readouterr()
    assert escaped(printed.out) == f"job 1 failed: {terminal.printable(HOSTILE)}\n"
    assert escaped(printed.err).count("\n") == 1
    assert terminal.printable("ü\x1b\x9b\u202e\udc80\n\U000e0001") == r"ü\x1b\x9b\u202e\udc80\n\U000e0001"


@pytest.mark.parametrize("form", [logs.JsonLines(), logs.Console()], ids=["json", "console"])
def test_a_log_line(form: logging.Formatter) -> None:
    """Also with a traceback, whose lines are the only ones that a line may have more than one of."""
    fields = {"ticket_id": HOSTILE, "error": HOSTILE, "path": "\udc80"}
    record = logging.makeLogRecord({"msg": HOSTILE, "levelname": "INFO", "fields": fields})
    assert "\n" not in escaped(form.format(record))
    try:
        raise ValueError(HOSTILE)  # noqa: TRY301
    except ValueError as error:
        raised = logging.makeLogRecord({"msg": "x", "levelname": "INFO", "exc_info": (ValueError, error, None)})
    first, *others = escaped(form.format(raised)).split("\n")
    assert all(line.startswith("  ") for line in others)
    if isinstance(form, logs.JsonLines):
        assert json.loads(form.format(record))["ticket_id"] == HOSTILE
        assert json.loads(first)["error"] == f"ValueError: {HOSTILE}"
