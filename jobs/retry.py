"""When is a job retried?"""

import asyncio
import logging
import random

from procrastinate import BaseRetryStrategy, RetryDecision
from procrastinate.exceptions import ConnectorException
from procrastinate.jobs import Job

from jobs.arguments import WrongArgumentsError
from otel import logs, metrics

LONGEST_WAIT = 60  # seconds between two tries
NOT_YET = 20  # seconds until a job looks again whether it may begin
_logger = logging.getLogger("ticket_inbox.jobs")


class GoesOnError(Exception):
    """A job has saved how far it has come, and queues again behind the jobs of higher priority."""


class NotYetError(Exception):
    """What a job needs is in use by another one, which it may follow."""


class Backoff(BaseRetryStrategy):
    """Retries for ever, 1 to `longest` seconds later: what fails a whole batch is no fault of its rows."""

    def __init__(self, longest: int = LONGEST_WAIT) -> None:
        self._longest = longest

    def get_retry_decision(self, *, exception: BaseException, job: Job) -> RetryDecision | None:
        """Return a random time, so that jobs that failed together are retried apart; None where arguments are wrong."""
        if isinstance(exception, WrongArgumentsError):
            return None
        if isinstance(exception, GoesOnError):
            return RetryDecision(retry_in={"seconds": 0})
        if isinstance(exception, NotYetError):
            return RetryDecision(retry_in={"seconds": NOT_YET})
        from db import failures  # noqa: PLC0415

        if isinstance(exception, ConnectorException) and exception.__cause__:
            exception = exception.__cause__  # what psycopg raised; a sweep works by Procrastinate's connection too
        foreseen = isinstance(exception, (*failures.DatabaseError, ConnectorException, asyncio.CancelledError))
        error = failures.reason(exception) if foreseen else exception  # with its traceback
        logs.log(_logger, logging.WARNING, "job_retried", job_id=job.id, task=job.task_name, error=error)
        if not isinstance(exception, asyncio.CancelledError):  # which means that a shutdown interrupted it
            metrics.JOB_RETRIES.labels(job.task_name).inc()
        longest = min(2 ** min(job.attempts, 10), self._longest)
        return RetryDecision(retry_in={"seconds": random.randint(1, max(longest, 1))})  # noqa: S311  (jitter)
