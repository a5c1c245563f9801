"""How does the worker process survive an outage of Postgres?

Procrastinate's worker ends when one of its sessions fails at the wrong moment. This module then starts it again, on
new connections, as soon as Postgres answers. jobs/job_recovery.py requeues what the former worker left behind.
"""

import asyncio
import contextlib
import logging
import os
from typing import Any

import psycopg
from procrastinate import App, exceptions

from app import stopping
from app.background import running
from db import failures, queue, schema
from db.session_rules import WrongSessionError
from jobs import jobs_in_hand
from otel import logs

WAITS = "Postgres is away, or has no schema yet ({}): the worker goes on by itself when it is there"
BETWEEN_TRIES = 0.5  # seconds
LATE_SECONDS = 5.0  # past SHUTDOWN_TIMEOUT_SECONDS, for the worker to unregister; then the process ends anyway
FAULTS = (exceptions.ConnectorException, psycopg.Error, OSError)
_logger = logging.getLogger("ticket_inbox.worker")


async def run(app: App, conninfo: str, seconds: float) -> None:
    """Work until a signal ends it, then finish the jobs in hand within `seconds`, and return.

    Raises only errors that Postgres did not cause.
    """
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in stopping.signals():
        loop.add_signal_handler(number, _stop, stop, seconds + LATE_SECONDS)
    loop.set_exception_handler(_log_unhandled)
    for handler in logging.getLogger().handlers:
        handler.addFilter(_shorten)
    logged, behind, first = "", None, True
    while not stop.is_set():
        try:
            # Without this probe the pool would wait longer and longer between its tries.
            await queue.probe(conninfo)
            logged, behind = "", _log_if_behind(await schema.trouble_at(conninfo), behind)
            await _work(app, stop)
        except FAULTS as error:
            if first and isinstance(error, WrongSessionError):
                raise SystemExit(f"Error: {error}") from None
            why = failures.reason(error.__cause__ or error)
            if why != logged:
                logged = why
                logs.log(_logger, logging.WARNING, "worker_waits", error=WAITS.format(why))
        first = False
        await _wait(stop, BETWEEN_TRIES)


def _log_if_behind(behind: str | None, logged: str | None) -> str | None:
    """Log that a migration is due, unless that is what was `logged`, and return what is logged now."""
    if behind and behind != logged:
        logs.log(_logger, logging.WARNING, "schema_behind", error=behind)
    return behind


def _stop(stop: asyncio.Event, seconds: float) -> None:
    """Stop, and end the process after `seconds` even if Postgres never answers: the signal's sender may not wait."""
    stop.set()
    asyncio.get_running_loop().call_later(seconds, _end_late, seconds)


def _end_late(seconds: float) -> None:
    why = f"Postgres has not answered for {seconds:g} s: another worker, or a sweep, will requeue the jobs in hand"
    logs.log(_logger, logging.WARNING, "worker_ended_late", error=why)
    logging.shutdown()
    os._exit(1)


async def _work(app: App, stop: asyncio.Event) -> None:
    """Run Procrastinate's worker until it ends, or `stop` is set."""
    async with app.open_async(), running(jobs_in_hand.beat_on()):
        working = asyncio.create_task(app.run_worker_async(install_signal_handlers=False))
        stopping = asyncio.create_task(stop.wait())
        logs.log(_logger, logging.INFO, "worker_started")
        await asyncio.wait({working, stopping}, return_when=asyncio.FIRST_COMPLETED)
        stopping.cancel()
        working.cancel()
        await asyncio.wait({working})
        if not working.cancelled():
            working.result()


async def _wait(stop: asyncio.Event, seconds: float) -> None:
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await stop.wait()


def _shorten(record: logging.LogRecord) -> bool:
    """Shorten a record about an error of Postgres to one line, without the traceback; let every record pass."""
    error = record.exc_info[1] if record.exc_info else None
    if isinstance(error, FAULTS):
        record.msg, record.args, record.exc_info = "postgres_failed", (), None
        record.fields = {"error": failures.reason(error.__cause__ or error)}
    return True


def _log_unhandled(_loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """Log what a task raised that nothing awaits, such as the task of a job whose end could not be written."""
    error = context.get("exception")
    if isinstance(error, FAULTS):
        error = failures.reason(error.__cause__ or error)
    logs.log(_logger, logging.WARNING, "task_failed", error=error or context["message"])
