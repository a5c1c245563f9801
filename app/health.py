"""Is this process alive, and can it take webhooks?"""

from litestar import get
from litestar.datastructures import State
from sqlalchemy.ext.asyncio import AsyncEngine

from app.problems import Refusal
from db import engine as database
from db import schema


@get("/health/live", sync_to_thread=False)
def live() -> dict[str, str]:
    """Answer 200 while the process runs."""
    return {"status": "live"}


@get("/health/ready")
async def ready(state: State) -> dict[str, str]:
    """Answer 200 when Postgres answers and the schema is at head, else 503 and why."""
    found = await _revision(state.engine)
    if found != state.schema_head:
        raise Refusal(
            503,
            f"The schema is at {found or 'nothing'}, but this version needs {state.schema_head}: "
            "run `ticket-inbox migrate`.",
        )
    return {"status": "ready"}


async def _revision(engine: AsyncEngine) -> str | None:
    try:
        async with database.connection(engine) as connection:
            return await schema.current(connection)
    except database.DatabaseError as error:
        raise Refusal(503, f"Postgres does not answer: {database.reason(error)}.") from error
