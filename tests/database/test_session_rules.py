"""What a session must be is set by us in both drivers, and a session that is not is refused in one line."""

import contextlib
import os
import re
import uuid
from collections.abc import Callable, Iterator
from urllib.parse import urlsplit, urlunsplit

import psycopg
import pytest

from db import failures, schema, sessions
from tests.conftest import clean_environment
from tests.support.system import Database, Server, Worker, run
from tests.support.two_drivers import DRIVERS, ask_both, refused_by

ODD = {
    "DateStyle": "'SQL, DMY'",
    "TimeZone": "'Asia/Kolkata'",
    "IntervalStyle": "sql_standard",
    "default_transaction_isolation": "serializable",
    "standard_conforming_strings": "off",
    "client_encoding": "latin1",
    "statement_timeout": "'1s'",
    "idle_in_transaction_session_timeout": "'100ms'",
    "idle_session_timeout": "'100ms'",
    "synchronous_commit": "off",
}
OTHER_ENCODINGS = ("SQL_ASCII", "LATIN1", "WIN1252")


@pytest.fixture
def role(database: Database) -> Iterator[str]:
    """A role of the test's own that may do everything: its settings are no other test's."""
    name = f"odd_{uuid.uuid4().hex[:8]}"
    database.query(f"CREATE ROLE {name} SUPERUSER LOGIN")
    yield name
    database.query(f"DROP OWNED BY {name}")
    database.query(f"DROP ROLE {name}")


def as_role(database: Database, role: str) -> str:
    return f"{database.url}{'&' if '?' in database.url else '?'}user={role}"


@contextlib.contextmanager
def encoded(postgres_url: str, encoding: str) -> Iterator[str]:
    name = f"encoded_{encoding.lower()}_{uuid.uuid4().hex[:8]}"
    with psycopg.connect(postgres_url, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name} TEMPLATE template0 ENCODING '{encoding}' LOCALE 'C'")
        try:
            yield urlunsplit(urlsplit(postgres_url)._replace(path=f"/{name}"))
        finally:
            connection.execute(f"DROP DATABASE {name} WITH (FORCE)")


def test_whatever_the_role_says_a_session_is_the_same(database: Database, role: str) -> None:
    for name, value in ODD.items():
        database.query(f"ALTER ROLE {role} SET {name} = {value}")
    url = as_role(database, role)
    for name, value in {
        "DateStyle": "ISO", "TimeZone": "UTC", "default_transaction_isolation": "read committed", "client_encoding": "UTF8",
        "standard_conforming_strings": "on", "idle_in_transaction_session_timeout": "30s", "synchronous_commit": "on",
    }.items():  # fmt: skip
        assert str(ask_both(url, f"SHOW {name}")).partition(",")[0] == value
    with sessions.open_sync(url, "test") as connection:
        shown = [
            connection.execute(f"SHOW {name}").fetchone() for name in ("statement_timeout", "idle_session_timeout")
        ]
    assert shown == [("30s",), ("0",)]


def test_a_webhook_is_promoted_whatever_the_role_says(
    database: Database, role: str, secrets_key: str,
    start_server: Callable[..., Server], start_worker: Callable[..., Worker],
) -> None:  # fmt: skip
    """The worker died of such a DateStyle at every start, and of an isolation 18 times in 30 s."""
    tenant = database.add_tenant(secrets_key)
    for name, value in ODD.items():
        database.query(f"ALTER ROLE {role} SET {name} = {value}")
    url = as_role(database, role)
    server, worker = start_server(DATABASE_URL=url), start_worker(DATABASE_URL=url)
    worker.wait_for_line("worker_started", within=20)
    server.wait_until_known(tenant)
    sent = [server.send(tenant, description="\N{ROCKET}").status_code for _ in range(40)]
    assert sent == [202] * 40
    database.wait_for("SELECT count(*) FROM ticket_history", 40, within=20)
    assert len(worker.lines("worker_started")) == 1


