"""Secrets and keys change while webhooks come: no good webhook is refused, and no old secret outlives its grace."""

import contextlib
import signal
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import psycopg
import pytest
from cryptography.fernet import Fernet

from app.dev.embedded_postgres import EmbeddedPostgres
from tests.support.commands_in_process import Environment, invoke, tenant_command
from tests.support.system import Database, Server, Tenant

pytestmark = pytest.mark.one_postgres

StartServer = Callable[..., Server]
NEW, OLD = (Fernet.generate_key().decode() for _ in range(2))


@contextlib.contextmanager
def sending(*pairs: tuple[Server, Tenant]) -> Iterator[list[int]]:
    """Send as each tenant to its server until the block ends; yield the list of the answers' statuses."""
    statuses: list[int] = []
    ended = threading.Event()

    def send(server: Server, tenant: Tenant) -> None:
        while not ended.is_set():
            statuses.append(server.send(tenant).status_code)
            time.sleep(0.02)

    with ThreadPoolExecutor(len(pairs)) as pool:
        running = [pool.submit(send, *pair) for pair in pairs]
        try:
            yield statuses
        finally:
            ended.set()
    for one in running:
        one.result()


def refused_within(server: Server, body: bytes, headers: dict[str, str], seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while (status := server.post(body, headers).status_code) != 401:
        assert time.monotonic() < deadline, status
        time.sleep(0.1)


def test_a_replay_is_taken_in_the_grace_and_refused_after_it_also_without_postgres(
    own_postgres: EmbeddedPostgres, secrets_key: str, start_server: StartServer
) -> None:
    """While Postgres is away the grace ends by the server's own clock, and stays ended when Postgres is back."""
    database = Database(own_postgres.url())
    old = database.add_tenant(secrets_key, "acme")
    server = start_server(DATABASE_URL=database.url, APPEND_TIMEOUT_SECONDS="1")
    captured = old.body()
    replay = (captured, old.headers(captured))
    assert server.post(*replay).status_code == 202
    env = {"DATABASE_URL": database.url, "SECRETS_KEY": secrets_key}
    new = Tenant("acme", tenant_command(env, "rotate", "acme", "--grace", "4s"))
    rotated = time.monotonic()
    server.wait_until_known(new)
    if time.monotonic() < rotated + 3:  # a busy machine may take longer over it
        assert server.post(*replay).status_code == 202, "within its grace"
    own_postgres.stop(signal.SIGQUIT)
    refused_within(server, *replay, seconds=16)
    assert server.send(new).status_code == 503, "the newest secret verifies, but Postgres is away"
    own_postgres.start()
    deadline = time.monotonic() + 15
    while (status := server.send(new).status_code) != 202:
        assert time.monotonic() < deadline, status
        assert server.post(*replay).status_code == 401
    assert server.post(*replay).status_code == 401


def test_keys_are_rotated_while_webhooks_come(
    environment: Environment, database: Database, start_server: StartServer
) -> None:
    """As docs/settings.md says: both keys, reencrypt, the new key alone. Every webhook is answered 202."""
    previous, unused = database.add_tenant(OLD, "acme"), database.add_tenant(OLD, "globex")
    tenant_command({**environment, "SECRETS_KEY": OLD}, "disable", "globex")
    newest = Tenant("acme", tenant_command({**environment, "SECRETS_KEY": OLD}, "rotate", "acme"))
    both = f"{NEW},{OLD}"
    servers = [start_server(SECRETS_KEY=OLD), start_server(SECRETS_KEY=both)]
    with sending((servers[0], newest), (servers[0], previous), (servers[1], previous)) as statuses:
        time.sleep(0.5)
    assert set(statuses) == {202}, "the new key is rolled out"
    with sending((servers[1], newest), (servers[1], previous)) as statuses:
        env = {**environment, "SECRETS_KEY": both}
        assert tenant_command(env, "reencrypt") == "3 secrets encrypted with the first key."
        assert tenant_command(env, "reencrypt") == "0 secrets encrypted with the first key."
        alone = start_server(SECRETS_KEY=NEW)
        assert [alone.send(tenant).status_code for tenant in (newest, previous)] == [202, 202]
        time.sleep(1.5)  # until the servers have read the new texts
    assert set(statuses) == {202}, "reencrypt, and the old key dropped"
    tenant_command({**environment, "SECRETS_KEY": NEW}, "enable", "globex")
    alone.wait_until_known(unused)


def test_reencrypt_does_not_undo_a_rotation(environment: Environment, database: Database) -> None:
    """It has read the old text, and waits for a row that a rotation has locked; then it must reencrypt the new row."""
    before = database.add_tenant(OLD, "acme")
    rotated = Fernet(OLD).encrypt(b"the newest, long enough").decode()
    with psycopg.connect(database.url) as rotating, ThreadPoolExecutor(1) as pool:
        rotating.execute(
            "UPDATE tenant_configs SET previous_secret = secret, secret = %s, previous_secret_ends_at = now() + '1 h'",
            [rotated],
        )
        done = pool.submit(invoke, {**environment, "SECRETS_KEY": f"{NEW},{OLD}"}, "tenant", "reencrypt")
        waits = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
        database.wait_for(waits, 1, within=20)
        rotating.commit()
        assert done.result().exit_code == 0, done.result().output
    [row] = database.query("SELECT secret, previous_secret FROM tenant_configs")
    assert Fernet(NEW).decrypt(row["secret"]) == b"the newest, long enough"
    assert Fernet(NEW).decrypt(row["previous_secret"]).decode() == before.secret


def test_reencrypt_names_a_tenant_that_no_key_reads_and_forgets_an_ended_secret(
    environment: Environment, database: Database
) -> None:
    lost, fine = database.add_tenant(Fernet.generate_key().decode(), "lost"), database.add_tenant(OLD, "fine")
    database.query(
        "UPDATE tenant_configs SET previous_secret = 'of a key long gone', previous_secret_ends_at = now() WHERE tenant_id = 'fine'"
    )
    done = invoke({**environment, "SECRETS_KEY": f"{NEW},{OLD}"}, "tenant", "reencrypt")
    assert (done.exit_code, done.stdout) == (1, "1 secret encrypted with the first key.\n")
    assert done.stderr.startswith("Error: no key in SECRETS_KEY reads the secret of 'lost': ")
    row, _ = database.query("SELECT secret, previous_secret FROM tenant_configs ORDER BY tenant_id")
    assert (Fernet(NEW).decrypt(row["secret"]).decode(), row["previous_secret"]) == (fine.secret, None)
    assert lost.secret not in done.output


def test_a_key_dropped_too_early_spares_the_newest_secret(
    environment: Environment, database: Database, start_server: StartServer
) -> None:
    """No key reads the previous secret: a sender that uses it must send again (503), not change its secret (401)."""
    previous = database.add_tenant(OLD, "acme")
    newest = Tenant("acme", tenant_command({**environment, "SECRETS_KEY": f"{NEW},{OLD}"}, "rotate", "acme"))
    server = start_server(SECRETS_KEY=NEW)
    assert [server.send(tenant).status_code for tenant in (newest, previous)] == [202, 503]
    assert [line["tenant_id"] for line in server.lines("tenant_unreadable")] == ["acme"]


@pytest.mark.parametrize("command", ["add", "rotate"])
def test_an_empty_secret_is_refused_and_a_short_one_warned_of(
    environment: Environment, database: Database, command: str
) -> None:
    database.add_tenant(environment["SECRETS_KEY"], "rotated")
    tenant_id = {"add": "added", "rotate": "rotated"}[command]
    for empty in (["--secret", ""], ["--secret", " \t"], ["--secret-file", "/dev/null"]):
        done = invoke(environment, "tenant", command, tenant_id, *empty)
        assert (done.exit_code, done.stdout) == (2, "")
        assert "an empty secret would let anybody sign" in done.stderr.splitlines()[-1]
    done = invoke(environment, "tenant", command, tenant_id, "--secret", "s3cret")
    assert (done.exit_code, done.stdout) == (0, "s3cret\n")
    assert done.stderr.splitlines()[0] == "Warning: a secret of fewer than 16 characters can be guessed."
