"""No secret is shown: known secrets go through the whole system, and the test looks for them in all its output."""

import json
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import quote, urlsplit, urlunsplit

import httpx
import pytest
from cryptography.fernet import Fernet
from litestar.testing import TestClient

from app import main
from app import settings as environments
from app.webhook import PATH, signature
from db import engine as engines
from db import tenants
from tests.support.commands_in_process import Environment, invoke
from tests.support.otlp_receiver import receiving_http
from tests.support.system import JSON, Database, Process, Server, Tenant, Worker

pytestmark = pytest.mark.one_postgres

PASSWORD, TOKEN, TEXT = "hush@pass/word", "hush-token-of-a-collector", "hush-this-is-ticket-text"
FIRST, SECOND, KEY = "hush-a-tenants-first-secret", "hush-a-tenants-second-secret", Fernet.generate_key().decode()


@pytest.fixture
def environment(environment: Environment, database: Database) -> Iterator[Environment]:
    """The environment with known secrets, all in use; the password is that of a role of the test's own."""
    role = f"hush_{uuid.uuid4().hex[:8]}"
    database.query(f"CREATE ROLE {role} LOGIN SUPERUSER PASSWORD '{PASSWORD}'")
    url = urlsplit(database.url)
    host = url.netloc.rpartition("@")[2]
    named = urlunsplit(url._replace(netloc=f"{role}:{quote(PASSWORD, safe='')}@{host}"))
    yield {**environment, "DATABASE_URL": named, "SECRETS_KEY": f"{KEY},{environment['SECRETS_KEY']}"}
    database.query(f"DROP ROLE {role}")


@pytest.fixture
def hidden(environment: Environment) -> list[str]:
    return [PASSWORD, quote(PASSWORD, safe=""), TOKEN, TEXT, FIRST, SECOND, *environment["SECRETS_KEY"].split(",")]


def answers(server: Server, tenant: Tenant, database: Database) -> Iterator[tuple[int, httpx.Response]]:
    """Yield every answer that a webhook can get except 500, each with its expected status."""
    body = tenant.body(description=TEXT)
    yield 202, server.post(body, tenant.headers(body))
    yield 422, server.send(tenant, description=TEXT, priority=None)
    yield 401, server.post(body, {**JSON, signature.HEADER: FIRST})
    yield 400, server.post(TEXT.encode(), tenant.headers(body))
    yield 415, server.post(body, {**tenant.headers(body), "Content-Type": TEXT})
    yield 413, server.post(body * 10_000, tenant.headers(body))
    database.query("ALTER TABLE inbox RENAME TO hidden")
    yield 503, server.post(body, tenant.headers(body))
    database.query("ALTER TABLE hidden RENAME TO inbox")


def commands(env: Environment, url: str, files: Path) -> Iterator[tuple[tuple[str, ...], str]]:
    """Yield the output of each command, right and wrong; only `add` and `rotate` may show a secret that was given."""
    (files / "secret").write_text(f"{SECOND}\n")
    (files / "wrong").write_text(FIRST)
    for line in (
        "status", "status --json", "migrate", "tenant list", "tenant disable acme", "tenant enable acme", "tenant reencrypt",
        f"tenant add acme --secret-file {files}/secret", f"tenant rotate nobody --secret-file {files}/secret",
        f"tenant add acme --secret {SECOND} --secret-file {files}/secret", "trace nothing", "trace ticket --tenant acme", "trace ticket --json",
        f"send --url {url} --tenant acme --secret-file {files}/wrong", f"send --url {url} --tenant acme --secret {FIRST}",
        f"send --url {url} --tenant nobody --secret-file {files}/secret", "send --url http://127.0.0.1:1 --tenant acme",
    ):  # fmt: skip
        arguments = tuple(line.split())
        yield arguments, invoke({**env, "TICKET_INBOX_SECRET": SECOND}, *arguments).output


def command_lines(*processes: Process) -> str:
    ids = [one for process in processes for one in (process.process.pid, *process.children())]
    return "\n".join(Path(f"/proc/{one}/cmdline").read_text() for one in ids)


