"""What does a worker do on its own? It sweeps what fell through, and prunes what is old."""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from datetime import timedelta

from procrastinate import JobContext
from sqlalchemy.ext.asyncio import AsyncConnection

from db import engine as database
from db import leases, queue, retention, signature_counts
from db.advisory_locks import SWEEP, Lock
from jobs import app, arguments, engine, jobs_in_hand, settings
from jobs.retry import Backoff
from otel import logs

SWEEP_ROWS = 10_000  # pending rows that one statement looks at, the oldest first
SWEEP_RETRIED_WITHIN = 5  # seconds; the next one is due after 20, and waits while this one does
WINDOW = 2_000  # rows in one commit of `prune`
BREATH = 3  # times a commit's duration is the pause after it, so that webhooks have the disk most of the time
NextWindow = Callable[[AsyncConnection, timedelta, int, int], Awaitable[retention.Window | None]]
Delete = Callable[[AsyncConnection, timedelta, int, int], Awaitable[int]]
_logger = logging.getLogger("ticket_inbox.housekeeping")


# Every 20 seconds, so that a row that nothing else found is stored within a minute. No lock: a sweep whose
# worker died would hold it for ever (https://github.com/procrastinate-org/procrastinate/issues/1408).
@app.periodic(cron="* * * * * */20")
@app.task(
    name=queue.SWEEP,
    queue=queue.SWEEP,
    queueing_lock=queue.SWEEP,
    priority=queue.SWEEP_PRIORITY,
    retry=Backoff(longest=SWEEP_RETRIED_WITHIN),
    pass_context=True,
)
async def sweep(context: JobContext, /, timestamp: int = 0, **given: object) -> None:  # noqa: ARG001  (when it was due)
    """Requeue the jobs of dead workers and the pending rows that no job attends to.

    Also raises the priority of some jobs of tenants over their share, so that none waits for ever. Safe at any time.
    """
    arguments.read(arguments.NoArguments, given)
    async with database.connection(engine()) as connection:
        try:
            async with jobs_in_hand.held(connection, leases.SWEEP, Lock(SWEEP)):
                await leases.forget_old(connection)
                await jobs_in_hand.requeue_lost(but=context.job.id)
                await queue.raise_waiting(connection)
                await _requeue_rows(connection)
        except leases.HeldError as error:
            logs.log(_logger, logging.INFO, "sweep_skipped", error=f"another sweep is under way, by {error}")


async def _requeue_rows(connection: AsyncConnection) -> None:
    """Defer jobs for all pending rows that no job attends to, some thousands at a time."""
    rows = queue.JOB_ROWS
    while rows:
        rows, job_ids = await queue.defer_unattended(connection, SWEEP_ROWS)
        if rows:
            logs.log(_logger, logging.WARNING, "rows_requeued", rows=rows, jobs=len(job_ids))


@app.periodic(cron="17 3 * * *")
@app.task(
    name=queue.PRUNE, queue=queue.PRUNE, queueing_lock=queue.PRUNE, priority=queue.PRUNE_PRIORITY, retry=Backoff()
)
async def prune(timestamp: int = 0, **given: object) -> None:  # noqa: ARG001  (when it was due)
    """Delete promoted inbox rows older than RETENTION_DAYS and finished jobs older than JOB_RETENTION_DAYS.

    Never deletes a row that is pending, failed or rejected; 0 days keep for ever. Pauses after each small commit.
    """
    arguments.read(arguments.NoArguments, given)
    rows = await prune_old(settings.retention_days, retention.next_rows, retention.delete_rows)
    jobs = await prune_old(settings.job_retention_days, retention.next_jobs, retention.delete_jobs)
    logs.log(_logger, logging.INFO, "pruned", rows=rows, jobs=jobs)
    async with database.connection(engine()) as connection:
        await signature_counts.prune(connection)


async def prune_old(days: int, next_window: NextWindow, delete: Delete) -> int:
    """Delete what is older than `days`, window by window up to the first that is recent; return how many rows that was.

    So the cost follows what there is to delete, and not what there is to keep.
    """
    if not days:
        return 0
    age, deleted, after_id = timedelta(days=days), 0, 0
    async with database.connection(engine()) as connection:
        while (window := await next_window(connection, age, after_id, WINDOW)) and not window.is_recent:
            started = time.monotonic()
            deleted += await delete(connection, age, after_id, window.until_id)
            after_id = window.until_id
            await asyncio.sleep(BREATH * (time.monotonic() - started))
    return deleted
