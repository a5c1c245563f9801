"""Is this process alive, can it take webhooks, and what has it counted? The routes /health/… and /metrics."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from litestar import MediaType, Request, Response, get
from litestar.datastructures import State
from sqlalchemy.ext.asyncio import AsyncEngine

from app import background, stopping
from app.readiness import this_process
from app.webhook import openapi
from app.webhook.problems import Refusal
from db import engine as database
from db import failures, notifications, schema
from otel.metrics import exposition

PROBE_SECONDS = 2.0  # that a probe waits for Postgres: it is answered within 3
LOOK_SECONDS = 5.0  # that a look may take: the next one may succeed on a new session
AGAIN_AFTER = 1.0  # seconds between two looks at the start


class Looks:
    """Looks at Postgres and the schema, one at a time: probes that come meanwhile wait for the same look."""

    def __init__(self, engine: AsyncEngine) -> None:
        self.engine = engine
        self._look: asyncio.Task[str | None] | None = None
        self._waits_for_pool = False

    async def revision(self) -> str | None:
        """Return the schema's revision. Raises Refusal where Postgres cannot take a webhook, or has not answered yet.

        Interrupting a look may take seconds, as of a session that nobody answers on: the probe does not wait for that.
        """
        if self._look is None or self._look.done():
            self._look = asyncio.create_task(self._bounded())
            self._look.add_done_callback(lambda look: look.cancelled() or look.exception())  # all probes may have left
        look = self._look  # another probe may begin the next one before this goes on
        done, _ = await asyncio.wait({look}, timeout=PROBE_SECONDS)
        if not done:
            raise Refusal(503, f"{failures.explain(self._late())}.")
        return look.result()

    async def end(self) -> None:
        """End the look that is under way."""
        if self._look:
            self._look.cancel()
            await asyncio.wait({self._look}, timeout=LOOK_SECONDS)

    async def _bounded(self) -> str | None:
        try:
            async with asyncio.timeout(LOOK_SECONDS):
                return await self._revision()
        except TimeoutError:
            raise Refusal(503, f"{failures.explain(self._late())}.") from None

    async def _revision(self) -> str | None:
        self._waits_for_pool = True
        try:
            async with database.connection(self.engine) as connection:
                self._waits_for_pool = False
                await database.require_writes(connection)
                await notifications.require_room(connection)
                return await schema.current(connection)
        except failures.DatabaseError as error:
            raise Refusal(503, f"{failures.explain(error)}.") from error

    def _late(self) -> Exception:
        """Return the error of a look that takes too long: all connections may be in use, or Postgres is silent."""
        if self._waits_for_pool and database.is_used_up(self.engine):
            return failures.PoolUsedUpError("none became free in time")
        return TimeoutError()


@asynccontextmanager
async def looking(looks: Looks) -> AsyncIterator[None]:
    """Look once a second until the block ends, or this process is ready; note what is seen."""

    async def look_on() -> None:
        while not this_process.was_ready:
            await _note(looks)
            await asyncio.sleep(AGAIN_AFTER)
        await asyncio.Event().wait()

    try:
        async with background.running(look_on()):
            yield
    finally:
        await looks.end()


@get("/health/live", sync_to_thread=False)
def live() -> dict[str, str]:
    """Answer 200 while the process runs."""
    return {"status": "live"}


@get(
    "/health/ready",
    responses={503: openapi.refusal(503, "Postgres does not answer, takes no write or job, or its schema is behind.")},
)
async def ready(state: State) -> dict[str, str]:
    """Answer 200 when Postgres takes a webhook, its schema is not behind, and no signal has come; else 503 and why."""
    if stopping.has_begun():
        raise Refusal(503, "The server is stopping: send to another one.")
    found = await state.looks.revision()
    if trouble := schema.trouble(found):
        raise Refusal(503, _sentence(trouble))
    newer = schema.newer(found)
    return {"status": "ready", "detail": _sentence(newer)} if newer else {"status": "ready"}


@get("/metrics", media_type=MediaType.TEXT, sync_to_thread=False)
def metrics(request: Request[Any, Any, Any]) -> Response[bytes]:
    """Answer with the metrics, as Prometheus reads them; with exemplars if it asks for OpenMetrics."""
    body, content_type = exposition(request.headers.get("accept", ""))
    # Litestar adds the charset to every text, and Prometheus refuses a content type that has it twice.
    own = content_type.removesuffix("; charset=utf-8") if content_type.startswith("text/") else content_type
    return Response(body, media_type=own)


async def _note(looks: Looks) -> None:
    try:
        this_process.note(schema.trouble(await looks.revision()))
    except Refusal as refusal:
        this_process.note(refusal.detail.removesuffix("."))


def _sentence(words: str) -> str:
    return f"{words[0].upper()}{words[1:]}."
