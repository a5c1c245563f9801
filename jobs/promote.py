"""How does an inbox row become a ticket in ticket_history? A batch at a time, in one commit."""

import asyncio
import itertools
import time
from collections.abc import Iterable, Sequence
from typing import Annotated

from msgspec import Meta
from procrastinate import JobContext
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from app import event
from app.event.rules import Rules
from db import engine as database
from db import inbox, queue, ticket_history
from db.inbox import ClaimedRow, Outcome
from jobs import app, arguments, engine, merge, settings
from jobs.batch_telemetry import Batch, Job
from jobs.merge import Event
from jobs.retry import Backoff

SLICE = 1.0  # seconds that a job goes on with what waits in others, instead of fetching and finishing them one by one
LONG_BYTES = 1024 * 1024  # of a batch's payloads
InboxId = Annotated[int, Meta(ge=1, le=2**63 - 1)]


class Arguments(arguments.Arguments, frozen=True, kw_only=True):
    """What `promote` takes."""

    takes = "inbox_ids, a list of whole numbers"
    inbox_ids: list[InboxId]


@app.task(name=queue.PROMOTE, queue=queue.PROMOTE, retry=Backoff(), pass_context=True)
async def promote(context: JobContext, /, **given: object) -> None:
    """Promote those of the rows `inbox_ids` that are pending; running it again does nothing."""
    wanted = arguments.read(Arguments, given)
    # The tries before this one left no trace in the inbox, because each was rolled back as a whole.
    job = Job(context.job.id, context.job.attempts + 1)
    ends = time.monotonic() + SLICE
    others = queue.Others(job.id or 0, context.job.priority)
    ids: Sequence[int] = wanted.inbox_ids
    while len(await promote_batch(engine(), ids, job, others)) > len(ids) and time.monotonic() < ends:
        ids = []  # some waited in other jobs, and more may have come since


async def promote_batch(
    engine: AsyncEngine,
    inbox_ids: Sequence[int],
    job: Job = Job(),  # noqa: B008
    others: queue.Others | None = None,
) -> list[Outcome]:
    """Promote the pending ones of `inbox_ids` in one commit, and give what became of each.

    With `others` also what waits in those jobs, up to what one may hold; but not in a job that is tried again, for
    what ails it may be its own. A row that cannot be promoted is `failed` with its reason and its neighbours go on.
    Raises what Postgres raises for reasons of its own; then nothing was changed.
    """
    room = queue.JOB_ROWS - len(inbox_ids) if job.tries == 1 else 0
    with Batch(job) as batch:
        async with database.transaction(engine) as connection:
            taken = await queue.take_over(connection, others, room) if others and room > 0 else []
            batch.rows = await inbox.claim(connection, [*inbox_ids, *taken])
            batch.outcomes = await promote_rows(connection, batch.rows, job)
    return batch.outcomes


async def promote_rows(connection: AsyncConnection, rows: Sequence[ClaimedRow], job: Job) -> list[Outcome]:
    """Store the tickets of `rows`, which this transaction has claimed, mark the rows, and give what became of each."""
    # Long HTML takes its time, and the worker has other jobs and a heartbeat.
    is_long = sum(len(row.payload) for row in rows) > LONG_BYTES
    events, refused = await asyncio.to_thread(_decode, rows) if is_long else _decode(rows)
    outcomes = refused + await _store(connection, events)
    if outcomes:
        await inbox.mark(connection, outcomes, job.id, job.tries)
    return outcomes


def _decode(rows: Iterable[ClaimedRow]) -> tuple[list[Event], list[Outcome]]:
    """Read the tickets in `rows`, sorted by key and id; what is none keeps the row `rejected`, or makes it `failed`."""
    events, refused = [], []
    for row in rows:
        try:
            events.append(Event(row, _ticket(row)))
        except event.RejectedError as rejected:
            error = str(rejected) if row.status == "rejected" else f"the payload breaks its schema: {rejected}"
            refused.append(_refused(row, rejected.ticket_id, error))
        except ValueError:
            refused.append(_refused(row, None, "the payload is not a JSON object in UTF-8"))
    return sorted(events, key=lambda one: (one.key, one.row.id)), refused


def _ticket(row: ClaimedRow) -> event.ResolvedTicket:
    """Decode a row: one that was rejected by the rules of today, any other as what was accepted then."""
    rules = Rules.of(settings)
    return event.decode(row.payload, rules if row.status == "rejected" else rules.of_accepted)


def _refused(row: ClaimedRow, ticket_id: str | None, error: str) -> Outcome:
    status = "rejected" if row.status == "rejected" else "failed"
    return Outcome(id=row.id, status=status, ticket_id=ticket_id, error=error)


async def _store(connection: AsyncConnection, events: Sequence[Event]) -> list[Outcome]:
    """Upsert `events`, which are sorted by key and id; halve them where Postgres refuses one of their values."""
    if not events:
        return []
    try:
        async with connection.begin_nested():
            return await _upsert(connection, events)
    except DBAPIError as error:
        if not database.is_fault_of_a_value(error):
            raise
        if len(events) == 1:
            [one] = events
            refused = f"Postgres refuses it: {database.reason(error)}"
            return [Outcome(id=one.row.id, status="failed", ticket_id=one.ticket.ticket_id, error=refused)]
    half = len(events) // 2
    return await _store(connection, events[:half]) + await _store(connection, events[half:])


async def _upsert(connection: AsyncConnection, events: Sequence[Event]) -> list[Outcome]:
    tickets = {key: list(group) for key, group in itertools.groupby(events, key=lambda one: one.key)}
    # Only for a ticket with several events here does one of them have to know what stood before.
    before = await ticket_history.standing(connection, [key for key, group in tickets.items() if len(group) > 1])
    winners = [merge.winner(group) for group in tickets.values()]
    written = await ticket_history.upsert(connection, winners, [one.row.id for one in events])
    return [
        Outcome(id=inbox_id, status="promoted", ticket_id=group[0].ticket.ticket_id, action=action)
        for key, group in tickets.items()
        for inbox_id, action in merge.actions(group, before.get(key), written.get(key))
    ]
