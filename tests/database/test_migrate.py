"""`migrate` beside webhooks: it takes its locks in tries, names the session in its way, and ends where its own is lost."""

import contextlib
import select
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psycopg
import pytest
from cryptography.fernet import Fernet

from app.dev.embedded_postgres import EmbeddedPostgres
from db import advisory_locks, migration, migration_watch, schema
from tests.conftest import clean_environment
from tests.faults.proxy import Proxy
from tests.faults.world import socket_of
from tests.support.ecosystem_tools import tool
from tests.support.next_version import REVISION, add_migration, next_version
from tests.support.system import Database, Server, run

pytestmark = pytest.mark.one_postgres

SESSIONS = "SELECT count(*) FROM pg_stat_activity WHERE application_name LIKE 'ticket-inbox migrate%%'"


def environment_of(url: str) -> dict[str, str]:
    return clean_environment(DATABASE_URL=url, SECRETS_KEY=Fernet.generate_key().decode())


@contextlib.contextmanager
def migrating(*command: str, url: str, root: Path | None = None) -> Iterator[subprocess.Popen[str]]:
    """Run a command that migrates, by default `ticket-inbox migrate`; it ends with the block."""
    with subprocess.Popen(
        command or (sys.executable, "-m", "app", "migrate"),
        env=environment_of(url),
        cwd=root, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    ) as process:  # fmt: skip
        try:
            yield process
        finally:
            process.kill()


def first_line(process: subprocess.Popen[str]) -> str:
    assert process.stderr is not None
    assert select.select([process.stderr], [], [], 30)[0], "it says nothing"
    return process.stderr.readline()


