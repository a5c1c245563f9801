"""Who has kept us waiting too long? One look a moment at every connection, instead of a timer for each request."""

import asyncio
import contextlib
import logging
import resource
from collections.abc import AsyncIterator

from app import background
from app.server.connection import LINGER_SECONDS, OPEN, OURS, Connection
from app.settings import Settings
from otel import logs

LOOK_SECONDS = 0.5
OTHER_FILES = 100  # what a server process has open beside its connections
_logger = logging.getLogger("ticket_inbox.server")


@contextlib.asynccontextmanager
async def kept(settings: Settings) -> AsyncIterator[None]:
    """Close connections that are overdue, until the block ends."""
    allow_files(settings.max_connections + settings.server_connections + OTHER_FILES)
    async with background.running(_look_again_and_again()):
        yield


def allow_files(needed: int) -> None:
    """Raise how many files this process may have open; say where that is not allowed.

    With none left, a connection is closed as it comes, and no session of Postgres can be begun.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    unlimited = resource.RLIM_INFINITY
    if soft == unlimited or soft >= needed:
        return
    allowed = needed if hard == unlimited else min(needed, hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (allowed, hard))
    if allowed < needed:
        error = (
            f"MAX_CONNECTIONS takes {needed} open files, the system allows {allowed}: raise its limit, or lower ours"
        )
        logs.log(_logger, logging.WARNING, "files_limited", error=error)


async def _look_again_and_again() -> None:
    loop = asyncio.get_running_loop()
    while True:
        await asyncio.sleep(LOOK_SECONDS)
        now = loop.time()
        late = sum(look(one, now) for one in tuple(OPEN))
        if late:
            logs.log(
                _logger, logging.WARNING, "connections_dropped", connections=late, error="no whole request in time"
            )


def look(one: Connection, now: float) -> bool:
    """Close a connection that is overdue; tell whether it was in the middle of a request."""
    if one.transport.is_closing() and not one.is_lingering:
        one.is_lingering = True
        one.due = min(one.due, now + (LINGER_SECONDS if one.is_half else one.settings.request_timeout_seconds))
    if now <= min(one.due, one.stuck):
        return False
    was_half = one.is_half and not one.is_lingering
    if one.stuck < OURS:
        one.transport.abort()
    else:
        one.expire()
    return was_half
