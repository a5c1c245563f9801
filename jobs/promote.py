"""How does an inbox row become a ticket in ticket_history? A batch at a time, in one commit."""

import functools
import itertools
import logging
import random
import time
from collections.abc import Iterable, Iterator, Sequence

import msgspec
from procrastinate import BaseRetryStrategy, RetryDecision
from procrastinate.jobs import Job
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from app import event
from db import engine as database
from db import inbox, queue, ticket_history
from db.inbox import Outcome, PendingRow
from db.ticket_history import Key, Standing, Winner
from jobs import app, settings
from otel import logs, tracing

STATEMENT_TIMEOUT = 30.0  # seconds; a batch takes milliseconds, so this is a fault and the job is tried again
LONGEST_WAIT = 60  # seconds between two tries
# What Postgres says of a value and not of itself: data exception, integrity violation, program limit exceeded.
FAULTS_OF_A_ROW = ("22", "23", "54")
_logger = logging.getLogger("ticket_inbox.promote")


class Backoff(BaseRetryStrategy):
    """Try again for ever, 1 to 60 seconds later: what fails a whole batch is no fault of its rows."""

    def get_retry_decision(self, *, exception: BaseException, job: Job) -> RetryDecision:
        logs.log(_logger, logging.WARNING, "promotion_retried", job_id=job.id, error=database.reason(exception))
        longest = min(2 ** min(job.attempts, 10), LONGEST_WAIT)
        return RetryDecision(retry_in={"seconds": random.randint(1, longest)})  # noqa: S311  (jitter)


class Event(msgspec.Struct, frozen=True):
    """A claimed inbox row and the ticket that it holds."""

    row: PendingRow
    ticket: event.ResolvedTicket

    @property
    def key(self) -> Key:
        """Tenant and ticket; batches are sorted by it."""
        return self.row.tenant_id, self.ticket.ticket_id

    @property
    def age(self) -> Standing:
        """What decides which of two events is newer."""
        return self.ticket.resolved_date, self.row.id


@app.task(name=queue.PROMOTE, queue=queue.PROMOTE, retry=Backoff())
async def promote(inbox_ids: list[int]) -> None:
    """Promote those of the rows `inbox_ids` that are pending; running it again does nothing."""
    await promote_batch(_engine(), inbox_ids)


async def promote_batch(engine: AsyncEngine, inbox_ids: Sequence[int]) -> list[Outcome]:
    """Promote the pending ones of `inbox_ids` in one commit, and give what became of each.

    A row that cannot be promoted is `failed` with its reason and its neighbours go on.
    Raises what Postgres raises for reasons of its own; then nothing was changed.
    """
    started = time.perf_counter()
    async with database.transaction(engine) as connection:
        rows = await inbox.claim(connection, inbox_ids)
        events, failed = _decode(rows)
        outcomes = failed + await _store(connection, events)
        if outcomes:
            await inbox.mark(connection, outcomes)
    _log(rows, events, outcomes, started)
    return outcomes


def _decode(rows: Iterable[PendingRow]) -> tuple[list[Event], list[Outcome]]:
    events, failed = [], []
    for row in rows:
        try:
            events.append(Event(row, event.decode(row.payload)))
        except event.RejectedError as rejected:
            failed.append(Outcome(id=row.id, status="failed", error=f"the payload breaks its schema: {rejected}"))
        except ValueError:
            failed.append(Outcome(id=row.id, status="failed", error="the payload is not a JSON object in UTF-8"))
    return sorted(events, key=lambda one: (one.key, one.row.id)), failed


async def _store(connection: AsyncConnection, events: Sequence[Event]) -> list[Outcome]:
    """Upsert `events`, which are sorted by key and id; halve them where Postgres refuses one of their values."""
    if not events:
        return []
    try:
        async with connection.begin_nested():
            return await _upsert(connection, events)
    except DBAPIError as error:
        if not (database.sqlstate(error) or "").startswith(FAULTS_OF_A_ROW):
            raise
        if len(events) == 1:
            refused = f"Postgres refuses it: {database.reason(error)}"
            return [Outcome(id=events[0].row.id, status="failed", error=refused)]
    half = len(events) // 2
    return await _store(connection, events[:half]) + await _store(connection, events[half:])


async def _upsert(connection: AsyncConnection, events: Sequence[Event]) -> list[Outcome]:
    tickets = {key: list(group) for key, group in itertools.groupby(events, key=lambda one: one.key)}
    # Only for a ticket with several events here does one of them have to know what stood before.
    before = await ticket_history.standing(connection, [key for key, group in tickets.items() if len(group) > 1])
    winners = [_winner(group) for group in tickets.values()]
    written = await ticket_history.upsert(connection, winners, [one.row.id for one in events])
    return [
        Outcome(id=inbox_id, status="promoted", action=action)
        for key, group in tickets.items()
        for inbox_id, action in _actions(group, before.get(key), written.get(key))
    ]


def _winner(group: Sequence[Event]) -> Winner:
    """Choose what a ticket's events, which are in order of id, would store.

    The first sets what is only ever inserted, the newest the rest.
    """
    first, newest = group[0], max(group, key=lambda one: one.age)
    return Winner(
        tenant_id=first.row.tenant_id,
        ticket_id=first.ticket.ticket_id,
        description=first.ticket.description,
        priority=first.ticket.priority,
        tags=first.ticket.tags,
        resolution=newest.ticket.resolution,
        resolved_date=newest.ticket.resolved_date,
        source=newest.row.source,
        inbox_id=newest.row.id,
    )


def _actions(group: Sequence[Event], before: Standing | None, written: str | None) -> Iterator[tuple[int, str]]:
    """Tell for each of a ticket's events, in order of id, what it did, as if they had been promoted one by one."""
    stands = before
    for place, one in enumerate(group):
        if written is None:
            yield one.row.id, "stale"
        elif written == "inserted" and place == 0:
            yield one.row.id, "inserted"
            stands = one.age
        elif stands is None or one.age > stands or one.row.id == stands[1]:
            yield one.row.id, "updated"
            stands = one.age
        else:
            yield one.row.id, "stale"


def _log(rows: Sequence[PendingRow], events: Sequence[Event], outcomes: Sequence[Outcome], started: float) -> None:
    duration_ms = round((time.perf_counter() - started) * 1000, 3)
    claimed = {row.id: row for row in rows}
    ticket_ids = {one.row.id: one.ticket.ticket_id for one in events}
    for outcome in outcomes:
        row = claimed[outcome.id]
        logs.log(
            _logger,
            logging.ERROR if outcome.error else logging.INFO,
            "ticket_failed" if outcome.error else "ticket_promoted",
            correlation_id=row.correlation_id,
            trace_id=tracing.trace_id_of(row.traceparent) if row.traceparent else None,
            tenant_id=row.tenant_id,
            ticket_id=ticket_ids.get(row.id),
            inbox_id=row.id,
            action=outcome.action,
            duration_ms=duration_ms,
            lag_ms=round((time.time() - row.received_at.timestamp()) * 1000, 3),
            error=outcome.error,
        )


@functools.cache
def _engine() -> AsyncEngine:
    return database.create_engine(
        settings.database_url, "ticket-inbox worker", settings.worker_concurrency, STATEMENT_TIMEOUT
    )
