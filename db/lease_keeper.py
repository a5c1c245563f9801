"""How does a command renew its leases? In a thread, on a session of its own: a pipe that it reads may be silent.

A worker renews its leases with its heartbeat instead (db/workers.py).
"""

import contextlib
import threading
from collections.abc import AsyncIterator
from typing import Self

import psycopg
from sqlalchemy.ext.asyncio import AsyncConnection

from db import failures, leases
from db.advisory_locks import Lock
from db.leases import EXPIRY, RENEWED_EVERY, RENEWED_SESSIONS, Lease
from db.migration_watch import say
from db.sessions import open_sync

# SKIP LOCKED: a statement that the lease is the fence of renews it, too.
RENEW = f"""
WITH ended AS (
  DELETE FROM leases
  WHERE name IN (SELECT name FROM leases WHERE owner = ANY(CAST(%(ended)s AS text[])) FOR UPDATE SKIP LOCKED)
)
UPDATE leases SET expires_at = {EXPIRY}, sessions = {RENEWED_SESSIONS}
WHERE name IN (SELECT name FROM leases WHERE owner = ANY(CAST(%(has)s AS text[])) FOR UPDATE SKIP LOCKED)
"""  # noqa: S608  (composed of constants)
STATEMENT_TIMEOUT = 5.0  # seconds
ENDED_WITHIN = 2.0  # seconds; a thread that waits for a silent Postgres ends with the process


class LeaseKeeper:
    """Renews the leases of its `owners` during a `with` block."""

    def __init__(self, url: str) -> None:
        self.owners = leases.Owners()
        self._url = url
        self._ended = threading.Event()
        self._session: psycopg.Connection | None = None
        self._thread = threading.Thread(target=self._keep, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_error: object) -> None:
        self._ended.set()
        self._thread.join(ENDED_WITHIN)

    def _keep(self) -> None:
        is_ended = False
        while not is_ended:
            is_ended = self._ended.wait(RENEWED_EVERY)
            if self.owners.has or self.owners.ended:
                with contextlib.suppress(*failures.DatabaseError):  # the next try has a new session
                    self._renew()
        if self._session:
            self._session.close()

    def _renew(self) -> None:
        if self._session is None or self._session.closed:
            self._session = open_sync(self._url, "ticket-inbox command (lease)", STATEMENT_TIMEOUT)
            self._session.autocommit = True
        try:
            self._session.execute(RENEW, {"has": list(self.owners.has), "ended": list(self.owners.ended)})
        except psycopg.Error:
            self._session.close()
            raise


@contextlib.asynccontextmanager
async def held(url: str, connection: AsyncConnection, name: str, old: Lock | None = None) -> AsyncIterator[Lease]:
    """Take a lease for the block, and renew it. Prints on standard error whose lock was ignored. Raises HeldError."""
    with LeaseKeeper(url) as keeper:
        async with leases.held(connection, name, keeper.owners, old) as lease:
            for holder in lease.ignored:
                lock = f"which {holder.has} an advisory lock with our number, and has no right to our work"
                say(f"Warning: ignoring {holder}, {lock}")
            yield lease
