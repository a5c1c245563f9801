"""The `PG*` variables: each works in both drivers below what DATABASE_URL says, or is named as ignored in one line."""

from collections.abc import Callable
from urllib.parse import urlsplit

import psycopg
import pytest

from app import settings
from app.settings import WrongSettingError
from db import libpq
from db.parameters import of_url, with_variables
from tests.conftest import clean_environment
from tests.support import preloaded
from tests.support.system import Database, Server, Tenant, Worker, run

pytestmark = pytest.mark.one_postgres

IGNORED = {
    "PGTZ": "Nowhere/Nothing", "PGDATESTYLE": "SQL", "PGGEQO": "off", "PGAPPNAME": "mine", "PGCLIENTENCODING": "latin1",
    "PGSERVICEFILE": "/no/file", "PGREQUIRESSL": "1",
}  # fmt: skip


def test_a_variable_counts_below_the_url() -> None:
    environ = {
        "PGSSLMODE": "require",
        "PGPORT": "7",
        "PGUSER": "v",
        "PGHOST": "else",
        "PGPASSWORD": "p w",
        "PGOPTIONS": "",
    }
    found = settings.load({"DATABASE_URL": "postgresql://u@h/d?application_name=x", **environ}).database_url
    given = {"user": "u", "host": "h", "dbname": "d", "application_name": "x"}
    assert of_url(found) == {**given, "sslmode": "require", "port": "7", "password": "p w"}
    assert with_variables(found, environ) == found  # a process that another one starts reads both again


def test_without_a_url_the_variables_win_over_our_default() -> None:
    found = settings.load({"PGHOST": "db1", "PGUSER": "u"}).database_url
    assert of_url(found) == {"host": "db1", "user": "u", "port": "5432", "dbname": "ticket_inbox"}


@pytest.mark.parametrize(
    ("name", "value", "line"),
    [
        ("PGREQUIREAUTH", "scram-sha-256", "PGREQUIREAUTH sets require_auth, which cannot be followed"),
        ("PGSERVICE", "tickets", "PGSERVICE sets service, which cannot be followed"),
        ("PGCHANNELBINDING", "require", "PGCHANNELBINDING is wrong: it must be disable or prefer"),
        ("PGSSLMODE", "yes", "PGSSLMODE is wrong: it must be one of disable, allow"),
    ],
)
def test_a_variable_that_cannot_be_followed_is_refused_by_its_own_name(name: str, value: str, line: str) -> None:
    """To ignore one of these would connect elsewhere, or less safely than it asks."""
    with pytest.raises(WrongSettingError) as wrong:
        settings.load({"DATABASE_URL": "postgresql://h/d", name: value})
    assert str(wrong.value).startswith(line)


def test_every_variable_of_the_installed_libpq_has_a_place() -> None:
    installed = {str(one.envvar, "ascii") for one in psycopg.pq.Conninfo.get_defaults() if one.envvar}
    assert installed <= {one.variable for one in libpq.PARAMETERS}
    assert set(libpq.IGNORED) > {"PGDATESTYLE", "PGTZ", "PGGEQO"}  # which are no parameter's


def test_every_process_says_once_what_it_ignores_and_works(
    database: Database, secrets_key: str, environment: dict[str, str],
    start_server: Callable[..., Server], start_worker: Callable[..., Worker],
) -> None:  # fmt: skip
    """PGTZ=Nowhere stopped the worker alone: only psycopg sends it."""
    tenant = database.add_tenant(secrets_key)
    server, worker = start_server(**IGNORED), start_worker(**IGNORED)
    worker.wait_for_line("worker_started", within=20)
    server.wait_until_known(tenant)
    assert server.send(tenant).status_code == 202
    database.wait_for("SELECT count(*) FROM ticket_history", 1, within=20)
    for process in (server, worker):
        lines = [line["error"].split()[0] for line in process.lines("setting_ignored")]
        assert sorted(lines) == sorted(IGNORED)
    done = run(["tenant", "list"], {**environment, **IGNORED})
    assert done.returncode == 0, done.stderr
    assert [line.split()[1] for line in done.stderr.splitlines()] == list(filter(IGNORED.get, libpq.IGNORED))


def test_every_process_connects_by_the_variables_alone(
    empty_database: Database, secrets_key: str, start_server: Callable[..., Server], start_worker: Callable[..., Worker]
) -> None:
    """The schema is not `public`, which PGOPTIONS alone says."""
    database, given = empty_database, of_url(empty_database.url)
    database.query("CREATE SCHEMA ours")
    variables = {
        "DATABASE_URL": "postgresql://", "PGHOST": given["host"], "PGPORT": given.get("port", ""), "PGUSER": given["user"],
        "PGPASSWORD": given.get("password", ""), "PGDATABASE": urlsplit(database.url).path[1:],
        "PGOPTIONS": "-c search_path=ours",
    }  # fmt: skip
    env = clean_environment(SECRETS_KEY=secrets_key, **variables)
    assert preloaded.run(["app", "migrate"], env).returncode == 0
    secret = preloaded.run(["app", "tenant", "add", "acme"], env).stdout.strip()
    tenant = Tenant("acme", secret)
    server, worker = start_server(**variables), start_worker(**variables)
    worker.wait_for_line("worker_started", within=20)
    server.wait_until_known(tenant)
    assert server.send(tenant).status_code == 202
    database.wait_for("SELECT count(*) FROM ours.ticket_history", 1, within=20)
    for command in (
        ["app", "migrate"],
        ["alembic", "current"],
        ["procrastinate", "--app=jobs.app", "healthchecks"],
    ):
        done = preloaded.run(command, env)
        assert done.returncode == 0, done.stderr
    assert worker.lines("worker_waits") == []
