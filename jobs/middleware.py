"""What happens around every job? A cancelled job is aborted; wrong arguments are logged, and written into the job."""

import asyncio
import logging
from typing import Any

import msgspec
from procrastinate.exceptions import JobAborted, TaskNotFound
from procrastinate.job_context import AbortReason, JobContext
from procrastinate.middleware import AsyncCallNext
from procrastinate.worker import Worker

from jobs import arguments
from jobs.arguments import WrongArgumentsError
from otel import logs

WORKER = "procrastinate.worker"
_logger = logging.getLogger("ticket_inbox.jobs")


async def abort_when_asked(call_next: AsyncCallNext, context: JobContext, _worker: Worker) -> Any:  # noqa: ANN401
    """Run a job; abort it if an operator cancels it. A job that a shutdown interrupts is retried instead."""
    try:
        return await call_next()
    except asyncio.CancelledError:
        if context.abort_reason() == AbortReason.USER_REQUEST:
            raise JobAborted from None
        raise


async def keep_in_hand(call_next: AsyncCallNext, _context: JobContext, _worker: Worker) -> Any:  # noqa: ANN401
    """Run a job, which counts as in hand meanwhile: an idle worker ends at once, and one that is silent lets it go."""
    from jobs import signs  # noqa: PLC0415

    with signs.job_in_hand():
        return await call_next()


async def refuse_wrong_arguments(call_next: AsyncCallNext, context: JobContext, _worker: Worker) -> Any:  # noqa: ANN401
    """Run a job; if its arguments are wrong, log why, and write it into the job as its `outcome`."""
    try:
        arguments.refuse_unreadable(context.job.task_kwargs)
        return await call_next()
    except WrongArgumentsError as wrong:
        logs.log(
            _logger, logging.ERROR, "job_refused", job_id=context.job.id, task=context.job.task_name, error=str(wrong)
        )
        await write_outcome(context, str(wrong))
        raise


async def write_outcome(context: JobContext, outcome: str) -> None:
    """Write `outcome` into the job, where `procrastinate … list_jobs … details` shows it."""
    from db import engine as database  # noqa: PLC0415
    from db import queue  # noqa: PLC0415
    from jobs import engine  # noqa: PLC0415

    assert context.job.id is not None  # noqa: S101  (it was fetched)
    async with database.connection(engine()) as connection:
        await queue.note(connection, context.job.id, "outcome", msgspec.json.encode(outcome).decode())


def is_not_logged_yet(record: logging.LogRecord) -> bool:
    """Return False for what Procrastinate logs, with a traceback, after we have logged it in one line of our own."""
    error = record.exc_info[1] if record.exc_info else None
    if isinstance(error, TaskNotFound) and record.name == WORKER:  # its other logger says the same
        job = record.__dict__["job"]
        words = f"there is no task {job['task_name']!r}"
        logs.log(_logger, logging.ERROR, "job_refused", job_id=job["id"], task=job["task_name"], error=words)
    return not isinstance(error, (TaskNotFound, WrongArgumentsError))


for name in (WORKER, f"{WORKER}.worker"):
    logging.getLogger(name).addFilter(is_not_logged_yet)
