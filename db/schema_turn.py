"""Whose turn is it to change the schema or the roles? One command's at a time.

An advisory lock does it where there is no table yet, and beside the version before. Any role can take that lock, so
that of a role which could not change the schema is ignored. Where there is a table, its lock is the one that counts.
"""

from typing import Any, LiteralString

import psycopg

from db import advisory_locks
from db.advisory_locks import MIGRATION, Holder
from db.migration_watch import say

TRY = f"SELECT pg_try_advisory_xact_lock({MIGRATION})"
WAIT = f"SELECT pg_advisory_xact_lock({MIGRATION})"
# Only who may write to the table can take or block this; whoever reads it goes on.
MAY_LOCK = "SELECT coalesce(has_table_privilege(to_regclass('alembic_version'), 'UPDATE'), false)"
LOCK = "LOCK TABLE alembic_version IN SHARE ROW EXCLUSIVE MODE"


def take(connection: psycopg.Connection[Any]) -> None:
    """Take the turn until the transaction ends. Waits for others that may change the schema, up to the lock_timeout.

    Prints a line for a stranger's lock. Raises psycopg.Error: LockNotAvailable where it waited in vain.
    """
    if not _value(connection, TRY):
        holders = who_has_it(connection)
        if not holders or any(one.may_do_it for one in holders):
            connection.execute(WAIT)
        else:
            say(f"Ignoring {holders[0]}, which has an advisory lock with our number and no right to change the schema.")
    if _value(connection, MAY_LOCK):
        connection.execute(LOCK)


def who_has_it(connection: psycopg.Connection[Any]) -> list[Holder]:
    """Return the sessions that have the advisory lock. Raises psycopg.Error."""
    rows = connection.execute(advisory_locks.holders(f"number = {MIGRATION}"))
    return [Holder(*row) for row in rows]


def _value(connection: psycopg.Connection[Any], statement: LiteralString) -> object:
    [value] = connection.execute(statement).fetchone() or [None]
    return value
