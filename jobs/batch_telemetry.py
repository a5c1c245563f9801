"""What do logs, traces and metrics show of a batch? A line, a span and a count for each row, and a span for the job."""

import collections
import logging
import time
from collections.abc import Iterator, Sequence
from types import TracebackType
from typing import Self

import msgspec
from opentelemetry.trace import SpanContext, SpanKind

from db import failure_in_span, queue
from db.inbox import ClaimedRow, Outcome
from otel import logs, metrics, tracing
from otel.tracing import Failure, SpanPosition

LINES = {"promoted": "ticket_promoted", "failed": "ticket_failed", "rejected": "ticket_rejected"}
LATE = 60.0  # seconds from receipt to stored, past which `is_late` marks a promotion, and `status` a backlog
_logger = logging.getLogger("ticket_inbox.promote")


class Job(msgspec.Struct, frozen=True):
    """The job that promotes a batch, and its attempt number, which begins at 1."""

    id: int | None = None
    tries: int = 1
    task: str = queue.PROMOTE


class Batch:
    """A context manager around a batch: it logs, traces and counts each row's outcome, or traces why the batch failed.

    The caller sets `rows` and `outcomes` as they become known.
    """

    def __init__(self, job: Job) -> None:
        self._job = job
        self._started, self._since = time.perf_counter(), time.time_ns()
        self.rows: Sequence[ClaimedRow] = ()
        self.outcomes: list[Outcome] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, error: BaseException | None, _traceback: TracebackType | None
    ) -> None:
        if error is None:
            self._ended()
        else:
            self._failed(failure_in_span.of(error))

    def _ended(self) -> None:
        """Log, trace and count the outcome of every row."""
        claimed = {row.id: row for row in self.rows}
        seconds = time.perf_counter() - self._started
        positions = self._record({outcome.id: outcome for outcome in self.outcomes})
        for outcome in self.outcomes:
            self._log(claimed[outcome.id], outcome, positions.get(outcome.id), seconds)
        self._count(claimed, positions)

    def _failed(self, error: Failure) -> None:
        """Trace that this try of the batch failed: no row has an outcome."""
        positions = self._record({}, error)
        if not positions:
            self._record_job(tracing.position_in_new_trace(), error, [])

    def _record(self, outcomes: dict[int, Outcome], error: Failure | None = None) -> dict[int, SpanPosition]:
        """Record the spans of the rows whose traces are exported, and the job's if there is such a row.

        Returns the spans' positions by row id.
        """
        positions = {row.id: tracing.position_below(context) for row, context in self._sampled()}
        if not positions:
            return positions
        job = tracing.position_in_new_trace()
        self._record_job(job, error, [row.correlation_id for row in self.rows if row.id in positions][: tracing.FEW])
        for row in self.rows:
            if position := positions.get(row.id):
                outcome = outcomes.get(row.id)
                tracing.record(
                    position,
                    "promote inbox",
                    SpanKind.CONSUMER,
                    self._since,
                    self._attributes(row, outcome),
                    links=(job.context,),
                    error=_failure(outcome) if outcome else error,
                )
        return positions

    def _sampled(self) -> Iterator[tuple[ClaimedRow, SpanContext]]:
        for row in self.rows:
            if context := tracing.context_of(row.traceparent):
                yield row, context

    def _record_job(self, position: SpanPosition, error: Failure | None, correlation_ids: Sequence[str]) -> None:
        attributes = {
            **tracing.PROMOTING,
            "messaging.operation.name": self._job.task,
            "messaging.batch.message_count": len(self.rows),
            "job_id": self._job.id or 0,
            "attempt": self._job.tries,
            "correlation_ids": correlation_ids,
        }
        tracing.record(position, f"process {self._job.task}", SpanKind.CONSUMER, self._since, attributes, error=error)

    def _attributes(self, row: ClaimedRow, outcome: Outcome | None) -> dict[str, str | int]:
        ticket_id, lag = (outcome.ticket_id if outcome else None) or row.ticket_id, _lag(row)
        known: dict[str, str | int] = {
            **tracing.PROMOTING,
            **tracing.identity(row.correlation_id, row.tenant_id, ticket_id),
            "inbox_id": row.id,
            "attempt": row.attempts + self._job.tries,
            "job_id": self._job.id or 0,
            "task": self._job.task,
            "lag_ms": round(lag * 1000),
        }
        if outcome and outcome.action:
            known["action"] = outcome.action
        if lag > LATE and row.status == "pending":  # a reprocessed row's age is no lag
            known["is_late"] = True
        return known

    def _log(self, row: ClaimedRow, outcome: Outcome, position: SpanPosition | None, seconds: float) -> None:
        trace_id, span_id = tracing.ids_of(row.traceparent)
        logs.log(
            _logger,
            logging.ERROR if outcome.error else logging.INFO,
            LINES[outcome.status],
            correlation_id=row.correlation_id,
            trace_id=trace_id,
            span_id=f"{position.context.span_id:016x}" if position else span_id,
            tenant_id=row.tenant_id,
            ticket_id=outcome.ticket_id,
            inbox_id=row.id,
            job_id=self._job.id,
            action=outcome.action,
            duration_ms=round(seconds * 1000, 3),
            lag_ms=round(_lag(row) * 1000, 3),
            error=outcome.error,
        )

    def _count(self, claimed: dict[int, ClaimedRow], positions: dict[int, SpanPosition]) -> None:
        actions = collections.Counter(outcome.action for outcome in self.outcomes if outcome.action)
        refused = collections.Counter(outcome.status for outcome in self.outcomes if not outcome.action)
        metrics.rows_promoted(actions, refused)
        for outcome in self.outcomes:
            if outcome.action and claimed[outcome.id].status == "pending":  # a reprocessed row's age is no lag
                metrics.promotion_lagged(_lag(claimed[outcome.id]), positions.get(outcome.id))


def _failure(outcome: Outcome) -> Failure | None:
    """Return why a row was not promoted: `failed` or `rejected`, and its reason; None if it was."""
    return None if outcome.action else Failure(outcome.status, outcome.error or outcome.status)


def _lag(row: ClaimedRow) -> float:
    return time.time() - row.received_at.timestamp()