@pytest.mark.one_postgres
@pytest.mark.parametrize("encoding", OTHER_ENCODINGS)
def test_a_database_of_another_encoding_is_refused(postgres_url: str, encoding: str, secrets_key: str) -> None:
    """Each command ends with one line, and nothing begins."""
    with encoded(postgres_url, encoding) as url:
        for driver in DRIVERS:
            assert f"has the encoding {encoding}, which cannot hold every ticket" in refused_by(url, driver)
        environment = clean_environment(DATABASE_URL=url, SECRETS_KEY=secrets_key, PORT="0")
        for command in (["migrate"], ["serve"], ["worker"], ["status"], ["doctor", "--tenant", "x"]):
            done = run(command, environment)
            assert done.returncode == 1, (command, done.stderr)
            assert re.fullmatch(r"Error: the database encoded_\w+ has the encoding .*\n", done.stderr), done.stderr


@pytest.mark.one_postgres
def test_a_server_that_began_before_postgres_says_it_when_asked(
    postgres_url: str, start_server: Callable[..., Server]
) -> None:
    with encoded(postgres_url, "SQL_ASCII") as url:
        name = urlsplit(url).path[1:]
        with psycopg.connect(postgres_url, autocommit=True) as connection:
            connection.execute(f"ALTER DATABASE {name} ALLOW_CONNECTIONS false")
            server = start_server(DATABASE_URL=url)
            connection.execute(f"ALTER DATABASE {name} ALLOW_CONNECTIONS true")
        answer = server.client.get("/health/ready")
        assert answer.status_code == 503
        assert "has the encoding SQL_ASCII" in answer.json()["detail"]


@pytest.mark.one_postgres
def test_the_tables_must_be_where_the_role_looks_first(empty_database: Database) -> None:
    """Each is one line that names the search_path; before, it was `run migrate`, for ever."""
    looking = empty_database.url + ("&" if "?" in empty_database.url else "?") + "options=-csearch_path%3D"
    empty_database.query("CREATE SCHEMA within; CREATE SCHEMA ahead")
    schema.upgrade(looking + "within")
    for driver in DRIVERS:
        assert refused_by(looking + "within", driver) == ""
        assert "the tables are in the schema within, where " in refused_by(looking + "public", driver)
        ahead = refused_by(looking + "ahead,within", driver)
        assert "would make new ones in ahead, the first of its search_path" in ahead
    with pytest.raises(failures.DatabaseError, match=r"where .* does not look: its search_path is"):
        schema.upgrade(looking + "public")
    empty_database.query("ALTER TABLE within.inbox SET SCHEMA ahead")
    assert "our tables are in several schemas (ahead, within)" in refused_by(looking + "within,ahead", "asyncpg")


@pytest.mark.one_postgres
def test_the_way_out_names_the_roles_search_path(database: Database, role: str, secrets_key: str) -> None:
    database.query(f"CREATE SCHEMA {role} AUTHORIZATION {role}")
    database.query(f"ALTER ROLE {role} SET search_path = {role}")
    environment = clean_environment(DATABASE_URL=as_role(database, role), SECRETS_KEY=secrets_key)
    done = run(["status"], environment)
    assert done.returncode == 1
    assert f"`ALTER ROLE {role} SET search_path = public`" in done.stderr
    assert os.linesep not in done.stderr.strip()


@pytest.mark.one_postgres
def test_roles_make_prints_where_the_logins_must_look(database: Database, secrets_key: str) -> None:
    """A role does not look where its group looks: the printed lines are all that a login needs."""
    name = f"elsewhere_{uuid.uuid4().hex[:8]}"
    database.query("ALTER SCHEMA public RENAME TO ours")
    url = f"{database.url}{'&' if '?' in database.url else '?'}options=-csearch_path%3Dours"
    try:
        done = run(["roles", "make", "--prefix", name], clean_environment(DATABASE_URL=url, SECRETS_KEY=secrets_key))
        assert done.returncode == 0, done.stderr
        create, alter = (line.strip() for line in done.stdout.splitlines() if f"{name}_app_login" in line)
        database.query(create)
        assert "the tables are in the schema ours, where " in refused_by(
            as_role(database, f"{name}_app_login"), "asyncpg"
        )
        database.query(alter)
        assert refused_by(as_role(database, f"{name}_app_login"), "asyncpg") == ""
    finally:
        for role in (f"{name}_app_login", *(f"{name}_{kind}" for kind in ("app", "worker", "reader"))):
            if database.value("SELECT count(*) FROM pg_roles WHERE rolname = %s", role):
                database.query(f"DROP OWNED BY {role}")
                database.query(f"DROP ROLE {role}")
