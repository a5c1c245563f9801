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

# Procrastinate's own connector runs this, so its parameters are written for psycopg. A pooler may have given us process
# ids of its own, hence the other conditions.
END_LOST = f"""
SELECT pid, pg_terminate_backend(pid) FROM pg_stat_activity
WHERE pid = ANY(%(pids)s) AND state LIKE 'idle in transaction%%'
  AND state_change < now() - interval '{LOST_AFTER} seconds' AND datname = current_database() AND usename = current_user
"""  # noqa: S608  (composed of constants)


class SessionsInUse:
    """The sessions of one pool that are in use, and since when."""

    def __init__(self) -> None:
        self._since: weakref.WeakKeyDictionary[Any, float] = weakref.WeakKeyDictionary()

    def watch(self, engine: AsyncEngine) -> None:
        """Note from now on which sessions of `engine` are in use."""
        sa.event.listen(engine.sync_engine, "checkout", self._taken)
        sa.event.listen(engine.sync_engine, "checkin", self._given_back)

    def long_used(self) -> list[int]:
        """Return the process ids, in Postgres, of the sessions that have been in use for LOST_AFTER."""
        until = time.monotonic() - LOST_AFTER
        used = [session for session, since in self._since.items() if since < until and not session.is_closed()]
        return [session.get_server_pid() for session in used]

    def close(self, pids: list[int]) -> None:
        """Close the sessions with these process ids at once; what waits for their answer fails."""
        for session in list(self._since):
            if not session.is_closed() and session.get_server_pid() in pids:
                session.terminate()

    def _taken(self, connection: Any, _record: object, _proxy: object) -> None:  # noqa: ANN401
        self._since[connection.driver_connection] = time.monotonic()

    def _given_back(self, connection: Any, _record: object) -> None:  # noqa: ANN401
        if connection is not None:
            self._since.pop(connection.driver_connection, None)
