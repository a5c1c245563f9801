"""Does a migration's session still work, and for whom does it wait? A second session looks, once a second.

The migration's own session cannot tell a long statement from a network that swallows its answer. The second session
sees in pg_stat_activity what Postgres does with the statement.
"""

import asyncio
import contextlib
import os
import socket
import sys
import threading
import time
from datetime import UTC, datetime
from typing import Any, NamedTuple, Self

import msgspec
import psycopg
from psycopg.pq import TransactionStatus

from db import failures
from db.sessions import Connector
from otel.escaped import printable

EVERY = 1.0  # seconds; a migration waits for a lock for two, and the look must fall into them
LOOK_WITHIN = 5.0  # seconds, for a look and for its session
# Seconds for which the migration may wait for an answer while Postgres does nothing for it; and while Postgres does not
# answer the second session either.
LOST_AFTER, SILENT_AFTER = 10.0, 60.0
SAY_EVERY = 60.0  # seconds

LOOK = """
SELECT pg_postmaster_start_time() AS server, state, wait_event_type = 'Lock' AS waits,
       CASE WHEN wait_event_type = 'Lock' THEN pg_blocking_pids(pid) END AS blockers
FROM (SELECT) AS one LEFT JOIN pg_stat_activity ON pid = $1
"""

# Behind a pooler, the process may work for another client by now.
TERMINATE = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid = $1 AND xact_start = $2"

# What a role that may not see others' sessions sees of them: process, role, application and virtual transaction.
BLOCKERS = """
SELECT DISTINCT pid, usename, application_name, state, xact_start, virtualtransaction, backend_start
FROM pg_locks LEFT JOIN pg_stat_activity USING (pid)
WHERE pid = ANY($1) OR (pid IS NULL AND 0 = ANY($1) AND virtualtransaction LIKE '-1/%')
"""


class Transaction(NamedTuple):
    """The transaction that migrates: its process, when Postgres began it, and when that server was started."""

    process: int
    began: datetime
    server: datetime


class Blocker(msgspec.Struct, frozen=True):
    """A transaction that holds a lock which the migration needs; its process is 0 if it is a prepared one."""

    pid: int
    role: str | None
    application: str | None
    state: str | None
    began: datetime | None
    transaction: str
    connected: datetime | None = None

    def __str__(self) -> str:
        if not self.pid:
            return "a prepared transaction (see pg_prepared_xacts)"
        known = [f"application {self.application}" if self.application else None]
        known += [f"role {self.role}" if self.role else None, self.state]
        if self.began:
            known.append(f"its transaction began at {self.began.astimezone(UTC):%H:%M:%S} UTC")
        elif self.connected:  # a lock of a session needs no transaction
            known.append(f"connected since {self.connected.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC")
        return f"process {self.pid} ({', '.join(one for one in known if one)})"


def say(line: str) -> None:
    """Print a line for the operator; standard output is for results."""
    sys.stderr.write(f"{printable(line)}\n")
    sys.stderr.flush()


