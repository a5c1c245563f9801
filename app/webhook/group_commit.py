"""How do webhooks that arrive together share one statement and one commit?

What arrives while a statement is under way waits for the next. There is no timer, so an idle server commits at once,
and a busy one makes batches by itself.
"""

import asyncio
import time
from collections import deque
from collections.abc import Sequence

import msgspec
from opentelemetry.trace import SpanKind
from sqlalchemy.ext.asyncio import AsyncEngine

from app.webhook.admission import Room
from app.webhook.fair_share import Shares
from db import engine as database
from db import inbox, queue
from otel import metrics, tracing
from otel.tracing import Place

STATEMENTS = 2  # under way at once, so that one that hangs does not hold up all; 1 and 3 were within a few per cent
BATCH_BYTES = 16 * 1024 * 1024  # most payload of one statement


FULL = "Too many webhooks are waiting for Postgres; send it again."


class QueueFullError(Exception):
    """Too many webhooks, or too many bytes of them, wait for Postgres."""


class Waiting(msgspec.Struct, eq=False):
    """A delivery that waits for its commit."""

    delivery: inbox.Delivery
    place: Place
    inbox_id: asyncio.Future[int]
    deadline: float  # by the loop's clock
    since: int  # nanoseconds since 1970


class SharedCommit:
    """Appends deliveries to the inbox, as many in one commit as are there when the one before is done."""

    def __init__(self, engine: AsyncEngine, shares: Shares, *, rows: int, size: int, timeout: float) -> None:
        self._engine, self._shares, self._timeout = engine, shares, timeout
        self.room = Room(rows, size)
        self._waiting: deque[Waiting] = deque()
        self._unanswered: deque[Waiting] = deque()  # in order of their deadlines
        self._at_work = 0  # statements
        self._tasks: set[asyncio.Task[None]] = set()
        self._timer: asyncio.TimerHandle | None = None

    def append(self, delivery: inbox.Delivery, place: Place) -> asyncio.Future[int]:
        """Give the future inbox id of `delivery`: known once it and its job are committed.

        Raises QueueFullError now; the future raises a database error, or TimeoutError. Then it may still be kept.
        """
        self._forget_answered()
        if not self.room.has_place(delivery.tenant_id, len(delivery.payload)):
            raise QueueFullError
        loop = asyncio.get_running_loop()
        one = Waiting(delivery, place, loop.create_future(), loop.time() + self._timeout, time.time_ns())
        self.room.enter(delivery.tenant_id, len(delivery.payload))
        self._shares.count(delivery.tenant_id)
        self._waiting.append(one)
        self._unanswered.append(one)
        if self._timer is None:
            self._timer = loop.call_at(one.deadline, self._expire)
        if self._at_work < STATEMENTS:
            self._at_work += 1
            task = loop.create_task(self._work())
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        return one.inbox_id

    async def drained(self) -> None:
        """Wait until nothing is under way any more; it takes two time limits at most."""
        while self._tasks:
            await asyncio.wait(self._tasks)

    async def _work(self) -> None:
        try:
            while batch := self._take():
                try:
                    await self._append(batch)
                finally:
                    self._let_go(batch)
        finally:
            # In the very turn that finds nothing left: who arrives after it must find a place free.
            self._at_work -= 1

    def _take(self) -> list[Waiting]:
        """Take the next batch out of the queue, without those that nobody waits for any more."""
        batch: list[Waiting] = []
        size = 0
        while self._waiting and len(batch) < queue.JOB_ROWS and size < BATCH_BYTES:
            one = self._waiting.popleft()
            if one.inbox_id.done():
                self.room.leave(one.delivery.tenant_id, len(one.delivery.payload))
                continue
            batch.append(one)
            size += len(one.delivery.payload)
        return batch

    def _let_go(self, batch: Sequence[Waiting]) -> None:
        """Make room where `batch` was, and learn from how long it took."""
        for one in batch:
            self.room.leave(one.delivery.tenant_id, len(one.delivery.payload))
        now = asyncio.get_running_loop().time()
        self.room.learn(len(batch), now - (batch[0].deadline - self._timeout), now)

    async def _append(self, batch: Sequence[Waiting]) -> None:
        """Append `batch` in one statement. What Postgres has against one row is not the others' fault."""
        statement = Statement(batch)
        try:
            async with database.connection(self._engine) as connection:
                deliveries = [one.delivery for one in batch]
                over_share = self._shares.over(delivery.tenant_id for delivery in deliveries)
                ids = await inbox.append(connection, deliveries, over_share)
        except Exception as error:  # noqa: BLE001  (whatever it is: nobody may wait in vain)
            statement.ended(database.reason(error))
            if len(batch) > 1 and database.is_fault_of_a_value(error):
                for one in batch:
                    await self._append([one])
                return
            for one in batch:
                if not one.inbox_id.done():
                    # Without its traceback, whose frames hold the batch, and that the future: the payloads would stay.
                    one.inbox_id.set_exception(error.with_traceback(None))
            return
        statement.ended(None)
        for one, inbox_id in zip(batch, ids, strict=True):
            if not one.inbox_id.done():
                one.inbox_id.set_result(inbox_id)

    def _forget_answered(self) -> None:
        while self._unanswered and self._unanswered[0].inbox_id.done():
            self._unanswered.popleft()

    def _expire(self) -> None:
        """Let go of those whose time is up, and look again when the next one's is."""
        loop = asyncio.get_running_loop()
        self._forget_answered()
        while self._unanswered and self._unanswered[0].deadline <= loop.time():
            self._unanswered.popleft().inbox_id.set_exception(TimeoutError())
            self._forget_answered()
        self._timer = loop.call_at(self._unanswered[0].deadline, self._expire) if self._unanswered else None


class Statement:
    """What is seen of one shared statement: a span of its own, and one in each webhook's trace that is linked to it."""

    def __init__(self, batch: Sequence[Waiting]) -> None:
        self._batch = batch
        self._sampled = [one for one in batch if one.place.is_sampled]
        self._place = tracing.place_of_its_own() if self._sampled else None
        self._started = time.time_ns()

    def ended(self, error: str | None) -> None:
        """Tell that it committed, or why it did not."""
        seconds = (time.time_ns() - self._started) / 1e9
        metrics.statement_ended(inbox.APPEND_SUMMARY, "postgres" if error else "", seconds)
        metrics.APPENDED_ROWS.observe(len(self._batch))
        if self._place is None:
            return
        operation, table = inbox.APPEND_SUMMARY.split()
        attributes = {
            "db.system.name": "postgresql",
            "db.operation.name": operation,
            "db.collection.name": table,
            "db.query.summary": inbox.APPEND_SUMMARY,
            "db.operation.batch.size": len(self._batch),
        }
        tracing.record(self._place, inbox.APPEND_SUMMARY, SpanKind.CLIENT, self._started, attributes, error=error)
        for one in self._sampled:
            tracing.record(
                tracing.place_below(one.place.context),
                "append inbox",
                SpanKind.PRODUCER,
                one.since,
                _attributes(one.delivery),
                links=(self._place.context,),
                error=error,
            )


def _attributes(delivery: inbox.Delivery) -> dict[str, str]:
    return {
        "messaging.system": "procrastinate",
        "messaging.operation.name": "append",
        "messaging.operation.type": "send",
        "messaging.destination.name": "inbox",
        **tracing.identity(delivery.correlation_id, delivery.tenant_id, delivery.ticket_id),
    }
