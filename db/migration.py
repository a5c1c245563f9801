"""How does a migration get its locks beside webhooks that must not wait, and when does it end?

All of it is one transaction. A statement that waits for a lock makes all others on that table wait behind it. So after
two seconds the transaction is rolled back, the webhooks go on, and all of it is tried again: docs/decisions/0034.
"""

import contextlib
import math
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import Any, TypeVar

import psycopg
import sqlalchemy as sa
from sqlalchemy.pool import NullPool

from db import failures, parameters, schema_turn, sessions
from db.migration_watch import Blocker, Transaction, Watch, say

NAME = "ticket-inbox migrate"
ANSWER_WITHIN = 10.0  # seconds, for all hosts together
GIVE_UP_AFTER = 600.0  # seconds; a lock that is not free for so long needs a person
# Seconds between two tries: the webhooks that queued behind the first go on, and nothing queues behind us while the
# transactions that were in the way last. As what we saw of them may be wrong, we try once a minute anyway.
PAUSE, PAUSE_AT_MOST = 2.0, 60.0

LOCK_NOT_AVAILABLE, DEADLOCK = "55P03", "40P01"

# These replace the limits of the role or the database, which are meant for other work and would cut a migration.
# The wait for a lock is longer than deadlock_timeout (1 s), after which Postgres makes an autovacuum give way. A
# session whose client is gone must not keep its locks: idle, it ends after 30 s, and in a statement it looks every 5 s
# (which Postgres cannot on Windows).
LIMITS = sa.text("""
SELECT set_config(ours.name, ours.setting, true)
FROM pg_settings JOIN (VALUES ('lock_timeout', '2s'), ('transaction_timeout', '0'),
                              ('idle_in_transaction_session_timeout', '30s'), ('client_connection_check_interval', '5s')
                      ) AS ours (name, setting) USING (name)
WHERE name <> 'client_connection_check_interval' OR version() ~ '(linux|apple|bsd)'
""")
TRANSACTION = sa.text("SELECT pg_backend_pid(), transaction_timestamp(), pg_postmaster_start_time()")
STILL_THERE = sa.text("SELECT count(*) FROM pg_locks WHERE virtualtransaction = ANY(:transactions)")

Returned = TypeVar("Returned")


MigrationError = failures.MigrationError


def run(url: str, act: Callable[[sa.Connection], Returned]) -> Returned:
    """Return what `act` returns, which migrates in the transaction of the connection that it is given.

    `act` is called again after each try that did not get its locks. Prints a line on standard error while it waits.
    Raises MigrationError where the session is lost or the locks are never free, and database errors.
    """
    with contextlib.closing(_open(url)) as session, Watch(url, session) as watch:
        # NullPool: a template database with an open connection cannot be cloned.
        engine = sa.create_engine(
            "postgresql+psycopg://", creator=lambda: session, poolclass=NullPool, isolation_level="READ COMMITTED"
        )
        try:
            with engine.connect() as connection:
                return _in_tries(connection, watch, act)
        except failures.DatabaseError:
            if watch.lost:
                raise MigrationError(watch.lost) from None
            raise


def _open(url: str) -> psycopg.Connection:
    """Return a session that has answered. Raises TimeoutError if none has within ANSWER_WITHIN, or psycopg.Error."""
    opened: Future[psycopg.Connection] = Future()

    def wait_for_answer() -> None:
        try:
            with contextlib.ExitStack() as stack:
                session = stack.enter_context(contextlib.closing(psycopg.connect(_conninfo(url))))
                sessions.check_sync(session)  # a pooler accepts a session before it has one of Postgres
                opened.set_result(session)  # raises if nobody waits for it any more
                stack.pop_all()
        except BaseException as error:  # noqa: BLE001  (the other thread raises it)
            if not opened.cancelled():
                opened.set_exception(error)

    threading.Thread(target=wait_for_answer, daemon=True).start()
    try:
        return opened.result(ANSWER_WITHIN)
    finally:
        opened.cancel()


def _conninfo(url: str) -> str:
    """Return the connection string; a silent host takes its share of the time, so that the next has its own."""
    given = sessions.conninfo(url, NAME, statement_timeout=0)
    hosts = sessions.hosts_of(parameters.complete(url))
    share = max(2, math.floor(ANSWER_WITHIN / len(hosts)))  # 2 is the least that libpq takes
    limit = min(share, int(psycopg.conninfo.conninfo_to_dict(given)["connect_timeout"] or share))
    return psycopg.conninfo.make_conninfo(given, connect_timeout=limit)


def _in_tries(connection: sa.Connection, watch: Watch, act: Callable[[sa.Connection], Returned]) -> Returned:
    """Call `act` in a transaction until it gets its locks. Raises MigrationError, database errors."""
    give_up_at, say_at, tried = time.monotonic() + GIVE_UP_AFTER, 0.0, False
    while True:
        try:
            return _try(connection, watch, act)
        except failures.DatabaseError as error:
            if failures.sqlstate(error) not in (LOCK_NOT_AVAILABLE, DEADLOCK):
                raise
        blockers = watch.take_blockers()
        if time.monotonic() > give_up_at:
            raise MigrationError(_gave_up(blockers))
        if time.monotonic() > say_at and (blockers or tried):  # the watch may still have been connecting
            say_at = time.monotonic() + PAUSE_AT_MOST
            say(f"Waiting for {_named(blockers)}: it has a lock that the migration needs. Webhooks go on meanwhile.")
        tried = True
        _pause(connection, blockers)


def _try(connection: sa.Connection, watch: Watch, act: Callable[[sa.Connection], Returned]) -> Returned:
    """Call `act` in one transaction. Raises what it raises."""
    try:
        with connection.begin():
            _set_limits(connection)
            watch.transaction = Transaction(*connection.execute(TRANSACTION).one())
            session: Any = connection.connection.driver_connection  # psycopg's
            schema_turn.take(session)
            return act(connection)
    finally:
        watch.transaction = None


def _set_limits(connection: sa.Connection) -> None:
    """Set the limits of this transaction; a session's would stay behind in a pooler."""
    connection.execute(sa.text("SET LOCAL statement_timeout = 0"))
    connection.execute(LIMITS)


def _pause(connection: sa.Connection, blockers: Sequence[Blocker]) -> None:
    """Wait until the transactions that were in the way have ended, for PAUSE to PAUSE_AT_MOST seconds."""
    transactions = [one.transaction for one in blockers]
    give_up_at = time.monotonic() + PAUSE_AT_MOST
    time.sleep(PAUSE)
    while transactions and time.monotonic() < give_up_at:
        with connection.begin():
            _set_limits(connection)
            if not connection.scalar(STILL_THERE, {"transactions": transactions}):
                return
        time.sleep(1)


def _gave_up(blockers: Sequence[Blocker]) -> str:
    ending = " or ".join(f"`SELECT pg_terminate_backend({one.pid})`" for one in blockers if one.pid)
    cure = f"end it ({ending})" if ending else "end it"
    waited = f"its locks were not free for {GIVE_UP_AFTER / 60:.0f} min"
    return f"{waited}, because of {_named(blockers)}: {cure}, or migrate again at a quieter time. Nothing was changed"


def _named(blockers: Sequence[Blocker]) -> str:
    return " and ".join(map(str, blockers)) or "another session"
