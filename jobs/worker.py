"""How does the worker process survive an outage of Postgres?

Procrastinate's worker ends when one of its sessions fails at the wrong moment. This module then starts it again, on
new connections, as soon as Postgres answers; and it gives up a worker that cannot write a heartbeat, whatever its
sessions wait for. jobs/job_recovery.py requeues what the former worker left behind.
"""

import asyncio
import contextlib
import logging
import os
from collections.abc import AsyncIterator, Coroutine
from typing import Any, TypeVar

from procrastinate import App
from procrastinate.worker import Worker

from app import stopping
from app.background import running
from app.readiness import Patience
from db import engine as database
from db import failures, queue, schema, sessions
from db.bounded_session import BoundedSession, limit
from db.session_rules import WrongSessionError
from jobs import connections, engine, jobs_in_hand, signs
from jobs.outage_log import AGAIN_AFTER, FAULTS, OutageLog, explain
from otel import logs
from otel.escaped import printable

BETWEEN_TRIES = 0.5  # seconds
LONGEST_WAIT = 10.0  # seconds between two tries while Postgres answers, and the worker cannot work
STATEMENT_LIMIT = 8.0  # seconds for each of Procrastinate's statements, which take milliseconds
IDLE_SECONDS = 2.0  # for a stopping worker without a job in hand, to unregister
LET_GO_SECONDS = 5.0  # for jobs that were let go; SQLAlchemy waits two for a session to close
LATE_SECONDS = 5.0  # past SHUTDOWN_TIMEOUT_SECONDS, for the worker to unregister; then the process ends anyway
LATE = "Postgres does not answer: another worker, or a sweep, will requeue the jobs in hand"
SILENT = "no heartbeat could be written for 10 s: the worker begins anew, on new connections"
Result = TypeVar("Result")
_logger = logging.getLogger("ticket_inbox.worker")


async def run(app: App, conninfo: str, seconds: float, patience: Patience) -> None:
    """Work until a signal ends it, then finish the jobs in hand within `seconds`, and return.

    Raises SystemExit if Postgres does not let it finish them, or if it was never ready and its `patience` is over; and
    else only errors that Postgres did not cause.
    """
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in stopping.signals():
        loop.add_signal_handler(number, _stop, stop, seconds + LATE_SECONDS)
    loop.set_exception_handler(_log_unhandled)
    outages = OutageLog()
    for handler in logging.getLogger().handlers:
        handler.addFilter(outages)
    with limit(STATEMENT_LIMIT):
        async with running(signs.turn()), running(_give_up_late(stop, patience)):
            await _go_on(app, conninfo, seconds, stop, outages)
    if patience.is_over() and not signs.was_ready and not signs.is_stopping:
        patience.log_end(_logger, outages.newest)
        raise SystemExit(1)


async def _give_up_late(stop: asyncio.Event, patience: Patience) -> None:
    """Set `stop` if the patience is over before the worker was ready."""
    while not signs.was_ready:
        if patience.is_over():
            stop.set()
        await asyncio.sleep(BETWEEN_TRIES)
    await asyncio.Event().wait()


async def _go_on(app: App, conninfo: str, seconds: float, stop: asyncio.Event, outages: OutageLog) -> None:
    """Work, and begin anew whenever the work ends, until `stop` is set."""
    pause, first = BETWEEN_TRIES, True
    while not stop.is_set():
        is_there = False
        signs.begin()
        try:
            # Without this probe the pool would wait longer and longer between its tries.
            behind = await _until(stop, _probe(conninfo))
            is_there = True
            async with running(_log_while_behind(behind, conninfo, outages)):
                await _work(app, seconds, stop)
        except FAULTS as error:
            if first and isinstance(error, WrongSessionError):
                raise SystemExit(printable(f"Error: {error}")) from None
            is_there |= failures.is_read_only(error)
            if signs.has_worked():
                outages.forget()  # the one before it
            outages.waits(error)
        first = False
        # A Postgres that is away is asked often. One that answers, and does not let us work, is not flooded.
        pause = min(2 * pause, LONGEST_WAIT) if is_there and not signs.has_worked() else BETWEEN_TRIES
        await _until(stop, asyncio.sleep(pause))


