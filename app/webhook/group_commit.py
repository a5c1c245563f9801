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

from app.webhook.admission import Admission
from app.webhook.fair_share import FairShare
from db import engine as database
from db import failure_in_span, failures, inbox, queue
from otel import metrics, tracing
from otel.tracing import Failure, SpanPosition

STATEMENTS = 2  # under way at once, so that one that hangs does not hold up all; 1 and 3 were within a few per cent
JUST = 0.1  # seconds that the last batch's wait says something of the load
BATCH_BYTES = 16 * 1024 * 1024  # most payload of one statement


class QueueFullError(Exception):
    """Too many webhooks, or too many bytes of them, wait for Postgres."""


class NotEnabledError(Exception):
    """The tenant was disabled or removed after the webhook was verified: nothing of it is kept."""


class Waiting(msgspec.Struct, eq=False):
    """A delivery that waits for its commit."""

    delivery: inbox.Delivery
    position: SpanPosition
    inbox_id: asyncio.Future[int]
    entered: float  # by the loop's clock
    since: int  # nanoseconds since 1970


class GroupCommit:
    """Appends deliveries to the inbox: one commit for all that wait when the commit before it is done."""

    def __init__(self, engine: AsyncEngine, fair_share: FairShare, admission: Admission, timeout: float) -> None:
        self._engine, self._fair_share, self._admission = engine, fair_share, admission
        self._timeout = timeout  # seconds until a webhook is answered without its commit
        self._waiting: deque[Waiting] = deque()
        self._unanswered: deque[Waiting] = deque()  # the longest waiting first
        self._running = 0  # statements
        self._last_wait, self._last_at = 0.0, float("-inf")  # of the first in the last batch, and when that ended
        self._tasks: set[asyncio.Task[None]] = set()
        self._timer: asyncio.TimerHandle | None = None

    def append(self, delivery: inbox.Delivery, position: SpanPosition) -> asyncio.Future[int]:
        """Return the future inbox id of `delivery`: known once it and its job are committed.

        Raises QueueFullError now; the future raises NotEnabledError, a database error, or TimeoutError. After the last
        two it may still be kept.
        """
        self._forget_answered()
        if not self._admission.has_place(delivery.tenant_id, len(delivery.payload)):
            raise QueueFullError
        self._admission.enter(delivery.tenant_id, len(delivery.payload))
        self._fair_share.count(delivery.tenant_id)
        loop = asyncio.get_running_loop()
        one = Waiting(delivery, position, loop.create_future(), loop.time(), time.time_ns())
        self._waiting.append(one)
        self._unanswered.append(one)
        if self._timer is None:
            self._timer = loop.call_at(one.entered + self._timeout, self._expire)
        if self._running < STATEMENTS:
            self._start()
        return one.inbox_id

    @property
    def are_busy(self) -> bool:
        """Whether as many statements are under way as there may be."""
        return self._running >= STATEMENTS

    @property
    def is_crowded(self) -> bool:
        """Whether a tenant's share now decides which webhooks may wait."""
        return self._admission.is_crowded

    def longest_wait(self) -> float:
        """Return for how many seconds a webhook has waited for its commit: of those that wait, the longest.

        One that was just committed counts too: all that shared its commit were answered at once, and the next ones of
        a crowd have only begun to wait.
        """
        self._forget_answered()
        now = asyncio.get_running_loop().time()
        waits = now - self._unanswered[0].entered if self._unanswered else 0.0
        return max(waits, self._last_wait if now - self._last_at < JUST else 0.0)

    async def drained(self) -> None:
        """Wait until no statement is under way any more; it takes two time limits at most."""
        while self._tasks:
            await asyncio.wait(self._tasks)

    def _start(self) -> None:
        self._running += 1
        task = asyncio.get_running_loop().create_task(self._commit_all())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _commit_all(self) -> None:
        """Commit batch after batch until nothing waits."""
        try:
            while batch := self._take():
                try:
                    await self._commit(batch)
                finally:
                    self._release(batch)
        finally:
            # In the very turn of the loop that finds nothing left, so that the next to arrive starts a statement.
            self._running -= 1

    def _take(self) -> list[Waiting]:
        """Take the next batch out of the queue, without those that were answered already."""
        batch: list[Waiting] = []
        size = 0
        while self._waiting and len(batch) < queue.JOB_ROWS and size < BATCH_BYTES:
            one = self._waiting.popleft()
            if one.inbox_id.done():
                self._admission.leave(one.delivery.tenant_id, len(one.delivery.payload))
                continue
            batch.append(one)
            size += len(one.delivery.payload)
        return batch

    def _release(self, batch: Sequence[Waiting]) -> None:
        """Free the places of `batch`, and have the admission learn how long its first one waited."""
        for one in batch:
            self._admission.leave(one.delivery.tenant_id, len(one.delivery.payload))
        self._last_at = now = asyncio.get_running_loop().time()
        self._last_wait = now - batch[0].entered
        self._admission.limit.learn(len(batch), self._last_wait, now)

    async def _commit(self, batch: Sequence[Waiting]) -> None:
        """Append `batch` in one statement, or one by one where Postgres refuses a value in one of its rows."""
        statement = Statement(batch)
        try:
            ids = await self._append(batch)
        except Exception as error:  # noqa: BLE001  (whatever it is: each sender gets an answer)
            statement.end(failure_in_span.of(error))
            if len(batch) > 1 and failures.is_fault_of_a_value(error):
                for one in batch:
                    await self._commit([one])
            else:
                _fail(batch, error)
        else:
            statement.end(None)
            for one, inbox_id in zip(batch, ids, strict=True):
                _answer(one, inbox_id)

    async def _append(self, batch: Sequence[Waiting]) -> list[int | None]:
        async with database.connection(self._engine) as connection:
            deliveries = [one.delivery for one in batch]
            over_share = self._fair_share.over(delivery.tenant_id for delivery in deliveries)
            return await inbox.append(connection, deliveries, over_share)

    def _forget_answered(self) -> None:
        while self._unanswered and self._unanswered[0].inbox_id.done():
            self._unanswered.popleft()

    def _expire(self) -> None:
        """Time out those that have waited too long, and set the timer for the next one."""
        loop = asyncio.get_running_loop()
        self._forget_answered()
        while self._unanswered and self._unanswered[0].entered + self._timeout <= loop.time():
            self._unanswered.popleft().inbox_id.set_exception(TimeoutError())
            self._forget_answered()
        first = self._unanswered[0] if self._unanswered else None
        self._timer = loop.call_at(first.entered + self._timeout, self._expire) if first else None


