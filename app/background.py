"""What is done again and again beside the requests? Begun with the server, and ended with it."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Coroutine
from typing import Any


@contextlib.asynccontextmanager
async def running(work: Coroutine[Any, Any, None]) -> AsyncIterator[None]:
    """Run `work`, which has no end of its own, until the block ends."""
    task = asyncio.create_task(work)
    try:
        yield
    finally:
        while not task.done():
            # Once may not be enough: what it calls may lose a cancellation (python/cpython#86296).
            task.cancel()
            await asyncio.wait({task}, timeout=1)
        if not task.cancelled():
            task.result()
