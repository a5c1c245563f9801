"""How are tickets found by their words? A few seconds after they are stored, a job brings them into search's index."""

import asyncio
import functools
import logging
import time

from sqlalchemy.ext.asyncio import AsyncConnection

from db import engine as database
from db import failure_kinds, failures, leases, queue, search_index
from jobs import app, arguments, engine, jobs_in_hand
from jobs.retry import Backoff
from otel import logs

SECONDS = 20.0  # of one job; by then the next one waits, and goes on
BATCH = 1_000  # tickets of one commit, a second's work: of so many, most words are many tickets'
# Seconds of one commit. Tickets full of numbers take a hundred times as long, and past jobs.STATEMENT_TIMEOUT Postgres
# cuts the commit: the same tickets would be tried again for ever, and no tenant's were found.
LONG, SHORT = 5.0, 2.0
RETRIED_WITHIN = 5  # seconds
# Seconds between two looks whether promotion is done, which goes first, and for how long it may keep the index waiting.
PAUSE, HELD_BACK = 0.25, 300.0
NO_RIGHT = (
    "this worker's role may not bring tickets into search's index, so new ones are not found: run "
    "`ticket-inbox roles make`, which grants it"
)
_logger = logging.getLogger("ticket_inbox.index")


class BatchSize:
    """How many tickets the next commit of this process has: fewer after one that took long or failed."""

    def __init__(self) -> None:
        self.tickets = BATCH

    def note(self, seconds: float) -> None:
        """Note that a commit took so long."""
        if seconds > LONG:
            self.tickets = max(1, self.tickets // 2)
        elif seconds < SHORT:
            self.tickets = min(BATCH, self.tickets * 2)

    def note_failure(self) -> None:
        self.tickets = max(1, self.tickets // 10)


_size = BatchSize()


@app.periodic(cron="* * * * * */10")
@app.task(
    name=queue.INDEX,
    queue=queue.INDEX,
    queueing_lock=queue.INDEX,
    priority=queue.INDEX_PRIORITY,
    retry=Backoff(longest=RETRIED_WITHIN),
)
async def index(timestamp: int = 0, **given: object) -> None:  # noqa: ARG001  (when it was due)
    """Bring the tickets that were written since into search's index of words, and build what is not built yet.

    Goes on until nothing is left or its time is up. While promote jobs wait it pauses, for minutes at most. Safe at any
    time, and after any interruption.
    """
    arguments.read(arguments.NoArguments, given)
    async with database.connection(engine()) as connection:
        try:
            async with jobs_in_hand.held(connection, leases.INDEX):
                await _index(connection)
        except leases.HeldError as error:
            logs.log(_logger, logging.INFO, "index_skipped", error=f"another one is under way, by {error}")
        except failures.DatabaseError as error:
            if failures.kind(error) is not failure_kinds.RIGHT:
                raise
            _log_missing_right()


async def _index(connection: AsyncConnection) -> None:
    """Index batch after batch, and log how many tickets that were."""
    deadline, rows, began = time.monotonic() + SECONDS, 0, time.monotonic()
    while time.monotonic() < deadline:
        if await search_index.is_held_back(connection, HELD_BACK):
            await asyncio.sleep(PAUSE)
            continue
        done = await commit(connection, _size)
        rows += done
        if not done:
            break
    if rows:
        milliseconds = (time.monotonic() - began) * 1000
        logs.log(_logger, logging.INFO, "indexed", rows=rows, duration_ms=round(milliseconds, 1))


async def commit(connection: AsyncConnection, size: BatchSize) -> int:
    """Bring one batch in, and return how many rows that was. Raises a database error; the next try has fewer."""
    began = time.monotonic()
    try:
        done = await search_index.index_batch(connection, size.tickets)
    except failures.DatabaseError:
        size.note_failure()
        raise
    size.note(time.monotonic() - began)
    return done


@functools.cache
def _log_missing_right() -> None:
    """Log it once in a process, not every ten seconds."""
    logs.log(_logger, logging.ERROR, "index_failed", error=NO_RIGHT)
