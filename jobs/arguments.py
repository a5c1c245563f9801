"""What may be deferred by hand, and what does a job say that got something else?"""

import logging
from collections.abc import Mapping
from typing import Any, ClassVar, TypeVar

import msgspec
from procrastinate.job_context import JobContext
from procrastinate.middleware import AsyncCallNext
from procrastinate.worker import Worker

from otel import logs

Read = TypeVar("Read", bound="Arguments")
_logger = logging.getLogger("ticket_inbox.jobs")


class Arguments(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a task takes, and `takes` says so to who got it wrong.

    `outcome` is what an earlier try of the job had to say, and is never given by hand.
    """

    takes: ClassVar[str]
    outcome: str | None = None


class WrongArgumentsError(Exception):
    """A job cannot do what its arguments say; the message is one line for who deferred it."""


def read(kind: type[Read], given: Mapping[str, object]) -> Read:
    """Read a job's arguments. Raises WrongArgumentsError, which names the one that is wrong."""
    try:
        return msgspec.convert(given, kind)
    except msgspec.ValidationError as error:
        message = str(error).replace("Object contains unknown field", "there is no argument").replace("$.", "")
        raise WrongArgumentsError(f"{message}; it takes {kind.takes}") from None


async def tell_wrong_arguments(call_next: AsyncCallNext, context: JobContext, _worker: Worker) -> Any:  # noqa: ANN401
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
    """Keep Procrastinate from telling again, with a traceback, what `tell_wrong_arguments` told."""
    return not (record.exc_info and isinstance(record.exc_info[1], WrongArgumentsError))


logging.getLogger("procrastinate.worker").addFilter(told)
