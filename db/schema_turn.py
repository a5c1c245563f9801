"""Whose turn is it to change the schema or the roles? One command's at a time.

An advisory lock does it where there is no table yet, and beside the version before. Any role can take that lock, so
that of a role which could not change the schema is ignored. Where there is a table, its lock is the one that counts.
"""

import time
from collections.abc import Sequence
from typing import Any, LiteralString

import psycopg

from db import advisory_locks
from db.advisory_locks import MIGRATION, Holder
from db.migration_watch import Blocker, say

TRY = f"SELECT pg_try_advisory_xact_lock({MIGRATION})"
WAIT = f"SELECT pg_advisory_xact_lock({MIGRATION})"
# Only who may write to the table can take this or wait for it to end; all others go on. No stronger one: a role without
# any right locks a table as for writing, by `PREPARE … AS DELETE FROM` in a transaction, and this is free beside that.
MAY_LOCK = "SELECT coalesce(has_table_privilege(to_regclass('alembic_version'), 'UPDATE'), false)"
LOCK = "LOCK TABLE alembic_version IN SHARE UPDATE EXCLUSIVE MODE"

# Others' sessions: the process, role and application are visible to every role.
USERS = """
SELECT DISTINCT pid, CAST(usename AS text), application_name, state, xact_start, virtualtransaction, backend_start
FROM pg_locks LEFT JOIN pg_stat_activity USING (pid)
WHERE locktype = 'relation' AND granted AND pid IS DISTINCT FROM pg_backend_pid()
  AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
  AND relation IN (SELECT to_regclass(name) FROM unnest(CAST(%s AS text[])) AS name)
ORDER BY pid
"""
A_WHILE = 0.2  # seconds; a statement of a webhook's takes milliseconds


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
    rows = connection.execute(advisory_locks.holders(f"number = {MIGRATION} AND granted"))
    return [Holder(*row) for row in rows]


def who_uses(connection: psycopg.Connection[Any], *tables: str) -> list[Blocker]:
    """Return the other transactions that have had a lock on one of `tables` for a while. Raises psycopg.Error."""
    lasting = {one.transaction for one in _users(connection, tables)}
    time.sleep(A_WHILE)
    return [one for one in _users(connection, tables) if one.transaction in lasting]


def _users(connection: psycopg.Connection[Any], tables: Sequence[str]) -> list[Blocker]:
    return [Blocker(row[0] or 0, *row[1:]) for row in connection.execute(USERS, [list(tables)])]


def _value(connection: psycopg.Connection[Any], statement: LiteralString) -> object:
    [value] = connection.execute(statement).fetchone() or [None]
    return value
