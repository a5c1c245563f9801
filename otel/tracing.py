"""Which trace does a webhook belong to, and how long did each step take?

A span is handed over whole, when it has ended: a `ReadableSpan` goes straight to the SDK's processor. Starting a span
and setting its attributes one by one under a lock costs several times as much (docs/decisions/0015). Where nothing is
exported there are no spans, only the ids by which logs and the inbox name a webhook's trace.
"""

import re
import time
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.id_generator import RandomIdGenerator
from opentelemetry.sdk.trace.sampling import Decision
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.semconv.schemas import Schemas
from opentelemetry.trace import Link, SpanContext, SpanKind, Status, StatusCode, TraceFlags
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

SCHEMA_URL = Schemas.V1_44_0.value
SAMPLED = TraceFlags(TraceFlags.SAMPLED)
NOT_SAMPLED = TraceFlags(TraceFlags.DEFAULT)
REASON_CHARS = 200  # of an error in a span
FEW = 20  # webhooks that the span of a shared statement or job names

# Attributes of a delivery's spans, by OpenTelemetry's semantic conventions for messaging.
_INBOX = {"messaging.system": "procrastinate", "messaging.destination.name": "inbox"}
APPENDING = {**_INBOX, "messaging.operation.name": "append", "messaging.operation.type": "send"}
PROMOTING = {**_INBOX, "messaging.operation.name": "promote", "messaging.operation.type": "process"}

Attributes = Mapping[str, Any]
_UNSET = Status(StatusCode.UNSET)
_OURS = re.compile("00-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})", re.ASCII)
_w3c = TraceContextTextMapPropagator()
_ids = RandomIdGenerator()


class SpanPosition(msgspec.Struct, frozen=True):
    """A span's place in its trace: its own context, and its parent's unless it is the first."""

    context: SpanContext
    parent: SpanContext | None = None

    @property
    def is_sampled(self) -> bool:
        """Whether this trace is exported."""
        return bool(self.context.trace_flags & TraceFlags.SAMPLED)

    @property
    def traceparent(self) -> str:
        """The W3C header that names this position."""
        context = self.context
        return f"00-{context.trace_id:032x}-{context.span_id:016x}-{context.trace_flags:02x}"


class Failure(msgspec.Struct, frozen=True):
    """Why a span is red: its `type`, one of a few words, and its `reason` in one line without ticket text.

    `sqlstate` is the code of Postgres, where it is the cause.
    """

    type: str
    reason: str
    sqlstate: str | None = None

    @property
    def attributes(self) -> dict[str, str | bool]:
        """The attributes of every red span. `is_error` is for a search that names no type (docs/tracing.md)."""
        known: dict[str, str | bool] = {"is_error": True, "error.type": self.type}
        return {**known, "db.response.status_code": self.sqlstate} if self.sqlstate else known


class Recorder:
    """Hands spans over to `processor`; `provider` has the sampler and the resource that OTEL_* ask for."""

    def __init__(self, provider: TracerProvider, processor: SpanProcessor) -> None:
        self._resource = provider.resource
        self._sampler = provider.sampler
        self._processor = processor
        self._scope = InstrumentationScope("ticket-inbox", schema_url=SCHEMA_URL)
        provider.add_span_processor(processor)

    def samples(self, header: str | None, trace_id: int, name: str, attributes: Attributes) -> bool:
        """Return True if the sampler wants a request exported."""
        parent = _w3c.extract({"traceparent": header}) if header else None
        decided = self._sampler.should_sample(parent, trace_id, name, SpanKind.SERVER, attributes)
        return decided.decision is Decision.RECORD_AND_SAMPLE

    def record(  # noqa: PLR0913  (what a span is)
        self,
        position: SpanPosition,
        name: str,
        kind: SpanKind,
        started: int,
        attributes: Attributes,
        *,
        links: Sequence[SpanContext] = (),
        error: Failure | None = None,
        ended: int | None = None,
    ) -> None:
        """Hand over a span that began at `started` (nanoseconds since 1970) and ended at `ended`, or ends now."""
        self._processor.on_end(
            ReadableSpan(
                name,
                position.context,
                position.parent,
                self._resource,
                {**attributes, **error.attributes} if error else attributes,
                links=[Link(context) for context in links],
                kind=kind,
                status=Status(StatusCode.ERROR, error.reason[:REASON_CHARS]) if error else _UNSET,
                start_time=started,
                end_time=ended or time.time_ns(),
                instrumentation_scope=self._scope,
            )
        )


