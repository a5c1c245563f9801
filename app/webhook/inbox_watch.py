"""How much waits in the inbox? Read every few seconds, so that neither a scrape nor a webhook reads a table for it."""

import asyncio
import contextlib
import logging
import time
from collections.abc import AsyncIterator, Callable

from sqlalchemy.ext.asyncio import AsyncEngine

from app import background
from app.readiness import this_process
from db import engine as database
from db import failures, inspection, search_state
from otel import logs
from otel.metrics import inbox_gauges

POLL_SECONDS = 5.0
LOG_SECONDS = 60.0  # between two lines that the inbox cannot be read
_logger = logging.getLogger("ticket_inbox.metrics")


@contextlib.asynccontextmanager
async def kept_fresh(engine: AsyncEngine, on_gauges: Callable[[dict[str, float]], None]) -> AsyncIterator[None]:
    """Keep the inbox's gauges fresh until the block ends, and call `on_gauges` with each reading.

    Without Postgres they grow old, and are then left out.
    """
    async with background.running(_read_forever(engine, on_gauges)):
        yield


async def _read_forever(engine: AsyncEngine, on_gauges: Callable[[dict[str, float]], None]) -> None:
    logged_at = float("-inf")
    while True:
        try:
            async with database.connection(engine) as connection:
                gauges = await inspection.read_gauges(database.driver(connection))
                lag = await search_state.read_lag(database.driver(connection))
            if lag is not None:
                gauges["search_lag_seconds"] = lag
            inbox_gauges.set(gauges)
            on_gauges(gauges)
        except Exception as error:  # noqa: BLE001  (whatever it is: the next reading may succeed)
            logged_at = _log(error, logged_at)
        await asyncio.sleep(POLL_SECONDS)


def _log(error: Exception, logged_at: float) -> float:
    """Log why the inbox cannot be read, once a minute, and return when that was done last.

    That Postgres is away the keyring logs, which reads more often; and why a server is not ready at its start,
    `server_waits` says.
    """
    is_news = failures.sqlstate(error) or not isinstance(error, failures.DatabaseError)
    if not is_news or this_process.is_awaited() or time.monotonic() - logged_at < LOG_SECONDS:
        return logged_at
    logs.log(_logger, logging.WARNING, "inbox_not_read", error=failures.reason(error))
    return time.monotonic()