async def _work(app: App, seconds: float, stop: asyncio.Event) -> None:
    """Run Procrastinate's worker until it ends, `stop` is set, or it has written no heartbeat for ten seconds."""
    database.renew(engine())
    async with _opened(stop), running(jobs_in_hand.beat_on()):
        if stop.is_set():
            return
        worker = _new_worker(app)
        working: asyncio.Task[None] = asyncio.create_task(worker.run())  # type: ignore[no-untyped-call]
        logs.log(_logger, logging.INFO, "worker_started")
        await _first(working, stop.wait(), signs.silence())
        had_jobs = bool(signs.in_hand)
        if stop.is_set():
            worker.shutdown_graceful_timeout = seconds
            working.cancel()
            await _first(working, signs.silence(), signs.idle(IDLE_SECONDS))
        await _end(working, is_late=stop.is_set() and had_jobs)


def _new_worker(app: App) -> Worker:
    """Return a worker as `app.run_worker_async` makes it, but of which we can change the time that its jobs have."""
    app.perform_import_paths()  # type: ignore[no-untyped-call]
    worker = Worker(app=app, **app.worker_defaults)
    worker.install_signal_handlers = False
    return worker


async def _end(working: "asyncio.Task[None]", *, is_late: bool) -> None:
    """Raise what ended the work, or end it where it waits for Postgres; then raise SystemExit if jobs are late."""
    if working.done():
        if not working.cancelled():
            working.result()
        return
    if not signs.is_stopping:
        logs.log(_logger, logging.WARNING, "worker_silent", error=SILENT)
    working.cancel()
    await connections.abandon()
    signs.let_go()
    await asyncio.wait({working}, timeout=LET_GO_SECONDS)
    if is_late:
        logs.log(_logger, logging.WARNING, "worker_ended_late", error=LATE)
        raise SystemExit(1)


@contextlib.asynccontextmanager
async def _opened(stop: asyncio.Event) -> AsyncIterator[None]:
    """Open Procrastinate's pool for the block, unless `stop` is set."""
    await _until(stop, connections.open_async())
    try:
        yield
    finally:
        await connections.close_async()


async def _until(stop: asyncio.Event, work: Coroutine[Any, Any, Result]) -> Result | None:
    """Return the result of `work`, or None if `stop` is set before. Raises what `work` raised."""
    task = asyncio.create_task(work)
    await _first(task, stop.wait())
    task.cancel()
    await asyncio.wait({task})
    return None if task.cancelled() else task.result()


async def _first(task: "asyncio.Task[Any]", *others: Coroutine[Any, Any, object]) -> None:
    """Return when `task` or one of the others ends; the others are cancelled then."""
    tasks = [asyncio.create_task(one) for one in others]
    await asyncio.wait({task, *tasks}, return_when=asyncio.FIRST_COMPLETED)
    for one in tasks:
        one.cancel()


async def _probe(conninfo: str) -> str | None:
    """Check that a worker can work, and return in words that the schema is behind, if it is. Raises psycopg.Error."""
    async with await BoundedSession.connect(conninfo, autocommit=True) as session:
        await sessions.check(session)
        await queue.probe(session)
        return await schema.trouble_in(session)


async def _log_while_behind(behind: str | None, conninfo: str, outages: OutageLog) -> None:
    """Log that a migration is due, once a minute, for as long as one is."""
    while behind:
        outages.behind(behind)
        await asyncio.sleep(AGAIN_AFTER)
        with contextlib.suppress(*FAULTS):
            behind = await _probe(conninfo)
    await asyncio.Event().wait()


def _stop(stop: asyncio.Event, seconds: float) -> None:
    """Stop, and end the process after `seconds` even if Postgres never answers: the signal's sender may not wait."""
    signs.is_stopping = True
    stop.set()
    asyncio.get_running_loop().call_later(seconds, _end_late)


def _end_late() -> None:
    logs.log(_logger, logging.WARNING, "worker_ended_late", error=LATE)
    logging.shutdown()
    os._exit(1)


def _log_unhandled(_loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """Log what a task raised that nothing awaits, such as the task of a job whose end could not be written."""
    error = context.get("exception")
    if isinstance(error, FAULTS):
        error = explain(error)
    logs.log(_logger, logging.WARNING, "task_failed", error=error or context["message"])
