"""What is done without anybody asking? What fell through goes back to work, and what is old goes away."""

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
BREATH = 3  # times as long as it took is the pause after each of them, so that webhooks have the disk most of the time
_logger = logging.getLogger("ticket_inbox.housekeeping")


# Every 20 seconds, so that what nothing else has found is stored within a minute. No lock: it would be
# held for ever by a sweep whose worker died (https://github.com/procrastinate-org/procrastinate/issues/1408).
@app.periodic(cron="* * * * * */20")
@app.task(
    name=queue.SWEEP, queue=queue.SWEEP, queueing_lock=queue.SWEEP, priority=queue.SWEEP_PRIORITY, pass_context=True
)
async def sweep(context: JobContext, timestamp: int = 0) -> None:  # noqa: ARG001  (when it was due)
    """Put back to work the jobs of dead workers, and pending rows that no job attends to; let nobody wait for ever.

    Safe to run at any time.
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

    Never a row that is pending, failed or rejected; 0 days keep for ever. Many small commits with a breath in between.
    """
    rows = await _prune(settings.retention_days, inbox.bounds, inbox.delete_old)
    jobs = await _prune(settings.job_retention_days, queue.job_bounds, queue.delete_finished)
    logs.log(_logger, logging.INFO, "pruned", rows=rows, jobs=jobs)


async def _prune(
    days: int,
    bounds: Callable[[AsyncConnection], Awaitable[tuple[int, int]]],
    delete: Callable[[AsyncConnection, timedelta, int, int], Awaitable[int]],
) -> int:
    """Delete what is older than `days`, a window of ids after the other, and give how much that was."""
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
