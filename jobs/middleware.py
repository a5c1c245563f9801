"""What happens around every job: who deferred it, or cancelled it, is told how it ended."""

import asyncio
import logging
from typing import Any

import msgspec
from procrastinate.exceptions import JobAborted
from procrastinate.job_context import AbortReason, JobContext
from procrastinate.middleware import AsyncCallNext
from procrastinate.worker import Worker

from jobs.arguments import WrongArgumentsError
from otel import logs

_logger = logging.getLogger("ticket_inbox.jobs")


async def abort_when_asked(call_next: AsyncCallNext, context: JobContext, _worker: Worker) -> Any:  # noqa: ANN401
    """Run a job; cancelled by an operator it is aborted, and not tried again as one that a shutdown cut short."""
    try:
        return await call_next()
    except asyncio.CancelledError:
        if context.abort_reason() == AbortReason.USER_REQUEST:
            raise JobAborted from None
        raise


async def refuse_wrong_arguments(call_next: AsyncCallNext, context: JobContext, _worker: Worker) -> Any:  # noqa: ANN401
    """Run a job; where its arguments are wrong, say so in the log and in the job itself, as its `outcome`."""
    try:
        return await call_next()
    except WrongArgumentsError as wrong:
        logs.log(
            _logger, logging.ERROR, "job_refused", job_id=context.job.id, task=context.job.task_name, error=str(wrong)
        )
        await tell(context, str(wrong))
        raise


async def tell(context: JobContext, outcome: str) -> None:
    """Write `outcome` into the job, where `procrastinate … list_jobs … details` shows it."""
    from db import engine as database  # noqa: PLC0415
    from db import queue  # noqa: PLC0415
    from jobs import engine  # noqa: PLC0415

    assert context.job.id is not None  # noqa: S101  (it was fetched)
    async with database.connection(engine()) as connection:
        await queue.note(connection, context.job.id, "outcome", msgspec.json.encode(outcome).decode())


def told(record: logging.LogRecord) -> bool:
    """Keep Procrastinate from telling again, with a traceback, what `refuse_wrong_arguments` told."""
    return not (record.exc_info and isinstance(record.exc_info[1], WrongArgumentsError))


logging.getLogger("procrastinate.worker").addFilter(told)
