"""Which indexes does a migration leave to be made after it, and how? One at a time, beside webhooks and promotion.

A migration is one transaction, in which webhooks wait: it makes an index on a small table alone. Postgres makes one on
a large table `CONCURRENTLY`, outside of any transaction, while rows are written.
"""

import time
from typing import Any

import psycopg
from psycopg import sql

from db import sessions
from db.migration_watch import say

NAME = "ticket-inbox migrate"
PAUSE = 1.0  # seconds between two looks at an index that another command makes
TRIES = 10

INDEXES = {
    "inbox_display_id_idx": ("inbox", "(display_id, tenant_id) WHERE display_id IS NOT NULL"),
    "ticket_history_display_id_idx": ("ticket_history", "(tenant_id, display_id) WHERE display_id IS NOT NULL"),
}

# Limits of the role or the database, which are meant for other work.
LIMITS = """
SELECT set_config(name, '0', false) FROM pg_settings WHERE name IN ('lock_timeout', 'transaction_timeout')
"""
# An index whose making was cut short stays behind, and is not valid.
STATE = """
SELECT EXISTS (SELECT FROM pg_attribute WHERE attrelid = to_regclass(%(table)s) AND attname = 'display_id'
                                          AND NOT attisdropped) AS may_be_made,
       (SELECT indisvalid FROM pg_index WHERE indexrelid = to_regclass(%(index)s)) AS is_valid,
       EXISTS (SELECT FROM pg_stat_progress_create_index
               WHERE datname = current_database() AND relid = to_regclass(%(table)s)) AS is_being_made
"""
# Two commands at once: what one of them gets, instead of the index that the other makes.
OVERTAKEN = (psycopg.errors.DeadlockDetected, psycopg.errors.DuplicateTable, psycopg.errors.UniqueViolation)


def make_missing(url: str) -> None:
    """Make those of our indexes that are missing; the schema must be at a revision that has their columns, or none is.

    Prints a line on standard error for each. Waits for another command that makes one. Raises psycopg.Error.
    """
    with sessions.open_sync(url, NAME, statement_timeout=0) as connection:
        connection.autocommit = True
        connection.execute(LIMITS)
        for index, (table, columns) in INDEXES.items():
            _make(connection, index, table, columns)


def _make(connection: psycopg.Connection[Any], index: str, table: str, columns: str) -> None:
    is_said, tries = False, 0
    while True:
        may_be_made, is_valid, is_being_made = _state(connection, index, table)
        if is_valid or not may_be_made:
            return
        if not is_said:
            say(f"Making the index {index}: a large table takes minutes. Webhooks and promotion go on meanwhile.")
            is_said = True
        try:
            if not is_being_made:
                tries += 1
                _create(connection, index, table, columns, replaces=is_valid is False)
        except OVERTAKEN:
            if tries == TRIES:
                raise
        time.sleep(PAUSE if is_being_made or tries > 1 else 0)


def _create(connection: psycopg.Connection[Any], index: str, table: str, columns: str, *, replaces: bool) -> None:
    name = sql.Identifier(index)
    if replaces:
        connection.execute(sql.SQL("DROP INDEX CONCURRENTLY IF EXISTS {}").format(name))
    made = sql.SQL("CREATE INDEX CONCURRENTLY IF NOT EXISTS {} ON {} {}")
    connection.execute(made.format(name, sql.Identifier(table), sql.SQL(columns)))


def _state(connection: psycopg.Connection[Any], index: str, table: str) -> tuple[bool, bool | None, bool]:
    """Return whether the index may be made, whether it is there and valid, and whether some command makes it."""
    [found] = connection.execute(STATE, {"index": index, "table": table}).fetchall()
    may_be_made, is_valid, is_being_made = found
    return may_be_made, is_valid, is_being_made
