"""Which trace does a webhook belong to?"""

from opentelemetry import trace
from opentelemetry.sdk.trace.id_generator import RandomIdGenerator
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

_w3c = TraceContextTextMapPropagator()
_ids = RandomIdGenerator()


def traceparent_of(header: str | None) -> str:
    """Give the W3C `traceparent` that a webhook goes by: the sender's when it is valid, else a fresh one.

    A fresh one is not sampled, because nobody has decided that it should be.
    Source: https://www.w3.org/TR/trace-context/
    """
    context = _w3c.extract({"traceparent": header}) if header else None
    span = trace.get_current_span(context).get_span_context() if context else trace.INVALID_SPAN_CONTEXT
    trace_id = span.trace_id or _ids.generate_trace_id()
    span_id = span.span_id or _ids.generate_span_id()
    return f"00-{trace_id:032x}-{span_id:016x}-{span.trace_flags:02x}"


def trace_id_of(traceparent: str) -> str:
    """Give the trace id in a `traceparent`: 32 hexadecimal digits."""
    return traceparent.split("-")[1]
