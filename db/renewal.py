"""Which sessions of a pool are no good any more, and how are they replaced?

After a failover a pool would keep sessions of what is a standby now, and after a firewall forgot its connections,
sessions that never answer. What one session shows ends those as old as it, and the next statement runs on a new one.
"""

import time
import weakref
from typing import Any

import asyncpg
import sqlalchemy as sa
from sqlalchemy.exc import DisconnectionError

from db import failures

FIRST_PAUSE = 1.0  # seconds from one renewal of a pool to the next
LONGEST_PAUSE = 10.0  # seconds, which it doubles up to while renewing does not help
UNUSED_SECONDS = 5.0  # after which a session is asked whether it still answers, before it is used
ASK_SECONDS = 1.0  # that it may take for its answer: a webhook waits for it
LONGEST_LIFE = 1800  # seconds; then a session is replaced before it is used
KEY = "session"  # of a session in the `info` of SQLAlchemy's connection


class Session:
    """One session of a pool."""

    def __init__(self, driver: Any, renewal: "Renewal") -> None:  # noqa: ANN401  (asyncpg has no types)
        self.driver, self.renewal = driver, renewal
        self.generation = renewal.generation
        self.unused_since: float | None = None  # by the monotonic clock; None while it is used

    def is_to_end(self, error: BaseException) -> bool:
        """Return True if no statement is to follow `error` on the session; where it is due, renew its pool too."""
        if not failures.ends_session(error):
            return False
        is_due = self.renewal.renew_if_due(self.generation)
        return is_due or not failures.is_read_only(error) or self.generation < self.renewal.generation


class Renewal:
    """The sessions of one pool by generation. A renewal begins the next one and ends the idle sessions before it.

    Sessions in use end when their statement has ended. While each new session is read-only too, only the session that
    failed is replaced: a Postgres that takes no writes for a minute costs a few sessions, and none for each webhook.
    """

    def __init__(self) -> None:
        self.generation = 0
        self._sessions: weakref.WeakSet[Session] = weakref.WeakSet()
        self._newest_is_read_only = False
        self._pause = FIRST_PAUSE
        self._next = 0.0  # by the monotonic clock; no renewal is due before

    def watch(self, engine: sa.Engine) -> None:
        """Watch the sessions that the pool of `engine` opens from now on."""
        for name, listener in (("connect", self._opened), ("checkout", self._used), ("checkin", self._unused)):
            sa.event.listen(engine, name, listener)

    def renew(self) -> None:
        """End every idle session now, and every other one when its statement has ended."""
        self.generation += 1
        for session in list(self._sessions):
            if session.generation < self.generation and session.unused_since is not None:
                session.driver.terminate()

    def renew_if_due(self, generation: int) -> bool:
        """Renew the pool over a session of `generation`; return False if that was done before, or too lately."""
        now = time.monotonic()
        if generation < self.generation or now < self._next:
            return False
        helped = now > self._next + LONGEST_PAUSE  # since the last renewal nothing failed for as long
        self._pause = FIRST_PAUSE if helped else min(2 * self._pause, LONGEST_PAUSE)
        self._next = now + self._pause
        if not self._newest_is_read_only:
            self.renew()
        return True

    def _opened(self, connection: Any, record: Any) -> None:  # noqa: ANN401  (SQLAlchemy's, of the driver)
        is_read_only = _is_read_only(connection.driver_connection)
        if self._newest_is_read_only and not is_read_only:
            self.renew()
            self._next = 0.0
        self._newest_is_read_only = is_read_only
        record.info[KEY] = session = Session(connection.driver_connection, self)
        self._sessions.add(session)

    def _used(self, connection: Any, record: Any, _proxy: object) -> None:  # noqa: ANN401
        """Have the pool replace a session that is closed, of a former generation, or does not answer any more."""
        session: Session = record.info[KEY]
        since, session.unused_since = session.unused_since, None
        if session.driver.is_closed() or session.generation < self.generation:
            session.driver.terminate()
            raise DisconnectionError
        if since is not None and time.monotonic() - since > UNUSED_SECONDS:
            self._ask(connection, session)

    def _ask(self, connection: Any, session: Session) -> None:  # noqa: ANN401
        try:
            connection.run_async(lambda driver: driver.fetchval("SELECT 1", timeout=ASK_SECONDS))
        except (asyncpg.PostgresError, asyncpg.InterfaceError, OSError) as error:
            session.driver.terminate()
            self.renew_if_due(session.generation)
            raise DisconnectionError from error

    def _unused(self, connection: Any, record: Any) -> None:  # noqa: ANN401
        """End a session of a former generation whose statement has ended."""
        session: Session | None = record.info.get(KEY)
        if connection is None or session is None:
            return
        session.unused_since = time.monotonic()
        if session.generation < self.generation:
            session.driver.terminate()


def _is_read_only(driver: Any) -> bool:  # noqa: ANN401
    """Return True if Postgres reports that the new session takes no writes; a pooler may report nothing."""
    reported = driver.get_settings()
    return "on" in (getattr(reported, name, "") for name in ("in_hot_standby", "default_transaction_read_only"))
