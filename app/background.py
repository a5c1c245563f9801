"""How does a task run in the background? It is started with the block that needs it, and ended with it."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Coroutine
from typing import Any


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