_recorder: Recorder | None = None


def use(recorder: Recorder | None) -> None:
    """Record spans by `recorder` from now on; none if it is None."""
    global _recorder  # noqa: PLW0603  (one process, one recorder)
    _recorder = recorder


def position_of_request(header: str | None, name: str, attributes: Attributes) -> SpanPosition:
    """Return the position of a request with the `traceparent` `header`: in that trace if it is valid, else a new one.

    If spans are exported, the sampler decides about this one. If not, the sender's own span stands for the request,
    so that its trace has no gap. Source: https://www.w3.org/TR/trace-context/
    """
    parent = _parent(header) if header else None
    trace_id = parent.trace_id if parent else _ids.generate_trace_id()
    if _recorder is None:
        return SpanPosition(parent or SpanContext(trace_id, _ids.generate_span_id(), is_remote=False))
    flags = SAMPLED if _recorder.samples(header, trace_id, name, attributes) else NOT_SAMPLED
    return SpanPosition(SpanContext(trace_id, _ids.generate_span_id(), is_remote=False, trace_flags=flags), parent)


def position_in_new_trace() -> SpanPosition:
    """Return a position in a new, exported trace, for work that several webhooks share if one of them is exported."""
    return SpanPosition(
        SpanContext(_ids.generate_trace_id(), _ids.generate_span_id(), is_remote=False, trace_flags=SAMPLED)
    )


def position_below(parent: SpanContext) -> SpanPosition:
    """Return the position of a span below `parent`, in the same trace; it is exported if `parent` is."""
    context = SpanContext(parent.trace_id, _ids.generate_span_id(), is_remote=False, trace_flags=parent.trace_flags)
    return SpanPosition(context, parent)


def context_of(traceparent: str | None) -> SpanContext | None:
    """Return the context in a `traceparent` that we wrote; None if there is none, or if its trace is not exported."""
    if _recorder is None or not traceparent or not (found := _OURS.fullmatch(traceparent)):
        return None
    flags = TraceFlags(int(found[3], 16))
    return (
        SpanContext(int(found[1], 16), int(found[2], 16), is_remote=True, trace_flags=flags) if flags.sampled else None
    )


def identity(correlation_id: str | None, tenant_id: str | None, ticket_id: str | None) -> dict[str, str]:
    """Return the attributes by which every span of a webhook is found, as far as they are known."""
    known = {"correlation_id": correlation_id, "tenant_id": tenant_id, "ticket_id": ticket_id}
    return {name: value for name, value in known.items() if value is not None}


def record(  # noqa: PLR0913  (what a span is)
    position: SpanPosition,
    name: str,
    kind: SpanKind,
    started: int,
    attributes: Attributes,
    *,
    links: Sequence[SpanContext] = (),
    error: Failure | None = None,
    ended: int | None = None,
) -> None:
    """Record a span that began at `started` and ended at `ended` (nanoseconds since 1970) or now, if it is exported.

    With an `error` it is red, and has the attributes by which red spans are found.
    """
    if _recorder and position.is_sampled:
        _recorder.record(position, name, kind, started, attributes, links=links, error=error, ended=ended)


def ids_of(traceparent: str | None) -> tuple[str | None, str | None]:
    """Return the trace id and the span id in a `traceparent` that we wrote, in hexadecimal; None where it has none."""
    found = _OURS.fullmatch(traceparent or "")
    return (found[1], found[2]) if found else (None, None)


def _parent(header: str) -> SpanContext | None:
    context = trace.get_current_span(_w3c.extract({"traceparent": header})).get_span_context()
    return context if context.is_valid else None
