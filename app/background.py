"""How does a task run in the background? It is started with the block that needs it, and ended with it."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from typing import Any

LAST_WRITE = 1.0  # seconds that the end of a server waits for its last counts to be written


@contextlib.asynccontextmanager
async def running(work: Coroutine[Any, Any, None]) -> AsyncIterator[None]:
    """Run `work`, which does not end by itself, until the block ends. Raises what `work` raised."""
    task = asyncio.create_task(work)
    try:
        yield
    finally:
        while not task.done():
            # One cancellation may not be enough: what `work` calls may lose it (python/cpython#86296).
            task.cancel()
            await asyncio.wait({task}, timeout=1)
        if not task.cancelled():
            task.result()


@contextlib.asynccontextmanager
async def writing(work: Coroutine[Any, Any, None], write: Callable[[], Awaitable[None]]) -> AsyncIterator[None]:
    """Run `work`, which writes now and then, until the block ends; `write` the last of it then, if that is quick."""
    async with running(work):
        yield
    with contextlib.suppress(Exception):  # the process ends, and what it could not write ends with it
        async with asyncio.timeout(LAST_WRITE):
            await write()
