"""How does an inbox row become a ticket in ticket_history? A batch at a time, in one commit."""

import asyncio
import time
from collections.abc import Sequence
from typing import Annotated

from msgspec import Meta
from procrastinate import JobContext
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from db import engine as database
from db import inbox, queue
from db.inbox import ClaimedRow, Outcome
from jobs import app, arguments, engine
from jobs.batch_telemetry import Batch, Job
from jobs.decode import decode
from jobs.retry import Backoff
from jobs.store import store

SLICE = 1.0  # seconds for which a job goes on taking over jobs that wait, instead of their being fetched one by one
LONG_BYTES = 1024 * 1024  # of a batch's payloads; more are decoded in a thread
InboxId = Annotated[int, Meta(ge=1, le=2**63 - 1)]


class Arguments(arguments.Arguments, frozen=True, kw_only=True):
    """What `promote` takes."""

    takes = "inbox_ids, a list of whole numbers"
    inbox_ids: list[InboxId]


@app.task(name=queue.PROMOTE, queue=queue.PROMOTE, retry=Backoff(), pass_context=True)
async def promote(context: JobContext, /, **given: object) -> None:
    """Promote those of the rows `inbox_ids` that are pending; running it again does nothing."""
    inbox_ids: Sequence[int] = arguments.read(Arguments, given).inbox_ids
    # Earlier tries are not counted in the inbox, because each was rolled back as a whole.
    job = Job(context.job.id, context.job.attempts + 1)
    cursor = queue.TakeOverCursor(job.id or 0, context.job.priority)
    deadline = time.monotonic() + SLICE
    while True:
        await promote_batch(engine(), inbox_ids, job, cursor)
        if not cursor.taken or time.monotonic() >= deadline:
            return
        inbox_ids = []  # this batch took over other jobs' rows, and more jobs may wait by now


async def promote_batch(
    engine: AsyncEngine,
    inbox_ids: Sequence[int],
    job: Job = Job(),  # noqa: B008
    cursor: queue.TakeOverCursor | None = None,
) -> list[Outcome]:
    """Promote the pending rows of `inbox_ids` in one commit, and return the outcome of each.

    With a `cursor` it also takes over the rows of other jobs, up to the size of one job; but not in a job that is
    retried, which may itself be what fails. A row that cannot be promoted is `failed` with its reason, alone. Raises
    those errors of Postgres that no value caused; then nothing was changed.
    """
    room = queue.JOB_ROWS - len(inbox_ids) if job.tries == 1 else 0
    with Batch(job) as batch:
        async with database.transaction(engine) as connection:
            taken = await queue.take_over(connection, cursor, room) if cursor and room > 0 else []
            batch.rows = await inbox.claim(connection, [*inbox_ids, *taken])
            batch.outcomes = await promote_rows(connection, batch.rows, job)
    return batch.outcomes


async def promote_rows(connection: AsyncConnection, rows: Sequence[ClaimedRow], job: Job) -> list[Outcome]:
    """Store the tickets of `rows`, which this transaction claimed, mark the rows, and return the outcome of each."""
    # Decoding long HTML takes a while, and other jobs and the heartbeat share this thread.
    is_long = sum(len(row.payload) for row in rows) > LONG_BYTES
    events, refused = await asyncio.to_thread(decode, rows) if is_long else decode(rows)
    outcomes = refused + await store(connection, events)
    if outcomes:
        await inbox.mark(connection, outcomes, job.id, job.tries)
    return outcomes
