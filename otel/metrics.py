"""What is counted? Each instrument is named here, once.

prometheus_client keeps the values: it takes a tenth of the OpenTelemetry SDK's time for an observation, and it has
exemplars at `/metrics`. `otel/export.py` sends the same values by OTLP (docs/decisions/0016).
"""

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from collections.abc import Set as AbstractSet
from typing import Any

from prometheus_client import REGISTRY, CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.exposition import choose_encoder
from prometheus_client.multiprocess import MultiProcessCollector

from otel import standard_error
from otel.gauges import InboxGauges, WorkerHeartbeat
from otel.tracing import SpanPosition

MOST_TENANTS = 100  # that have a label value of their own; the rest share OTHER
OTHER = "(others)"  # no tenant's own label: see _named
SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 60, 600, 3600)
ROWS = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000)
SHARED_IN = "PROMETHEUS_MULTIPROC_DIR"  # a directory; prometheus_client counts in its files if it is set at import

# Names and attributes of the first two are OpenTelemetry's semantic conventions.
REQUEST_DURATION = Histogram(
    "http_server_request_duration_seconds",
    "How long a webhook, or a question for similar tickets, took from its receipt to its answer.",
    ["http_request_method", "http_route", "http_response_status_code", "error_type"],
    buckets=SECONDS,
)
STATEMENT_DURATION = Histogram(
    "db_client_operation_duration_seconds",
    "How long the statement took that appends to the inbox, its commit included, or that finds similar tickets.",
    ["db_system_name", "db_operation_name", "db_collection_name", "error_type"],
    buckets=SECONDS,
)
WEBHOOKS = Counter(
    "ticket_inbox_webhooks",
    "Webhooks answered, by outcome: accepted, or the kind of the refusal. Those that verified have their tenant.",
    ["outcome", "tenant_id"],
)
SIGNATURE_FAILURES = Counter(
    "ticket_inbox_signature_failures",
    "Webhooks refused because their signature did not verify, by the tenant that they name; all unknown names are one.",
    ["tenant_id"],
)
QUESTIONS = Counter(
    "ticket_inbox_similar_questions",
    "Questions for similar tickets, by outcome: answered, or the kind of the refusal; with a token, by its tenant.",
    ["outcome", "tenant_id"],
)
QUESTION_DURATION = Histogram(
    "ticket_inbox_similar_duration_seconds",
    "How long a question for similar tickets took from its receipt to its answer, by outcome.",
    ["outcome"],
    buckets=SECONDS[:13],
)
APPENDED_ROWS = Histogram("ticket_inbox_append_rows", "Webhooks that shared one statement and commit.", buckets=ROWS)
PROMOTION_LAG = Histogram(
    "ticket_inbox_promotion_lag_seconds", "From the receipt of a webhook until it was stored.", buckets=SECONDS
)
PROMOTED_ROWS = Counter("ticket_inbox_promoted_rows", "Inbox rows promoted, by what they did.", ["action"])
REFUSED_ROWS = Counter("ticket_inbox_refused_rows", "Inbox rows that promotion failed or rejected.", ["status"])
JOB_RETRIES = Counter("ticket_inbox_job_retries", "Jobs put off because Postgres was at fault.", ["task"])
RECONCILED = Counter(
    "ticket_inbox_reconciled_tickets",
    "Resolved tickets that ServiceDesk Plus was asked about, by outcome; `seen` is all of them.",
    ["tenant_id", "outcome"],
)
RECONCILED_AT = Gauge(
    "ticket_inbox_reconciled_timestamp_seconds",
    "When this worker last completed a reconciliation of the tenant.",
    ["tenant_id"],
)
EXPORTED = Counter(
    "ticket_inbox_telemetry_exported",
    "Spans, metrics or log lines that the receiver took (success), or refused for good (failure).",
    ["signal", "outcome"],
)
RETRIED = Counter(
    "ticket_inbox_telemetry_retried",
    "Spans, metrics or log lines that the receiver could not take yet; they wait to be sent again.",
    ["signal"],
)
DROPPED = Counter(
    "ticket_inbox_telemetry_dropped",
    "Spans or log lines dropped because the queue was full, or the process ended before the receiver took them.",
    ["signal"],
)
LOG_LINES_DROPPED = Counter("ticket_inbox_log_lines_dropped", "Log lines dropped because standard error took nothing.")

# A counter that Prometheus first sees at 1 shows no increase, so each is there from the beginning, at 0.
for status in ("failed", "rejected"):
    REFUSED_ROWS.labels(status)
for action in ("inserted", "updated", "stale"):
    PROMOTED_ROWS.labels(action)

standard_error.on_drop.append(LOG_LINES_DROPPED.inc)
inbox_gauges = InboxGauges()
REGISTRY.register(inbox_gauges)
worker_heartbeat = WorkerHeartbeat()
REGISTRY.register(worker_heartbeat)
_tenants: set[str] = set()
_answered: dict[tuple[str, int, str], Any] = {}
_outcomes: dict[tuple[str, str], Any] = {}


def export_begins(signal: str) -> None:
    """Show the counters of an exported signal from the beginning, at 0."""
    for outcome in ("success", "failure"):
        EXPORTED.labels(signal, outcome)
    RETRIED.labels(signal)
    DROPPED.labels(signal)


