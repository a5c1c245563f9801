"""How do Procrastinate's statements reach Postgres? Over a pool in which nothing waits for ever.

Procrastinate's connector has no limit of its own: a session whose peer takes bytes and never answers would keep its
statement, and so the worker, for as long as the process lives.
"""

import asyncio
from typing import TYPE_CHECKING, Any

from procrastinate import PsycopgConnector
from procrastinate.connector import Notify
from psycopg.types.json import set_json_loads

from db import sessions
from db.bounded_session import BoundedSession
from jobs import arguments

if TYPE_CHECKING:
    from collections.abc import Callable

    import psycopg

CHECK_TIMEOUT = 2.0  # seconds for the pool's check of a session before each use; less than jobs.POOL_TIMEOUT
OPEN_TIMEOUT = 10.0  # seconds for the first sessions of a new pool
CLOSE_TIMEOUT = 0.5  # seconds for the pool's own tasks; one that still connects then ends by itself
LISTEN_CHECK = 10.0  # seconds after which a session that listens, and hears nothing, is asked whether it lives


class Connector(PsycopgConnector):
    """Procrastinate's connector on sessions whose every statement has a limit, kept by this process."""

    def __init__(self, **pool_args: Any) -> None:  # noqa: ANN401  (psycopg's)
        super().__init__(**pool_args)
        self.when_dumb: Callable[[], None] = lambda: None  # called when a session does not answer

    async def open_async(self, pool: Any = None) -> None:  # noqa: ANN401  (psycopg_pool's)
        """Open a pool, on new sessions. Raises psycopg.Error or TimeoutError; then none is open.

        Procrastinate alone would take the closed pool for an open one ever after.
        """
        try:
            async with asyncio.timeout(OPEN_TIMEOUT):
                await super().open_async(pool)
        except BaseException:
            await self.close_async()
            raise

    async def close_async(self) -> None:
        """Close the pool, without waiting for what its sessions still wait for."""
        pool, self._async_pool = self._async_pool, None
        if pool is not None:
            await pool.close(CLOSE_TIMEOUT)

    async def abandon(self) -> None:
        """End every session at once; what waits for one raises ConnectorException, and so does what asks for one."""
        if self._async_pool is not None:
            await self._async_pool.close(CLOSE_TIMEOUT)
        BoundedSession.abandon_all()

    async def _create_pool(self, pool_args: dict[str, Any]) -> Any:  # noqa: ANN401  (psycopg_pool's)
        return self._pool_factory(
            **pool_args, connection_class=BoundedSession, configure=_begin, check=self._check, open=False
        )

    async def _check(self, session: "psycopg.AsyncConnection[Any]") -> None:
        """Raise unless the session answers in time. A dumb one takes the statement and seems alive to the kernel."""
        try:
            async with asyncio.timeout(CHECK_TIMEOUT):
                await session.execute("")
        except TimeoutError:
            self.when_dumb()
            raise

    async def _loop_notify(
        self,
        on_notification: Notify,
        connection: "psycopg.AsyncConnection[Any]",
        timeout: float = LISTEN_CHECK,  # noqa: ASYNC109  (Procrastinate's)
    ) -> None:
        await super()._loop_notify(on_notification, connection, timeout)


async def _begin(session: "psycopg.AsyncConnection[Any]") -> None:
    """Have each statement commit by itself: a worker that freezes between two holds no transaction open.

    And have it read the arguments of any job, whatever they are. Raises WrongSessionError.
    """
    set_json_loads(arguments.load, session)
    await session.set_autocommit(True)
    await sessions.check(session)
