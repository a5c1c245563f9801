"""What does a worker do on its own? It sweeps what fell through, and prunes what is old."""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from datetime import timedelta

from procrastinate import JobContext
from sqlalchemy.ext.asyncio import AsyncConnection

from db import engine as database
from db import inbox, queue
from jobs import app, engine, jobs_in_hand, settings
from otel import logs

SWEEP_ROWS = 10_000  # pending rows that one statement looks at, the oldest first
WINDOW = 2_000  # ids in one commit of `prune`
BREATH = 3  # times a commit's duration is the pause after it, so that webhooks have the disk most of the time
_logger = logging.getLogger("ticket_inbox.housekeeping")


# Every 20 seconds, so that a row that nothing else found is stored within a minute. No lock: a sweep whose
# worker died would hold it for ever (https://github.com/procrastinate-org/procrastinate/issues/1408).
@app.periodic(cron="* * * * * */20")
@app.task(
    name=queue.SWEEP, queue=queue.SWEEP, queueing_lock=queue.SWEEP, priority=queue.SWEEP_PRIORITY, pass_context=True
)
async def sweep(context: JobContext, timestamp: int = 0) -> None:  # noqa: ARG001  (when it was due)
    """Requeue the jobs of dead workers and the pending rows that no job attends to.

    Also raises the priority of some jobs of tenants over their share, so that none waits for ever. Safe at any time.
    """
    async with database.transaction(engine()) as connection:
        if not await queue.try_sweep_lock(connection):
            return
        await jobs_in_hand.requeue_lost(but=context.job.id)
        await queue.raise_waiting(connection)
        rows = queue.JOB_ROWS
        while rows:
            rows, job_ids = await queue.defer_unattended(connection, SWEEP_ROWS)
            if rows:
                logs.log(_logger, logging.WARNING, "rows_requeued", rows=rows, jobs=len(job_ids))


@app.periodic(cron="17 3 * * *")
@app.task(name=queue.PRUNE, queue=queue.PRUNE, queueing_lock=queue.PRUNE, priority=queue.PRUNE_PRIORITY)
async def prune(timestamp: int = 0) -> None:  # noqa: ARG001  (when it was due)
    """Delete promoted inbox rows older than RETENTION_DAYS and finished jobs older than JOB_RETENTION_DAYS.

    Never deletes a row that is pending, failed or rejected; 0 days keep for ever. Pauses after each small commit.
    """
    rows = await _prune(settings.retention_days, inbox.bounds, inbox.delete_old)
    jobs = await _prune(settings.job_retention_days, queue.job_bounds, queue.delete_finished)
    logs.log(_logger, logging.INFO, "pruned", rows=rows, jobs=jobs)


async def _prune(
    days: int,
    bounds: Callable[[AsyncConnection], Awaitable[tuple[int, int]]],
    delete: Callable[[AsyncConnection, timedelta, int, int], Awaitable[int]],
) -> int:
    """Delete what is older than `days`, one window of ids after the other, and return how many rows that was."""
    if not days:
        return 0
    deleted = 0
    async with database.connection(engine()) as connection:
        lowest, highest = await bounds(connection)
        for after_id in range(lowest - 1, highest, WINDOW):
            started = time.monotonic()
            deleted += await delete(connection, timedelta(days=days), after_id, after_id + WINDOW)
            await asyncio.sleep(BREATH * (time.monotonic() - started))
    return deleted
