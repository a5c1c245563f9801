"""ticket-inbox tenant remove: it asks, can be killed, and under full load nothing is left and nothing comes back."""

import json
import signal
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Self
from urllib.parse import urlsplit, urlunsplit

import psycopg
import pytest
from click.testing import CliRunner, Result

from app.cli import main
from db import tenant_removal
from db.tenants import Secrets
from tests.support.commands_in_process import Environment, invoke, tenant_command
from tests.support.eventually import eventually
from tests.support.fake_sdp import FakeSdp, running_sdp
from tests.support.removing import fill, left
from tests.support.system import Database, Server, Tenant, Worker

pytestmark = pytest.mark.one_postgres

LINE = "run `ticket-inbox tenant remove acme`, and wait for its end"
REMOVED = "Tenant acme is removed: 1 ticket, 1 delivery, 1 reader."


@pytest.fixture
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave out the ten seconds: nothing may come back even so."""
    monkeypatch.setattr(tenant_removal, "IN_FORCE_WITHIN", 0.0)


def type_in(environment: Environment, typed: str, *arguments: str) -> Result:
    return CliRunner(env=environment).invoke(main, ["tenant", "remove", *arguments], input=typed)


@pytest.mark.usefixtures("at_once")
def test_it_says_how_much_and_asks_for_the_id(environment: Environment, database: Database) -> None:
    """No key is needed. Anything else that is typed, or nothing, changes nothing; afterwards the id starts empty."""
    fill(database, "acme")
    before = left(database, "acme")
    keyless = {**environment, "SECRETS_KEY": ""}
    how_much = (
        "Tenant acme: 1 ticket, 1 delivery, 1 reader; and its ServiceDesk Plus account. All of it will be deleted"
    )
    for typed in ("", "globex\n", "acme \n", "yes\n"):
        done = type_in(keyless, typed, "acme")
        assert (done.exit_code, left(database, "acme")) == (1, before)
        assert done.stdout.startswith(how_much)
        assert done.stderr.splitlines()[-1].startswith("Error: nothing was changed")
    done = type_in(keyless, "acme\n", "acme")
    assert (done.exit_code, done.stdout.splitlines()[1]) == (0, REMOVED)
    assert done.stdout.splitlines()[-1].endswith(": acme role_name")
    [line] = [json.loads(line) for line in done.stderr.splitlines() if line.startswith("{")]
    counts = {name: line[name] for name in ("tickets", "deliveries", "readers", "jobs")}
    assert (line["event"], line["tenant_id"], counts) == (
        "tenant_removed", "acme", {"tickets": 1, "deliveries": 1, "readers": 1, "jobs": 0}
    )  # fmt: skip
    tenant_command(environment, "add", "acme")
    assert left(database, "acme") == {"tenant_configs": 1}
    assert invoke(environment, "tenant", "remove", "hooli", "--yes").stderr.startswith(
        "Error: there is no tenant 'hooli'"
    )


def ended_by(number: signal.Signals, environment: Environment, log: Path) -> int:
    """Begin to remove acme, send a signal once the tenant is disabled, and return the exit code."""
    removing = [sys.executable, "-m", "app", "tenant", "remove", "acme", "--yes"]
    with log.open("wb") as out, subprocess.Popen(removing, env=environment, stdout=out, stderr=out) as one:
        try:
            eventually(lambda: b"It is disabled. Waiting 10 s" in log.read_bytes())
        finally:
            one.send_signal(number)
        return one.wait(10)


def test_after_a_kill_the_id_is_locked_until_the_next_call_is_done(
    environment: Environment, database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is disabled and committed first; then it waits for ten seconds, in which it is killed, and then interrupted."""
    fill(database, "acme")
    for number, code in ((signal.SIGKILL, -signal.SIGKILL), (signal.SIGINT, 130)):
        assert ended_by(number, environment, tmp_path / "log") == code
        database.query("UPDATE tenant_removals SET disabled_at = now() + interval '1 minute'")  # so the next waits too
        database.query("UPDATE tenant_configs SET updated_at = now() + interval '1 minute'")
    assert "interrupted; run the same command again: it goes on from there" in (tmp_path / "log").read_text()
    assert database.value("SELECT enabled FROM tenant_configs") is False
    assert left(database, "acme")["ticket_history"] == 1
    (tmp_path / "f.jsonl").write_bytes(Tenant("acme", "").body() + b"\n")
    sdp = ["--edition", "cloud", "--url", "https://sdpondemand.manageengine.com/app/itdesk", "--no-check"]
    account = '{"client_id": "1", "client_secret": "2", "refresh_token": "3"}'
    for arguments in (
        ["add", "acme"],
        ["enable", "acme"],
        ["rotate", "acme"],
        ["sdp", "set", "acme", *sdp, "--credentials", account],
    ):
        done = invoke(environment, "tenant", *arguments)
        assert (done.exit_code, LINE in done.stderr) == (1, True), (arguments, done.stderr)
    done = invoke(environment, "roles", "reader", "acme", "somebody")
    assert (done.exit_code, LINE in done.stderr) == (1, True), done.stderr
    done = invoke(environment, "doctor", "--tenant", "acme", "--url", "http://127.0.0.1:9")
    assert "wrong tenant 'acme' is being removed: `ticket-inbox tenant remove acme` finishes that" in done.stdout
    done = invoke(environment, "import", "--tenant", "acme", "--file", str(tmp_path / "f.jsonl"))
    assert (done.exit_code, "there is no such tenant" in done.stderr) == (1, True)
    monkeypatch.setattr(tenant_removal, "IN_FORCE_WITHIN", 0.0)
    done = invoke(environment, "tenant", "remove", "acme", "--yes")
    assert done.stdout.startswith("Tenant acme is being removed already, and this is left of it: 1 ticket, 1 delivery")
    assert left(database, "acme") == {}