def _answer(one: Waiting, inbox_id: int | None) -> None:
    if not one.inbox_id.done():
        if inbox_id is None:
            one.inbox_id.set_exception(NotEnabledError())
        else:
            one.inbox_id.set_result(inbox_id)


def _fail(batch: Sequence[Waiting], error: Exception) -> None:
    for one in batch:
        if not one.inbox_id.done():
            # Without its traceback, whose frames hold the batch, and that the future: the payloads would stay.
            one.inbox_id.set_exception(error.with_traceback(None))


class Statement:
    """The span of one shared statement, and one in each webhook's trace that is linked to it."""

    def __init__(self, batch: Sequence[Waiting]) -> None:
        self._batch = batch
        self._sampled = [one for one in batch if one.position.is_sampled]
        self._position = tracing.position_in_new_trace() if self._sampled else None
        self._started = time.time_ns()

    def end(self, error: Failure | None) -> None:
        """Count the statement and record its spans; `error` is why it did not commit."""
        seconds = (time.time_ns() - self._started) / 1e9
        metrics.statement_ended(inbox.APPEND_SUMMARY, "postgres" if error else "", seconds)
        metrics.APPENDED_ROWS.observe(len(self._batch))
        if self._position is None:
            return
        operation, table = inbox.APPEND_SUMMARY.split()
        attributes = {
            "db.system.name": "postgresql",
            "db.operation.name": operation,
            "db.collection.name": table,
            "db.query.summary": inbox.APPEND_SUMMARY,
            "db.operation.batch.size": len(self._batch),
            # The first waited longest. No links back: behind sampling most would lead nowhere.
            "correlation_ids": [one.delivery.correlation_id for one in self._sampled[: tracing.FEW]],
        }
        tracing.record(self._position, inbox.APPEND_SUMMARY, SpanKind.CLIENT, self._started, attributes, error=error)
        for one in self._sampled:
            self._record_append(one, self._position, error)

    def _record_append(self, one: Waiting, statement: SpanPosition, error: Failure | None) -> None:
        delivery = one.delivery
        known = tracing.identity(delivery.correlation_id, delivery.tenant_id, delivery.ticket_id)
        tracing.record(
            tracing.position_below(one.position.context),
            "append inbox",
            SpanKind.PRODUCER,
            one.since,
            {**tracing.APPENDING, **known},
            links=(statement.context,),
            error=error,
        )
