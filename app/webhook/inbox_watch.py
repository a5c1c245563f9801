"""How much waits in the inbox? Read every few seconds, so that neither a scrape nor a webhook reads a table for it."""

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Callable

from sqlalchemy.ext.asyncio import AsyncEngine

from app import background
from db import engine as database
from db import failures, inspection
from otel import logs
from otel.metrics import inbox_gauges

POLL_SECONDS = 5.0
_logger = logging.getLogger("ticket_inbox.metrics")


@contextlib.asynccontextmanager
async def kept_fresh(engine: AsyncEngine, on_gauges: Callable[[dict[str, float]], None]) -> AsyncIterator[None]:
    """Keep the inbox's gauges fresh until the block ends, and call `on_gauges` with each reading.

    Without Postgres they grow old, and are then left out.
    """
    async with background.running(_read_forever(engine, on_gauges)):
        yield


async def _read_forever(engine: AsyncEngine, on_gauges: Callable[[dict[str, float]], None]) -> None:
    while True:
        try:
            async with database.connection(engine) as connection:
                gauges = await inspection.read_gauges(database.driver(connection))
            inbox_gauges.set(gauges)
            on_gauges(gauges)
        except Exception as error:  # noqa: BLE001  (whatever it is: the next reading may succeed)
            # That Postgres is away the keyring logs, which reads more often.
            if failures.sqlstate(error) or not isinstance(error, failures.DatabaseError):
                logs.log(_logger, logging.WARNING, "inbox_not_read", error=failures.reason(error))
        await asyncio.sleep(POLL_SECONDS)
