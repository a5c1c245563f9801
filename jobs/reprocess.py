"""How is a part of the inbox reprocessed at an operator's word? A chunk at a time."""

import logging
import time
from collections import Counter
from collections.abc import Iterable
from typing import Annotated, Literal

import msgspec
from msgspec import Meta
from procrastinate import JobContext
from procrastinate.exceptions import JobAborted
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from db import engine as database
from db import queue, selection
from db.inbox import Outcome
from db.selection import Selection, Window
from jobs import app, arguments, engine, middleware, promote
from jobs.arguments import WrongArgumentsError
from jobs.batch_telemetry import Batch, Job
from jobs.promote import InboxId
from jobs.retry import Backoff, GoesOnError
from otel import logs

SLICE = 1.0  # seconds that a job works before it makes room: a worker may run as few as two jobs at once
CHUNK_BYTES = 8 * 1024 * 1024  # most payload of one chunk, all of which is in memory
Id = Annotated[int, Meta(ge=-1, le=2**63 - 1)]  # one less than the first row's may be none
_logger = logging.getLogger("ticket_inbox.reprocess")


class Progress(msgspec.Struct, frozen=True):
    """How far a job has come: the ids up to `after_id`, of those up to `last_id`, are done; `rows` rows were found.

    `outcomes` counts what became of them: by action where they were promoted, else by status. Rows that another job was
    promoting are not among these.
    """

    after_id: Id
    last_id: Id
    rows: Annotated[int, Meta(ge=0, le=2**63 - 1)] = 0
    outcomes: dict[str, int] = {}

    def on(self, until_id: int, rows: int, outcomes: Iterable[Outcome] = ()) -> "Progress":
        """Return the progress after a chunk up to `until_id`, in which `rows` were found."""
        counted = Counter(self.outcomes) + Counter(one.action or one.status for one in outcomes)
        return Progress(until_id, self.last_id, self.rows + rows, dict(counted))


class Arguments(arguments.Arguments, frozen=True, kw_only=True):
    """What `reprocess` takes; the job itself writes `progress`, so that its next try goes on from there."""

    takes = (
        "inbox_ids, status (pending, promoted, failed or rejected), tenant_id, ticket_id, received_after, "
        "received_before, count_only and keep (true or false)"
    )
    inbox_ids: Annotated[list[InboxId], Meta(min_length=1)] | None = None
    status: Literal["pending", "promoted", "failed", "rejected"] | None = None
    tenant_id: Annotated[str, Meta(min_length=1, max_length=100)] | None = None
    ticket_id: Annotated[str, Meta(min_length=1)] | None = None
    received_after: str | None = None
    received_before: str | None = None
    count_only: bool = False
    keep: bool = False
    progress: Progress | None = None

    def selection(self) -> Selection:
        """Return which rows are selected. Raises WrongArgumentsError for a wrong time, or if nothing selects rows.

        A ticket's id is another's in another tenant, so it needs the tenant's.
        """
        chosen = Selection(
            inbox_ids=None if self.inbox_ids is None else sorted(set(self.inbox_ids)),
            status=self.status,
            tenant_id=self.tenant_id,
            ticket_id=self.ticket_id,
            received_after=arguments.moment("received_after", self.received_after),
            received_before=arguments.moment("received_before", self.received_before),
        )
        if chosen == Selection():
            names = ", ".join(Selection.__struct_fields__)
            raise WrongArgumentsError(f"say which rows, by at least one of {names}")
        if chosen.ticket_id is not None and chosen.tenant_id is None:
            raise WrongArgumentsError("ticket_id needs tenant_id: another tenant's ticket may have the same id")
        return chosen


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
    were committed stay. Fails if no row matches. With `count_only` it only counts, writes the number, and aborts. With
    `keep` the job stays when it has succeeded, with its progress.
    """
    ends = time.monotonic() + SLICE
    wanted = arguments.read(Arguments, given)
    chosen = wanted.selection()
    progress = wanted.progress or await _start(chosen)
    step = count_chunk if wanted.count_only else promote_chunk
    while progress.after_id < progress.last_id:
        if time.monotonic() > ends:
            raise GoesOnError
        progress = await step(engine(), chosen, progress, context.job.id)
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


async def _start(chosen: Selection) -> Progress:
    """Return the ids to go through. Rows that come in from now on are left out: the job might never end."""
    async with database.connection(engine()) as connection:
        return Progress(*await selection.bounds(connection, chosen))


async def promote_chunk(
    engine: AsyncEngine, chosen: Selection, progress: Progress, job_id: int | None = None
) -> Progress:
    """Promote the next chunk of the selected rows, and write the job's progress in the same commit; return it."""
    job = Job(job_id, task=queue.REPROCESS)
    within = await _window(engine, chosen, progress)
    with Batch(job) as batch:
        async with database.transaction(engine) as connection:
            batch.rows = rows = await selection.claim(connection, chosen, within, queue.JOB_ROWS, CHUNK_BYTES)
            batch.outcomes = await promote.promote_rows(connection, rows, job)
            # A chunk that is not full has all that the window holds.
            is_full = len(rows) == queue.JOB_ROWS or sum(len(row.payload) for row in rows) >= CHUNK_BYTES
            # Rows that another worker has locked are being promoted, so they count as found.
            found = len(rows) or await _count(connection, chosen, within)
            progress = progress.on(rows[-1].id if is_full else within.until_id, found, batch.outcomes)
            await _save(connection, job_id, progress)
    return progress


async def count_chunk(
    engine: AsyncEngine, chosen: Selection, progress: Progress, job_id: int | None = None
) -> Progress:
    """Count the selected rows of the next window, and write the job's progress; return it."""
    within = await _window(engine, chosen, progress)
    async with database.connection(engine) as connection:
        progress = progress.on(within.until_id, await _count(connection, chosen, within))
        await _save(connection, job_id, progress)
    return progress


async def _window(engine: AsyncEngine, chosen: Selection, progress: Progress) -> Window:
    async with database.connection(engine) as connection:
        return await selection.window(connection, chosen, progress.after_id, progress.last_id)


async def _count(connection: AsyncConnection, chosen: Selection, within: Window) -> int:
    return sum((await selection.count(connection, chosen, within)).values())


async def _save(connection: AsyncConnection, job_id: int | None, progress: Progress) -> None:
    await queue.note(connection, job_id, "progress", msgspec.json.encode(progress).decode())
