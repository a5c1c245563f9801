"""An index on a table that is not small is made after the migration, while webhooks are written."""

import threading
from collections.abc import Iterator

import psycopg
import pytest

from db import late_indexes, schema
from tests.support.revisions import upgrade
from tests.support.system import Database

BEFORE = "0013"  # the revision before the one with display ids
VALID = "SELECT count(*) FROM pg_index WHERE indisvalid AND indexrelid IN (to_regclass('inbox_display_id_idx'), to_regclass('ticket_history_display_id_idx'))"
INVALID = "SELECT count(*) FROM pg_index WHERE NOT indisvalid AND indexrelid = to_regclass('inbox_display_id_idx')"
DELIVERY = "INSERT INTO inbox (tenant_id, correlation_id, payload, signature) SELECT 'acme', 'c', decode(repeat('ab', 1900), 'hex'), 's'"


@pytest.fixture
def large(empty_database: Database) -> Database:
    """A database of the version before whose inbox is not small: over 16 MB, which is just too much."""
    upgrade(empty_database.url, BEFORE)
    empty_database.query("ALTER TABLE inbox ALTER payload SET STORAGE PLAIN")
    empty_database.query(f"{DELIVERY} FROM generate_series(1, 8400)")
    return empty_database


@pytest.fixture
def old_snapshot(large: Database) -> Iterator[psycopg.Connection[tuple[object, ...]]]:
    """A transaction that reads no table of ours, but whose end an index that is made beside writes waits for."""
    with psycopg.connect(large.url) as connection:
        connection.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
        connection.execute("SELECT count(*) FROM pg_class")
        yield connection


def test_webhooks_are_written_while_it_is_made(
    large: Database, old_snapshot: psycopg.Connection[tuple[object, ...]], capfd: pytest.CaptureFixture[str]
) -> None:
    migration = threading.Thread(target=schema.upgrade, args=[large.url], daemon=True)
    migration.start()
    try:
        large.wait_for(INVALID, 1, within=30)
        assert large.value("SELECT version_num FROM alembic_version") == schema.head()
        with psycopg.connect(large.url, autocommit=True) as connection:
            connection.execute("SET statement_timeout = '5s'")
            connection.execute(DELIVERY)
            connection.execute("UPDATE inbox SET display_id = '1'  WHERE id = 1")
        assert large.value(VALID) == 1, "the small table's is made in the migration"
    finally:
        old_snapshot.rollback()
        migration.join(60)
    assert not migration.is_alive()
    assert large.value(VALID) == 2
    said = capfd.readouterr().err
    assert "Making the index inbox_display_id_idx: a large table takes minutes. Webhooks and promotion go on" in said
    assert "ticket_history_display_id_idx" not in said


def test_what_was_cut_short_is_made_anew_and_what_is_there_stays(database: Database) -> None:
    """A killed `migrate` leaves an index behind that Postgres keeps up to date and does not use."""
    late_indexes.make_missing(database.url)
    before = database.value("SELECT CAST(to_regclass('inbox_display_id_idx') AS oid)")
    other = database.value("SELECT CAST(to_regclass('ticket_history_display_id_idx') AS oid)")
    database.query("UPDATE pg_index SET indisvalid = false WHERE indexrelid = to_regclass('inbox_display_id_idx')")
    late_indexes.make_missing(database.url)
    assert database.value(VALID) == 2
    assert database.value("SELECT CAST(to_regclass('inbox_display_id_idx') AS oid)") != before
    assert database.value("SELECT CAST(to_regclass('ticket_history_display_id_idx') AS oid)") == other


def test_two_commands_at_once_make_them_between_them(database: Database) -> None:
    database.query("DROP INDEX inbox_display_id_idx, ticket_history_display_id_idx")
    commands = [threading.Thread(target=late_indexes.make_missing, args=[database.url], daemon=True) for _ in range(3)]
    for one in commands:
        one.start()
    for one in commands:
        one.join(60)
        assert not one.is_alive()
    assert database.value(VALID) == 2


def test_a_schema_without_the_columns_gets_none(empty_database: Database) -> None:
    upgrade(empty_database.url, BEFORE)
    late_indexes.make_missing(empty_database.url)
    assert empty_database.value(VALID) == 0
