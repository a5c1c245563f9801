"""Which sessions wait for an answer that Postgres gave long ago? A network swallowed it; nothing else would say so.

The worker asks over another session. If Postgres waits for our next statement while we wait for its answer, the session
is dumb: both ends of it are closed, which also frees the rows that it locks.
"""

import time
import weakref
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncEngine

LOST_AFTER = 8.0  # seconds; between two statements of a transaction we take milliseconds, for a large batch two seconds

# Procrastinate's own connector runs these, so their parameters are written for psycopg. A pooler may have given us
# process ids of its own, hence the other conditions. Between the messages of one statement (asyncpg waits for the
# answer to Parse) a session is `active`, and neither statement_timeout nor idle_in_transaction_session_timeout ends it.
OURS = "datname = current_database() AND usename = current_user"
LOST = f"""
SELECT pid FROM pg_stat_activity
WHERE pid = ANY(%(pids)s) AND {OURS} AND wait_event = 'ClientRead' AND (state = 'active' OR state LIKE 'idle in %%')
  AND state_change < now() - interval '{LOST_AFTER} seconds'
"""  # noqa: S608  (composed of constants)
END = f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid = ANY(%(pids)s) AND {OURS}"  # noqa: S608

# Such a session of a process that is frozen would keep its locks for as long: another worker ends it. No statement of
# ours runs for longer than this, so what began before it, and waits for its client, is lost.
STUCK_AFTER, STUCK_EVERY = 35.0, 10.0  # seconds
END_STUCK = f"""
SELECT pg_terminate_backend(pid) FROM pg_stat_activity
WHERE application_name IN ('ticket-inbox server', 'ticket-inbox worker') AND {OURS}
  AND wait_event = 'ClientRead' AND state = 'active' AND state_change < now() - interval '{STUCK_AFTER} seconds'
"""  # noqa: S608  (composed of constants)


class SessionsInUse:
    """The sessions of one pool that are in use, and since when; and those given up, whose locks Postgres may keep."""

    def __init__(self) -> None:
        self._since: weakref.WeakKeyDictionary[Any, float] = weakref.WeakKeyDictionary()
        # A closed session has forgotten its own.
        self._pids: weakref.WeakKeyDictionary[Any, int] = weakref.WeakKeyDictionary()
        self._suspected: set[int] = set()
        self._given_up: set[int] = set()

    def watch(self, engine: AsyncEngine) -> None:
        """Note from now on which sessions of `engine` are in use."""
        sa.event.listen(engine.sync_engine, "checkout", self._taken)
        sa.event.listen(engine.sync_engine, "checkin", self._given_back)
        sa.event.listen(engine.sync_engine, "invalidate", self._invalidated)

    def long_used(self) -> list[int]:
        """Return the process ids, in Postgres, of the sessions that have been in use for LOST_AFTER."""
        until = time.monotonic() - LOST_AFTER
        used = [session for session, since in self._since.items() if since < until and not session.is_closed()]
        return [session.get_server_pid() for session in used]

    def to_end(self, lost: set[int]) -> list[int]:
        """Return the process ids that are to be ended: given up, or `lost` in this look and in the one before it.

        Closes our end of those at once; what waits for their answer fails. One look may come between two messages.
        """
        sure, self._suspected = lost & self._suspected, lost
        for session in list(self._since):
            if not session.is_closed() and session.get_server_pid() in sure:
                session.terminate()
        ended, self._given_up = sure | self._given_up, set()
        return list(ended)

    def _taken(self, connection: Any, _record: object, _proxy: object) -> None:  # noqa: ANN401
        session = connection.driver_connection
        self._since[session] = time.monotonic()
        if not session.is_closed():
            self._pids[session] = session.get_server_pid()

    def _given_back(self, connection: Any, _record: object) -> None:  # noqa: ANN401
        if connection is not None:
            self._since.pop(connection.driver_connection, None)

    def _invalidated(self, connection: Any, _record: object, _error: object) -> None:  # noqa: ANN401
        if pid := self._pids.get(connection.driver_connection):
            self._given_up.add(pid)
