"""Each kind of failure has one name, in whichever driver it is met, and docs/operations.md lists it."""

import asyncio
import uuid
from pathlib import Path
from urllib.parse import urlsplit

import psycopg
import pytest
import sqlalchemy as sa

from db import engine as engines
from db import failure_kinds, failures
from db.failure_kinds import Kind
from tests.support.system import Database

KINDS = {name: kind for name, kind in vars(failure_kinds).items() if isinstance(kind, Kind)}
OPERATIONS = Path(__file__).parents[2] / "docs" / "operations.md"

RAISED = {  # by SQLSTATE; Postgres raises what it is asked to
    "53100": "disk-full",
    "53300": "too-many",
    "53200": "resources",
    "25006": "read-only",
    "57P03": "restarting",
    "40001": "serialization",
    "40P01": "serialization",
    "55P03": "locked",
    "22P05": "encoding",
    "26000": "pooler",
    "58030": "storage",
    "P0001": "other",
}
FULL_QUEUE = "DO $$ BEGIN RAISE EXCEPTION 'too many notifications in the NOTIFY queue' USING ERRCODE = 'program_limit_exceeded';END $$"
STATEMENTS = {
    "SELECT FROM nowhere": "no-schema",
    "SELECT nothing()": "no-schema",
    "SELECT CAST('x' AS procrastinate_job)": "no-schema",
    "SET default_transaction_read_only = on; SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY; CREATE TABLE t ()": (
        "read-only"
    ),
    "SELECT CAST('a certificate of ssl' AS integer)": "value",
    FULL_QUEUE: "notifications",
    "SET statement_timeout = 1; SELECT pg_sleep(1)": "cancelled",
    "SELECT pg_terminate_backend(pg_backend_pid())": "cut",
}


async def by_asyncpg(url: str, statements: str) -> None:
    engine = engines.create_engine(url, "test", 1, 2.0)
    try:
        async with engines.connection(engine) as connection:
            for statement in statements.split("; "):
                await connection.execute(sa.text(statement))
    finally:
        await engine.dispose()


def by_psycopg(url: str, statements: str) -> None:
    with psycopg.connect(url, autocommit=True, connect_timeout=2) as connection:
        for statement in statements.split("; "):
            connection.execute(statement)


def found(url: str, statements: str) -> tuple[set[str], set[str]]:
    """Return the kinds that the drivers' errors are of, and how they are explained."""
    errors: list[BaseException] = []
    with pytest.raises(failures.DatabaseError) as caught:
        asyncio.run(by_asyncpg(url, statements))
    errors.append(caught.value)
    with pytest.raises(failures.DatabaseError) as caught:
        by_psycopg(url, statements)
    errors.append(caught.value)
    return {failures.kind(error).name for error in errors}, {failures.explain(error) for error in errors}


def by_role(database: Database, **changes: str) -> str:
    """Return the database's URL with another role or database name."""
    parts = urlsplit(database.url)
    path = f"/{changes['name']}" if "name" in changes else parts.path
    _, at, host = parts.netloc.rpartition("@")
    netloc = f"{changes['user']}@{host}" if "user" in changes and at else parts.netloc
    return parts._replace(path=path, netloc=netloc).geturl()


@pytest.mark.parametrize(("statements", "name"), STATEMENTS.items())
def test_an_error_of_a_statement_is_of_one_kind(empty_database: Database, statements: str, name: str) -> None:
    kinds, words = found(empty_database.url, statements)
    assert kinds == {name}
    assert all(len(one.splitlines()) == 1 for one in words)


def test_a_full_queue_of_notifications_is_no_fault_of_a_ticket(empty_database: Database) -> None:
    """Else a run of reconciliation would note it against each ticket that it fetched, and go on."""
    with pytest.raises(failures.DatabaseError) as caught:
        by_psycopg(empty_database.url, FULL_QUEUE)
    assert not failures.is_fault_of_a_value(caught.value)


def test_an_error_of_each_code_is_of_one_kind(empty_database: Database) -> None:
    for code, name in RAISED.items():
        kinds, _ = found(empty_database.url, f"DO $$ BEGIN RAISE EXCEPTION 'so' USING ERRCODE = '{code}';END $$")
        assert kinds == {name}, code


@pytest.mark.parametrize(
    ("netloc", "name"),
    [
        ("127.0.0.1:1", "away"),
        ("no-such-host.invalid", "unknown-host"),
        ("%2Ftmp%2Fno-such-directory", "away"),
    ],
)
def test_what_cannot_be_reached_is_of_one_kind(netloc: str, name: str) -> None:
    kinds, _ = found(f"postgresql://someone@{netloc}/x", "SELECT 1")
    assert kinds == {name}


def test_what_postgres_refuses_to_connect_is_of_one_kind(empty_database: Database) -> None:
    assert found(by_role(empty_database, name="no_such_database"), "SELECT 1")[0] == {"no-database"}
    role = f"narrow_{uuid.uuid4().hex[:8]}"
    empty_database.query(f"CREATE ROLE {role} LOGIN CONNECTION LIMIT 0")
    try:
        assert found(by_role(empty_database, user=role), "SELECT 1")[0] == {"too-many"}
        empty_database.query(f"ALTER ROLE {role} CONNECTION LIMIT 5")
        assert found(by_role(empty_database, user=role), "CREATE TABLE t ()")[0] == {"schema-right"}
    finally:
        empty_database.query(f"DROP ROLE {role}")


def test_the_words_of_a_row_decide_nothing(empty_database: Database) -> None:
    """What a sender writes stands in some errors; only Postgres' code says what those are."""
    kinds, _ = found(empty_database.url, "SELECT CAST('connection refused, too many clients' AS integer)")
    assert kinds == {"value"}


def test_operations_lists_every_kind() -> None:
    listed = OPERATIONS.read_text()
    assert [kind.name for kind in KINDS.values() if f"| `{kind.name}` |" not in listed] == []