@pytest.fixture
def migrations(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Migrations of this process's own, to which a test adds one."""
    copied = shutil.copytree(schema.MIGRATIONS, tmp_path / "migrations")
    monkeypatch.setattr(schema, "MIGRATIONS", copied)
    return copied


def test_limits_of_the_role_do_not_cut_it(database: Database, tmp_path: Path) -> None:
    """Every limit in time that the database sets for its other sessions."""
    name = database.value("SELECT current_database()")
    limits = database.query("SELECT name FROM pg_settings WHERE name ~ '(statement|lock|transaction|session)_timeout$'")
    assert len(limits) >= 4
    for limit in limits:
        database.query(f"""ALTER DATABASE "{name}" SET {limit["name"]} = '300ms'""")
    root = next_version(tmp_path, "SELECT pg_sleep(1)")
    with migrating(url=database.url, root=root) as process:
        assert process.communicate(timeout=60) == (f"The schema is at {REVISION}.\n", "")


def test_webhooks_go_on_while_a_reader_is_in_its_way(
    database: Database, start_server: Callable[..., Server], secrets_key: str, tmp_path: Path
) -> None:
    tenant = database.add_tenant(secrets_key)
    server = start_server()
    server.wait_until_known(tenant)
    with psycopg.connect(database.url, application_name="report") as reader:
        reader.execute("SELECT count(*) FROM inbox")
        with migrating(url=database.url, root=next_version(tmp_path)) as process:
            said = first_line(process)
            assert f"Waiting for process {reader.info.backend_pid} (application report, role " in said
            assert "idle in transaction, its transaction began at " in said
            assert [server.send(tenant).status_code for _ in range(20)] == [202] * 20
            assert process.poll() is None
            reader.rollback()
            assert process.communicate(timeout=60) == (f"The schema is at {REVISION}.\n", "")
    assert server.send(tenant).status_code == 202
    assert database.value("SELECT count(*) FROM inbox WHERE next_text = 'next'") >= 21


def test_alembic_itself_takes_its_locks_in_tries(database: Database) -> None:
    tool(database, "alembic", "downgrade", "0004")
    with psycopg.connect(database.url, application_name="report") as reader:
        reader.execute("SELECT count(*) FROM ticket_history")
        with migrating("alembic", "upgrade", "head", url=database.url) as process:
            assert "application report" in first_line(process)
            reader.rollback()
            assert process.communicate(timeout=60) == ("", "")
            assert process.returncode == 0
    assert database.value("SELECT version_num FROM alembic_version") == schema.head()


def test_alembic_prints_one_line_where_postgres_is_away() -> None:
    with migrating("alembic", "upgrade", "head", url="postgresql://127.0.0.1:1/x") as process:
        printed, said = process.communicate(timeout=60)
    assert (process.returncode, printed.count("FAILED: Postgres cannot be reached"), said) == (255, 1, "")


def test_it_gives_up_and_names_the_other_migration(
    database: Database, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Also as a role that may not see the other sessions' statements."""
    monkeypatch.setattr(migration, "GIVE_UP_AFTER", 4.0)
    monkeypatch.setattr(migration, "PAUSE_AT_MOST", 2.0)
    role = f"role_{database.value('SELECT current_database()')}"
    database.query(f"CREATE ROLE {role} LOGIN")
    try:
        with psycopg.connect(database.url, application_name="the other") as other:
            other.execute("SELECT pg_advisory_xact_lock(%s)", [advisory_locks.MIGRATION])
            pid = other.info.backend_pid
            url = psycopg.conninfo.make_conninfo(database.url, user=role)
            with pytest.raises(migration.MigrationError, match=rf"pg_terminate_backend\({pid}\)"):
                migration.run(as_url(url), lambda _: None)
        assert f"Waiting for process {pid} (application the other, role " in capsys.readouterr().err
    finally:
        database.query(f"DROP ROLE {role}")


def test_it_waits_for_a_session_that_may_change_the_schema_and_says_since_when_it_is_there(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(migration, "GIVE_UP_AFTER", 0.0)
    with psycopg.connect(database.url, application_name="the other", autocommit=True) as other:
        other.execute("SELECT pg_advisory_lock(%s)", [advisory_locks.MIGRATION])
        named = (
            rf"because of process {other.info.backend_pid} \(application the other, role .*, idle, connected since 2"
        )
        with pytest.raises(migration.MigrationError, match=named):
            migration.run(database.url, lambda _: None)


def as_url(conninfo: str) -> str:
    given = psycopg.conninfo.conninfo_to_dict(conninfo)
    host = str(given["host"]).replace("/", "%2F")
    return f"postgresql://{given['user']}@/{given['dbname']}?host={host}"


def test_a_long_migration_prints_that_it_is_at_work(
    database: Database, migrations: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(migration_watch, "SAY_EVERY", 1.0)
    add_migration(migrations, "SELECT pg_sleep(4)")
    schema.upgrade(database.url)
    assert "Still migrating after 0 min: Postgres is at work.\n" in capsys.readouterr().err
    assert database.value("SELECT version_num FROM alembic_version") == REVISION


def test_its_statement_ends_soon_if_it_is_killed(database: Database, tmp_path: Path) -> None:
    """Postgres would keep its locks until the statement is done."""
    with migrating(url=database.url, root=next_version(tmp_path, "SELECT pg_sleep(600)")) as process:
        database.wait_for(f"{SESSIONS} AND wait_event = 'PgSleep' AND datname = current_database()", 1, within=30)
        process.kill()
        database.wait_for(f"{SESSIONS} AND datname = current_database()", 0, within=30)


@pytest.mark.begins_early
def test_a_lost_answer_ends_it(own_postgres: EmbeddedPostgres, tmp_path: Path) -> None:
    """The network swallows what the session sends and gets, and works for new sessions."""
    database = Database(own_postgres.url())
    proxy = Proxy(socket_of(own_postgres))
    root = next_version(tmp_path, "ALTER TABLE inbox ADD COLUMN next_text text; SELECT pg_sleep(3)")
    with (
        proxy.running() as port,
        migrating(url=f"postgresql://postgres@127.0.0.1:{port}/postgres", root=root) as process,
    ):
        database.wait_for(f"{SESSIONS} AND wait_event = 'PgSleep'", 1, within=30)
        with proxy.swallow(new=False):
            printed, said = process.communicate(timeout=60)
        assert (process.returncode, printed, len(said.splitlines())) == (1, "", 1), said
        assert "the network lost an answer of Postgres, whose process is idle in transaction" in said
        assert database.value("SELECT count(*) FROM inbox") == 0  # no lock is left
        database.wait_for(f"{SESSIONS} AND application_name NOT LIKE '%%(watch)'", 0, within=30)


@pytest.mark.begins_early
def test_a_network_that_swallows_everything_ends_it(
    own_postgres: EmbeddedPostgres,
    migrations: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(migration_watch, "SILENT_AFTER", 8.0)
    monkeypatch.setattr(migration_watch, "LOOK_WITHIN", 1.0)
    database = Database(own_postgres.url())
    proxy = Proxy(socket_of(own_postgres))
    add_migration(migrations, "SELECT pg_sleep(2)")
    with proxy.running() as port, ThreadPoolExecutor() as pool:
        ended = pool.submit(schema.upgrade, f"postgresql://postgres@127.0.0.1:{port}/postgres")
        database.wait_for(f"{SESSIONS} AND wait_event = 'PgSleep'", 1, within=30)
        with proxy.swallow(), pytest.raises(migration.MigrationError, match="does not answer any more"):
            ended.result(60)
    assert "Postgres does not answer a second session (no answer in time): waiting for 8 s." in capsys.readouterr().err


def test_a_host_that_never_answers_is_one_line() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"postgresql://127.0.0.1:{silent.getsockname()[1]}/x"
        done = run(["migrate"], environment_of(url))
    assert (done.returncode, done.stderr.count("\n"), "Postgres does not answer: " in done.stderr) == (1, 1, True), (
        done.stderr
    )


def test_the_host_after_a_silent_one_is_reached(own_postgres: EmbeddedPostgres) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent, Proxy(socket_of(own_postgres)).running() as port:
        url = f"postgresql://postgres@127.0.0.1:{silent.getsockname()[1]},127.0.0.1:{port}/postgres"
        done = run(["migrate"], environment_of(url))
    assert (done.stdout, done.stderr) == (f"The schema is at {schema.head()}.\n", "")
