"""`migrate` does what `alembic` can, for a package without its configuration file; and has a way past Procrastinate's."""

import psycopg
import pytest
from click.testing import CliRunner, Result

from app.cli import main
from db import revisions, schema
from tests.conftest import clean_environment
from tests.support.ecosystem_tools import tool
from tests.support.system import Database

pytestmark = pytest.mark.one_postgres

VERSION = "SELECT version_num FROM alembic_version"
THINGS = "SELECT count(*) FROM pg_class WHERE relnamespace = 'public'::regnamespace"


def migrate(database: Database, *arguments: str, typed: str = "") -> Result:
    """Run `ticket-inbox migrate`; a person types `typed`."""
    return CliRunner(env=clean_environment(DATABASE_URL=database.url)).invoke(main, ["migrate", *arguments], typed)


def test_it_goes_to_any_revision_and_back(database: Database) -> None:
    """It asks before a way down. `base` leaves nothing."""
    kept = migrate(database, "--to", "0002", typed="n\n")
    assert (kept.exit_code, "removes what came later, with its data. Go on?" in kept.output) == (1, True)
    assert database.value(VERSION) == schema.head()
    assert migrate(database, "--to", "0002", typed="y\n").output.endswith("The schema is at 0002.\n")
    assert database.value(VERSION) == "0002"
    assert migrate(database, "--to", "0004").output == "The schema is at 0004.\n"
    assert migrate(database, "--to", "head").output == f"The schema is at {schema.head()}.\n"
    assert migrate(database, "--to", "base", "--yes").output == "The schema is at nothing.\n"
    assert database.value(THINGS) == 0


def test_it_shows_where_the_schema_is(database: Database) -> None:
    shown = migrate(database, "--show").output.splitlines()
    assert [line[2:6] for line in shown[:-1]] == schema.REVISIONS
    assert [line[2:6] for line in shown if line.startswith("*")] == [schema.head()]
    assert shown[-1] == f"The schema is at {schema.head()}."


def test_it_writes_down_where_the_schema_is(database: Database) -> None:
    """As `migrate` itself says where the row was lost."""
    database.query("DELETE FROM alembic_version")
    assert "write it by `ticket-inbox migrate --stamp`" in migrate(database).output
    assert migrate(database, "--stamp", schema.head()).exit_code == 0
    assert migrate(database).output == f"The schema is at {schema.head()}.\n"


def test_its_scripts_lead_from_one_revision_to_another(empty_database: Database) -> None:
    """They ask no database, and begin with a limit for the wait for a lock."""
    nowhere = Database("postgresql://127.0.0.1:1/x")
    for begin, to in (("base", "0003"), ("0003", "head"), ("head", "0005")):
        script = migrate(nowhere, "--sql", "--from", begin, "--to", to).output
        assert script.startswith(revisions.LIMIT)
        with psycopg.connect(empty_database.url, autocommit=True) as connection:
            connection.execute(script)
    assert empty_database.value(VERSION) == "0005"


@pytest.mark.parametrize(
    ("arguments", "code", "why"),
    [
        (("--to", "0099"), 1, "this version has no revision '0099', but base, 0001, "),
        (("--stamp", "x"), 1, "this version has no revision 'x'"),
        (("--sql", "--from", "x"), 1, "this version has no revision 'x'"),
        (("--show", "--to", "head"), 2, "exclude each other"),
        (("--from", "0001"), 2, "--from is for --sql"),
    ],
)
def test_what_it_refuses(module_database: Database, arguments: tuple[str, ...], code: int, why: str) -> None:
    done = migrate(module_database, *arguments)
    assert (done.exit_code, why in done.stderr) == (code, True), done.output


def test_a_schema_of_procrastinate_alone_is_replaced_only_on_request(empty_database: Database) -> None:
    """As `procrastinate schema --apply` makes it before `migrate`; the one line names the way out. Not with jobs in it."""
    tool(empty_database, "procrastinate", "--app=jobs.app", "schema", "--apply")
    refused = migrate(empty_database)
    assert (refused.exit_code, refused.stderr.count("\n")) == (1, 1)
    assert "run `ticket-inbox migrate --replace-procrastinate`" in refused.stderr
    job = empty_database.defer("theirs")
    used = migrate(empty_database, "--replace-procrastinate")
    assert "another program uses Procrastinate here: 1 of its jobs wait or run" in used.stderr
    empty_database.query("DELETE FROM procrastinate_jobs WHERE id = %s", job)
    assert migrate(empty_database, "--replace-procrastinate").output == f"The schema is at {schema.head()}.\n"
    assert migrate(empty_database, "--replace-procrastinate").exit_code == 0  # and never drops what is ours
    assert empty_database.value("SELECT count(*) FROM procrastinate_jobs") == 0