def test_no_secret_is_seen_anywhere(
    environment: Environment, database: Database, hidden: list[str], tmp_path: Path,
    start_server: Callable[..., Server], start_worker: Callable[..., Worker],
) -> None:  # fmt: skip
    """At log level debug, with spans, metrics and logs exported to a receiver that needs a token."""
    assert invoke(environment, "tenant", "add", "acme", "--secret", FIRST).exit_code == 0
    assert invoke(environment, "tenant", "rotate", "acme", "--secret", SECOND).exit_code == 0
    seen: dict[object, str] = {}
    with receiving_http() as receiver:
        telling = {
            **environment, **receiver.environment, "LOG_LEVEL": "debug", "OTEL_LOGS_EXPORTER": "otlp",
            "OTEL_EXPORTER_OTLP_HEADERS": f"authorization=Bearer {TOKEN}",
        }  # fmt: skip
        server, worker = start_server(by_exec=True, **telling), start_worker(by_exec=True, **telling)
        received = list(answers(server, Tenant("acme", SECOND), database))
        assert [status for status, _ in received] == [answer.status_code for _, answer in received]
        seen |= {status: f"{answer.headers} {answer.text}" for status, answer in received}
        for path in ("/metrics", "/schema", "/health/ready", "/health/live", "/nothing", PATH):
            seen[path] = server.client.get(path).text
        database.wait_for("SELECT status FROM inbox ORDER BY id LIMIT 1", "promoted", within=20)
        database.query("UPDATE inbox SET payload = 'x', status = 'pending'")
        database.defer("promote", inbox_ids=[row["id"] for row in database.query("SELECT id FROM inbox")])
        worker.wait_for_line("ticket_failed", within=20)
        receiver.wait_for_spans(1, name="promote inbox")
        receiver.wait_until(lambda: receiver.log_records() and receiver.metric_names())
        seen |= dict(commands(telling, server.url, tmp_path))
        seen["processes"] = command_lines(server, worker)
        assert [process.stop() for process in (server, worker)] == [0, 0]
        assert all(headers["authorization"] == f"Bearer {TOKEN}" for headers in receiver.headers), "the token is in use"
        seen["exported"] = receiver.raw().decode("utf-8", "replace")
    seen |= {"server's log": server.text(), "worker's log": worker.text()}
    for table in ("tenant_configs", "procrastinate_jobs", "procrastinate_events"):
        seen[table] = str(database.query(f"SELECT * FROM {table}"))
    assert all(seen.values())
    assert [(where, what) for where, text in seen.items() for what in hidden if what in text] == []


def test_no_secret_is_in_an_unforeseen_error(
    environment: Environment, hidden: list[str], capfd: pytest.CaptureFixture[str]
) -> None:
    """The real application with a damaged part crashes in the very line that holds the secret."""
    settings = environments.load({**environment, "LOG_LEVEL": "debug"})
    assert invoke(environment, "tenant", "add", "acme", "--secret", SECOND).exit_code == 0
    app, tenant = main.create_app(settings), Tenant("acme", SECOND)
    with TestClient(app, raise_server_exceptions=False) as client:
        dependencies = app.state.dependencies
        body = tenant.body(description=TEXT)
        for _ in range(20):  # the keyring is read again each second
            dependencies.keyring._known["acme"] = (SECOND, SECOND)  # noqa: SLF001  (texts, not bytes)
            answer = client.post(PATH, content=body, headers=tenant.headers(body))
            if answer.is_server_error:
                break
        objects = [settings, dependencies, dependencies.keyring, dependencies.commits, app.state, app.state.engine, app]
        seen = [answer.text, str(answer.headers), *map(repr, objects), *map(str, objects)]
    assert answer.status_code == 500
    log = capfd.readouterr().err
    [line] = [json.loads(line) for line in log.splitlines() if '"status":500' in line]
    assert line["error"].startswith("TypeError")
    row = tenants.EncryptedSecrets("acme", "gAAAA-newest", "gAAAA-previous", None)
    seen += [log, repr(tenants.Secrets(environment["SECRETS_KEY"]))]
    seen += [repr(engines.create_engine(settings.database_url, "test", 1, 1.0)), repr(row)]
    assert [(what, text) for text in seen for what in [*hidden, "gAAAA"] if what in text] == []
