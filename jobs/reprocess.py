"""How is a part of the inbox reprocessed at an operator's word? A chunk at a time."""

import logging
import time
from typing import Annotated, Literal

import msgspec
from msgspec import Meta
from procrastinate import JobContext
from procrastinate.exceptions import JobAborted
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from db import engine as database
from db import inbox, queue
from db.inbox import Selection
from jobs import app, arguments, engine, middleware, promote
from jobs.arguments import WrongArgumentsError
from jobs.batch_telemetry import Batch, Job
from jobs.promote import InboxId
from jobs.retry import Backoff, GoesOnError
from otel import logs

SLICE = 1.0  # seconds that a job works before it makes room: a worker may run as few as two jobs at once
CHUNK_BYTES = 8 * 1024 * 1024  # most payload of one chunk, all of which is in memory
WINDOW = 20_000  # ids that one statement looks through, so that none takes long, however few rows match
_logger = logging.getLogger("ticket_inbox.reprocess")


class Progress(msgspec.Struct, frozen=True):
    """How far a job has come: the ids up to `after_id`, of those up to `last_id`, are done; `rows` rows were found."""

    after_id: int
    last_id: int
    rows: int = 0


class Arguments(arguments.Arguments, frozen=True, kw_only=True):
    """What `reprocess` takes; the job itself writes `progress`, so that its next try goes on from there."""

    takes = (
        "inbox_ids, status (pending, promoted, failed or rejected), tenant_id, received_after, received_before "
        "and count_only (true or false)"
    )
    inbox_ids: Annotated[list[InboxId], Meta(min_length=1)] | None = None
    status: Literal["pending", "promoted", "failed", "rejected"] | None = None
    tenant_id: Annotated[str, Meta(min_length=1, max_length=100)] | None = None
    received_after: str | None = None
    received_before: str | None = None
    count_only: bool = False
    progress: Progress | None = None

    def selection(self) -> Selection:
        """Return which rows are selected. Raises WrongArgumentsError for a wrong time, or if nothing selects rows."""
        selection = Selection(
            inbox_ids=None if self.inbox_ids is None else sorted(set(self.inbox_ids)),
            status=self.status,
            tenant_id=self.tenant_id,
            received_after=arguments.moment("received_after", self.received_after),
            received_before=arguments.moment("received_before", self.received_before),
        )
        if selection == Selection():
            names = ", ".join(Selection.__struct_fields__)
            raise WrongArgumentsError(f"say which rows, by at least one of {names}")
        return selection


@app.task(
    name=queue.REPROCESS,
    queue=queue.REPROCESS,
    priority=queue.REPROCESS_PRIORITY,
    retry=Backoff(),
    pass_context=True,
)
async def reprocess(context: JobContext, /, **given: object) -> None:
    """Promote the selected rows as if they had just come in; `rejected` ones are validated again.

    Each chunk is one commit, which also writes into the job how far it has come. After a second of chunks the job
    queues again, so that a fresh webhook never waits for all of them. When an operator cancels it, the chunks that
    were committed stay. Fails if no row matches. With `count_only` it only counts, writes the number, and aborts.
    """
    ends = time.monotonic() + SLICE
    wanted = arguments.read(Arguments, given)
    selection = wanted.selection()
    progress = wanted.progress or await _start(selection)
    step = count_chunk if wanted.count_only else promote_chunk
    while progress.after_id < progress.last_id:
        if time.monotonic() > ends:
            raise GoesOnError
        progress = await step(engine(), selection, progress, context.job.id)
    if not progress.rows:
        raise WrongArgumentsError("no inbox row matches; nothing was changed")
    logs.log(
        _logger,
        logging.INFO,
        "reprocess_counted" if wanted.count_only else "reprocess_ended",
        job_id=context.job.id,
        rows=progress.rows,
    )
    if wanted.count_only:
        # A job that succeeds is deleted, and the number with it; so this one aborts.
        await middleware.write_outcome(context, f"{progress.rows} inbox rows match; nothing was changed")
        raise JobAborted


async def _start(selection: Selection) -> Progress:
    """Return the ids to go through. Rows that come in from now on are left out: the job might never end."""
    async with database.connection(engine()) as connection:
        lowest, highest = await inbox.bounds(connection)
    if selection.inbox_ids:
        lowest, highest = max(lowest, selection.inbox_ids[0]), min(highest, selection.inbox_ids[-1])
    return Progress(lowest - 1, highest)


async def promote_chunk(
    engine: AsyncEngine, selection: Selection, progress: Progress, job_id: int | None = None
) -> Progress:
    """Promote the next chunk of the selected rows, and write the job's progress in the same commit; return it."""
    job = Job(job_id, task=queue.REPROCESS)
    until_id = await _window(engine, selection, progress)
    with Batch(job) as batch:
        async with database.transaction(engine) as connection:
            batch.rows = rows = await inbox.claim_selected(
                connection, selection, progress.after_id, until_id, queue.JOB_ROWS, CHUNK_BYTES
            )
            batch.outcomes = await promote.promote_rows(connection, rows, job)
            # A chunk that is not full has all that the window holds.
            is_full = len(rows) == queue.JOB_ROWS or sum(len(row.payload) for row in rows) >= CHUNK_BYTES
            # Rows that another worker has locked are being promoted, so they count as found.
            found = len(rows) or await inbox.count_selected(connection, selection, progress.after_id, until_id)
            progress = Progress(rows[-1].id if is_full else until_id, progress.last_id, progress.rows + found)
            await _save(connection, job_id, progress)
    return progress


async def count_chunk(
    engine: AsyncEngine, selection: Selection, progress: Progress, job_id: int | None = None
) -> Progress:
    """Count the selected rows of the next window, and write the job's progress; return it."""
    until_id = await _window(engine, selection, progress)
    async with database.connection(engine) as connection:
        count = await inbox.count_selected(connection, selection, progress.after_id, until_id)
        progress = Progress(until_id, progress.last_id, progress.rows + count)
        await _save(connection, job_id, progress)
    return progress


async def _save(connection: AsyncConnection, job_id: int | None, progress: Progress) -> None:
    await queue.note(connection, job_id, "progress", msgspec.json.encode(progress).decode())


async def _window(engine: AsyncEngine, selection: Selection, progress: Progress) -> int:
    """Return the last id that the next statement looks at: WINDOW ids, from the next that exists, or a job's given."""
    if selection.inbox_ids is None:
        async with database.connection(engine) as connection:
            first = await inbox.next_id(connection, progress.after_id)
        return progress.last_id if first is None else min(first - 1 + WINDOW, progress.last_id)
    left = [inbox_id for inbox_id in selection.inbox_ids if inbox_id > progress.after_id][: queue.JOB_ROWS]
    return min(left[-1], progress.last_id)