def begin_at_zero(route: str, failures: Mapping[int, str], success: int = 202) -> None:
    """Show from the start, at 0, how often `route` answers `success`, and each status of `failures` with its kind.

    Prometheus sees no increase in a counter that it first meets at 1: no alert would count a route's first failure.
    """
    for status, kind in {success: "", **failures}.items():
        REQUEST_DURATION.labels("POST", route, str(status), kind)


def webhook_answered(
    route: str, status: int, kind: str | None, seconds: float, tenant_id: str, position: SpanPosition | None
) -> None:
    """Count an answered webhook: `kind` of its refusal, or None; `tenant_id` if it verified, else an empty text."""
    outcome = (kind or "accepted", _named(tenant_id))
    if (counter := _outcomes.get(outcome)) is None:
        counter = _outcomes[outcome] = WEBHOOKS.labels(*outcome)
    counter.inc()
    answer = (route, status, outcome[0])
    if (histogram := _answered.get(answer)) is None:
        histogram = _answered[answer] = REQUEST_DURATION.labels("POST", route, str(status), kind or "")
    histogram.observe(seconds, _exemplar(position) if position and position.is_sampled else None)


def question_answered(
    route: str, status: int, kind: str | None, seconds: float, tenant_id: str, position: SpanPosition
) -> None:
    """Count an answered question: `kind` of its refusal, or None; `tenant_id` of its token, or an empty text."""
    outcome, exemplar = kind or "answered", _exemplar(position) if position.is_sampled else None
    QUESTIONS.labels(outcome, _named(tenant_id)).inc()
    QUESTION_DURATION.labels(outcome).observe(seconds, exemplar)
    REQUEST_DURATION.labels("POST", route, str(status), kind or "").observe(seconds, exemplar)


def statement_ended(summary: str, kind: str, seconds: float) -> None:
    """Count a statement: `summary` is its operation and table, `kind` its kind of error, or an empty text."""
    STATEMENT_DURATION.labels("postgresql", *summary.split(), kind).observe(seconds)


def rows_promoted(actions: Mapping[str, int], refused: Mapping[str, int]) -> None:
    """Count the rows of a batch: promoted rows by action, the others by status."""
    for action, count in actions.items():
        PROMOTED_ROWS.labels(action).inc(count)
    for status, count in refused.items():
        REFUSED_ROWS.labels(status).inc(count)


def promotion_lagged(seconds: float, position: SpanPosition | None) -> None:
    """Count a row's `seconds` from its receipt until it was stored; `position` if its trace is exported."""
    PROMOTION_LAG.observe(seconds, _exemplar(position) if position else None)


def reconciled(tenant_id: str, counts: Mapping[str, int], *, is_complete: bool) -> None:
    """Count the outcomes of a tenant's run. Zeroes too: a counter that is first seen at 1 shows no increase."""
    tenant_id = _named(tenant_id)
    for outcome, count in counts.items():
        RECONCILED.labels(tenant_id, outcome).inc(count)
    if is_complete:
        RECONCILED_AT.labels(tenant_id).set_to_current_time()


def signatures_failed(failures: Mapping[str | None, int], known: AbstractSet[str]) -> None:
    """Count failed signatures by known tenant; None stands for all names that are unknown.

    Where each of the `known` has a name, it is there from the beginning, at 0: else Prometheus would not see its first
    failure. The names are those of WEBHOOKS, since an alert asks there whether the tenant's signatures verify.
    """
    if len(known) <= MOST_TENANTS:
        for tenant_id in sorted(known):
            SIGNATURE_FAILURES.labels(_named(tenant_id))
    for name, count in {None: 0, **failures}.items():
        SIGNATURE_FAILURES.labels(_named(name or "")).inc(count)


def exposition(accept: str) -> tuple[bytes, str]:
    """Return a scrape's body and its content type; with exemplars only if `accept` asks for OpenMetrics.

    Any one of several server processes may be scraped: each returns what all of them have counted.
    """
    encode, content_type = choose_encoder(accept)
    return encode(_of_all_processes() if SHARED_IN in os.environ else REGISTRY), content_type


@contextlib.contextmanager
def shared() -> Iterator[None]:
    """Make the processes that are started in this block count together, in a directory that is removed at its end.

    Raises OSError if the directory cannot be made.
    """
    os.environ[SHARED_IN] = tempfile.mkdtemp(prefix="ticket-inbox-metrics-")
    try:
        yield
    finally:
        remove_shared()


def remove_shared() -> None:
    """Remove the directory in which processes count together."""
    shutil.rmtree(os.environ[SHARED_IN], ignore_errors=True)


def _of_all_processes() -> CollectorRegistry:
    """Return the sums over all processes' files, also of ended processes, and this process's reading of the inbox."""
    registry = CollectorRegistry()
    MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
    registry.register(inbox_gauges)
    return registry


def _exemplar(position: SpanPosition) -> dict[str, str]:
    return {"trace_id": f"{position.context.trace_id:032x}", "span_id": f"{position.context.span_id:016x}"}


def _named(tenant_id: str) -> str:
    """Return the label's value for a tenant: its id for the first MOST_TENANTS, which are kept."""
    if tenant_id in _tenants or not tenant_id:
        return tenant_id
    if len(_tenants) >= MOST_TENANTS or tenant_id == OTHER:  # a tenant may have any name
        return OTHER
    _tenants.add(tenant_id)
    return tenant_id
