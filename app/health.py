"""Is this process alive, can it take webhooks, and what has it counted? The routes /health/… and /metrics."""

from typing import Any

from litestar import MediaType, Request, Response, get
from litestar.datastructures import State
from sqlalchemy.ext.asyncio import AsyncEngine

from app import stopping
from app.webhook import openapi
from app.webhook.problems import Refusal
from db import engine as database
from db import failures, schema
from otel.metrics import exposition


@get("/health/live", sync_to_thread=False)
def live() -> dict[str, str]:
    """Answer 200 while the process runs."""
    return {"status": "live"}


@get(
    "/health/ready",
    responses={503: openapi.refusal(503, "Postgres does not answer or takes no writes, or its schema is behind.")},
)
async def ready(state: State) -> dict[str, str]:
    """Answer 200 when Postgres answers, takes writes, is not behind, and no signal has come; else 503 and why."""
    if stopping.has_begun():
        raise Refusal(503, "The server is stopping: send to another one.")
    found = await _revision(state.engine)
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


def _sentence(words: str) -> str:
    return f"{words[0].upper()}{words[1:]}."


async def _revision(engine: AsyncEngine) -> str | None:
    """Return the schema's revision. Raises Refusal where Postgres cannot take a webhook."""
    try:
        async with database.connection(engine) as connection:
            await database.require_writes(connection)
            return await schema.current(connection)
    except failures.DatabaseError as error:
        raise Refusal(503, f"{failures.explain(error)}.") from error
