"""How long may a session of psycopg's wait for Postgres? As long as this process says, whatever the network does.

psycopg waits for an answer without a limit. When it is interrupted it asks Postgres, over one more connection, to
cancel the statement, and waits for the answer to both: ten seconds where the network swallows bytes
(`AsyncConnection.wait`, https://github.com/psycopg/psycopg/issues/1371).
"""

import asyncio
import contextlib
import math
import weakref
from collections.abc import AsyncGenerator, Iterator
from contextvars import ContextVar
from typing import Any, ClassVar

import psycopg
from psycopg import waiting
from psycopg.abc import PQGen

INTERVAL = 0.1  # seconds, as psycopg's own
_limit = ContextVar("limit", default=60.0)  # seconds; an operator's statement may take long


@contextlib.contextmanager
def limit(seconds: float) -> Iterator[None]:
    """Set the limit of each statement that this task, and the tasks that it starts, run in the block."""
    token = _limit.set(seconds)
    try:
        yield
    finally:
        _limit.reset(token)


class BoundedSession(psycopg.AsyncConnection[Any]):
    """A session that is closed as soon as a statement gets no answer within the limit, or is interrupted."""

    living: ClassVar["weakref.WeakSet[BoundedSession]"] = weakref.WeakSet()

    def __init__(self, *given: Any, **more: Any) -> None:  # noqa: ANN401  (psycopg's)
        super().__init__(*given, **more)
        self._waits: asyncio.Timeout | None = None
        self.living.add(self)

    async def wait(
        self,
        gen: PQGen[Any],
        interval: float = INTERVAL,
        timeout: float | None = None,  # noqa: ASYNC109  (psycopg's)
    ) -> Any:  # noqa: ANN401
        """Wait for Postgres' answer. Raises ConnectionTimeout if there is none within the limit.

        With a `timeout` only that counts, as psycopg has it: a session that listens has no statement under way.
        """
        try:
            async with asyncio.timeout(_limit.get() if timeout is None else None) as self._waits:
                return await waiting.wait_async(gen, self.pgconn.socket, interval=interval, timeout=timeout)
        except TimeoutError:
            self.pgconn.finish()
            raise psycopg.errors.ConnectionTimeout("no answer in time") from None
        except asyncio.CancelledError:
            if self.pgconn.transaction_status == psycopg.pq.TransactionStatus.ACTIVE:
                self.pgconn.finish()
            raise
        finally:
            self._waits = None

    def notifies(
        self, *, timeout: float | None = None, stop_after: int | None = None
    ) -> AsyncGenerator[psycopg.Notify, None]:
        """Yield notifications, as psycopg does; waiting for one is no statement, and has no limit."""
        return super().notifies(timeout=math.inf if timeout is None else timeout, stop_after=stop_after)

    @classmethod
    def abandon_all(cls) -> None:
        """Close every session of this process at once; a statement under way raises ConnectionTimeout."""
        for session in list(cls.living):
            if session._waits is not None:  # noqa: SLF001  (its own class)
                session._waits.reschedule(0)  # noqa: SLF001
            else:
                session.pgconn.finish()
