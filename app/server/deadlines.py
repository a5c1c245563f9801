"""Which peers are past their deadline? One sweep twice a second closes them, instead of a timer for each request."""

import asyncio
import contextlib
import logging
import resource
from collections.abc import AsyncIterator

from app import background
from app.server.connection import NEVER, Connection, State
from app.settings import Settings
from otel import logs

SWEEP_SECONDS = 0.5
OTHER_FILES = 100  # that a server process has open beside its connections
_logger = logging.getLogger("ticket_inbox.server")


@contextlib.asynccontextmanager
async def kept(settings: Settings) -> AsyncIterator[None]:
    """Close connections whose peers are past their deadline, until the block ends."""
    allow_files(settings.max_connections + settings.server_connections + OTHER_FILES)
    async with background.running(_sweep_forever()):
        yield


def allow_files(needed: int) -> None:
    """Raise how many files this process may have open; log a warning where the system does not allow as many.

    With none left, the kernel closes a connection as it comes, and no session of Postgres can be begun.
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


async def _sweep_forever() -> None:
    loop = asyncio.get_running_loop()
    while True:
        await asyncio.sleep(SWEEP_SECONDS)
        now = loop.time()
        late = sum(close_overdue(one, now) for one in tuple(Connection.open))
        if late:
            logs.log(
                _logger, logging.WARNING, "connections_dropped", connections=late, error="no whole request in time"
            )


def close_overdue(one: Connection, now: float) -> bool:
    """Close a connection that is past its deadline; return True if it was in the middle of a request."""
    if one.transport.is_closing() and one.state is not State.LINGERING:
        one.linger()
    if now <= min(one.read_by, one.write_by):
        return False
    was_partial = one.state in (State.READING, State.REFUSING)
    if one.write_by < NEVER:
        one.transport.abort()
    else:
        one.expire()
    return was_partial