class Watch:
    """Watches the migration in `session` during a `with` block, in a thread. `lost` says why it ended that session."""

    def __init__(self, url: str, session: psycopg.Connection) -> None:
        self._connector = Connector(url, "ticket-inbox migrate (watch)", LOOK_WITHIN)
        self._session = session
        self._second: Any = None  # asyncpg has no types
        self._seen = False  # the second session has seen the migration's
        self._began = self._fine_at = self._said_at = time.monotonic()
        self._blockers: list[Blocker] = []
        self._blind = 0  # looks in a row that failed
        self._activity = ""
        # A runner without a factory would make its loop the current one of the thread that migrates.
        self._runner = asyncio.Runner(loop_factory=asyncio.new_event_loop)
        self._loop = self._runner.get_loop()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self.transaction: Transaction | None = None  # set while one is open
        self.lost: str | None = None

    def __enter__(self) -> Self:
        self._looking = self._loop.create_task(self._look_on())
        self._thread.start()
        return self

    def __exit__(self, *_error: object) -> None:
        with contextlib.suppress(RuntimeError):  # the loop is closed: the watch has ended the session, and itself
            self._loop.call_soon_threadsafe(self._looking.cancel)
        self._thread.join()

    def take_blockers(self) -> list[Blocker]:
        """Return the transactions for which the last try waited, and forget them."""
        blockers, self._blockers = self._blockers, []
        return blockers

    def _run(self) -> None:
        with self._runner, contextlib.suppress(asyncio.CancelledError):
            self._loop.run_until_complete(self._looking)

    async def _look_on(self) -> None:
        try:
            while not self.lost:
                await asyncio.sleep(EVERY)
                await self._look_or_say_why_not()
                self._say_still()
        finally:
            self._close()
            await asyncio.sleep(0)  # the transport closes its socket in the loop's next round

    async def _look_or_say_why_not(self) -> None:
        try:
            await self._look()
            self._blind = 0
        except failures.DatabaseError as error:
            self._close()
            self._on_blind(error)

    async def _look(self) -> None:
        transaction = self.transaction
        if self._second is None or self._second.is_closed():  # the role may have an idle_session_timeout
            self._second = await self._connector.connect()
        found = await self._second.fetchrow(LOOK, transaction and transaction.process)
        self._activity = "a statement waits for a lock" if found["waits"] else "Postgres is at work"
        if found["blockers"]:
            rows = await self._second.fetch(BLOCKERS, found["blockers"])
            self._blockers = [Blocker(row[0] or 0, *row[1:]) for row in rows]
        if why := self._lost(transaction, found["server"], found["state"]):
            await self._terminate(transaction)
            self._end(why)

    def _lost(self, transaction: Transaction | None, server: object, state: str | None) -> str | None:
        """Return why the session is lost: it waits, and Postgres has done nothing for it for LOST_AFTER seconds."""
        self._seen = self._seen or state is not None
        if not self._waits() or (state and not state.startswith("idle")):
            self._fine_at = time.monotonic()
        elif transaction and not self._seen and server != transaction.server:  # one of several hosts, not the same
            self._activity = "a second session does not see whether Postgres is at work"
        elif time.monotonic() - self._fine_at > LOST_AFTER:
            return f"the network lost an answer of Postgres, whose process is {state or 'gone'}"
        return None

    async def _terminate(self, transaction: Transaction | None) -> None:
        """End the transaction in Postgres too, which would keep its locks."""
        if transaction:
            with contextlib.suppress(*failures.DatabaseError):
                await self._second.execute(TERMINATE, transaction.process, transaction.began)

    def _on_blind(self, error: BaseException) -> None:
        """End the session if Postgres has not answered the second one either for SILENT_AFTER seconds."""
        self._blind += 1
        self._activity = f"a second session cannot see whether Postgres is at work ({failures.reason(error)})"
        if failures.sqlstate(error) or not self._waits():  # an answer: Postgres is there, and refuses
            self._fine_at = time.monotonic()
        elif time.monotonic() - self._fine_at > SILENT_AFTER:
            self._end("Postgres does not answer any more, nor does it answer a second session")
        elif self._blind == 2:  # noqa: PLR2004  (the session broke, and then a new one did not come)
            reason = failures.reason(error)
            say(f"Postgres does not answer a second session ({reason}): waiting for {SILENT_AFTER:.0f} s.")

    def _waits(self) -> bool:
        """Return True while the migration waits for the answer to a statement."""
        return self._session.info.transaction_status == TransactionStatus.ACTIVE

    def _end(self, why: str) -> None:
        """End the migration's session: its thread sees the end of the stream, as if Postgres had closed it."""
        self.lost = f"{why}: migrate again, which does what is missing"
        with contextlib.suppress(OSError), socket.socket(fileno=os.dup(self._session.fileno())) as stream:
            stream.shutdown(socket.SHUT_RDWR)

    def _say_still(self) -> None:
        if self.transaction and time.monotonic() - self._said_at > SAY_EVERY:
            self._said_at = time.monotonic()
            say(f"Still migrating after {(self._said_at - self._began) / 60:.0f} min: {self._activity}.")

    def _close(self) -> None:
        if self._second:
            self._second.terminate()
            self._second = None