@pytest.mark.usefixtures("at_once")
def test_readers_of_a_tenant_that_left_by_hand_read_no_new_one(environment: Environment, database: Database) -> None:
    """Its rows were deleted by SQL, as the page said before; its reader's right was not."""
    database.query("INSERT INTO tenant_readers (role_name, tenant_id) VALUES ('acme_reader', 'acme')")
    done = invoke(environment, "tenant", "add", "acme")
    assert (done.exit_code, "run `ticket-inbox tenant remove acme` first" in done.stderr) == (1, True)
    assert invoke(environment, "tenant", "remove", "acme", "--yes").exit_code == 0
    tenant_command(environment, "add", "acme")
    database.query("INSERT INTO tenant_readers (role_name, tenant_id) VALUES ('acme_reader', 'acme')")
    assert "there is a tenant 'acme' already" in invoke(environment, "tenant", "add", "acme").stderr


def test_another_login_is_named_as_such(environment: Environment, database: Database) -> None:
    """A role that does not own the tables sees no ticket to delete: Postgres would not say so."""
    fill(database, "acme")
    role = f"other_{uuid.uuid4().hex[:8]}"
    with psycopg.connect(database.url, autocommit=True) as owner:
        owner.execute(f"CREATE ROLE {role} LOGIN PASSWORD 'p'")
        owner.execute(f"GRANT ALL ON ALL TABLES IN SCHEMA public TO {role}")
        try:
            parts = urlsplit(database.url)
            url = urlunsplit(parts._replace(netloc=f"{role}:p@{parts.netloc.rpartition('@')[2]}"))
            done = invoke({**environment, "DATABASE_URL": url}, "tenant", "remove", "acme", "--yes")
        finally:
            owner.execute(f"DROP OWNED BY {role}")
            owner.execute(f"DROP ROLE {role}")
    assert (done.exit_code, done.stdout) == (1, "")
    assert done.stderr.startswith("Error: the tables belong to ")
    assert "tenant_removals" not in left(database, "acme")


@pytest.fixture
def sdp(database: Database) -> Iterator[FakeSdp]:
    with running_sdp() as running:
        running.add_resolved(300)
        yield running
    assert database


@pytest.mark.usefixtures("at_once")
def test_under_full_load_nothing_is_left_and_nothing_comes_back(
    environment: Environment, database: Database, secrets_key: str, sdp: FakeSdp,
    start_server: Callable[..., Server], start_worker: Callable[..., Worker],
) -> None:  # fmt: skip
    """Senders, a worker and reconciliation go on all the time; so does another tenant, which loses nothing."""
    acme, globex = (database.add_tenant(secrets_key, one) for one in ("acme", "globex"))
    encrypted = Secrets(secrets_key).encrypt(json.dumps(sdp.given))
    database.query(
        "INSERT INTO sdp_configs (tenant_id, edition, base_url, credentials) VALUES ('acme', 'on_premises', %s, %s)",
        sdp.url, encrypted,
    )  # fmt: skip
    server, worker = start_server(), start_worker(SDP_REQUESTS_PER_MINUTE="6000")
    worker.wait_for_line("worker_started", within=30)
    database.defer("reconcile", tenant_id="acme")
    with Senders(server, acme, globex) as senders:
        worker.wait_for_line("ticket_promoted", within=30)
        eventually(lambda: database.value("SELECT count(*) > 3 FROM inbox WHERE source = 'api_fallback'"))
        done = invoke(environment, "tenant", "remove", "acme", "--yes")
        assert (done.exit_code, left(database, "acme")) == (0, {})
        time.sleep(2)
        assert set(senders.last_answers("acme")) == {401}
    worker.wait_for_line("reconcile_failed", tenant_id="acme")
    assert left(database, "acme") == {}
    assert senders.accepted("globex") == database.value("SELECT count(*) FROM inbox")
    database.wait_for("SELECT count(*) FROM inbox WHERE status = 'pending'", 0, within=20)
    noise = {line["event"] for line in worker.lines() if line["level"] in ("warning", "error")}
    assert noise <= {"reconcile_failed", "rows_requeued", "worker_waits"}  # the last two on a busy machine
    database.query("DELETE FROM ticket_history WHERE tenant_id = 'globex'")
    assert database.value("SELECT count(*) FROM ticket_history") == 0


class Senders:
    """Threads that send webhooks of some tenants until the block ends, and the answers that they got."""

    def __init__(self, server: Server, *tenants: Tenant) -> None:
        self._server, self._ended = server, threading.Event()
        self._answers: dict[str, list[int]] = {tenant.id: [] for tenant in tenants}
        self._threads = [threading.Thread(target=self._send, args=(one,)) for one in tenants for _ in range(2)]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        for thread in self._threads:
            thread.join()

    def accepted(self, tenant_id: str) -> int:
        assert set(self._answers[tenant_id]) == {202}
        return len(self._answers[tenant_id])

    def last_answers(self, tenant_id: str) -> list[int]:
        return self._answers[tenant_id][-10:]

    def _send(self, tenant: Tenant) -> None:
        while not self._ended.is_set():
            self._answers[tenant.id].append(self._server.send(tenant).status_code)
