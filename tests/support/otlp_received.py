"""What an OTLP receiver has received, and what tests ask of it."""

import time
from collections.abc import Callable
from typing import Any

from opentelemetry.proto.collector.logs.v1 import logs_service_pb2
from opentelemetry.proto.collector.metrics.v1 import metrics_service_pb2
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2
from opentelemetry.proto.trace.v1.trace_pb2 import Span as ProtoSpan

from tests.support.otlp_answer import Answer


class Span:
    """A span as it arrived."""

    def __init__(self, span: ProtoSpan, service: str, schema_url: str) -> None:
        self.name, self.service, self.schema_url = span.name, service, schema_url
        self.kind = ProtoSpan.SpanKind.Name(span.kind).removeprefix("SPAN_KIND_")
        self.trace_id, self.id, self.parent_id = span.trace_id.hex(), span.span_id.hex(), span.parent_span_id.hex()
        self.attributes = attributes(span.attributes)
        self.links = [link.span_id.hex() for link in span.links]
        self.error = span.status.message if span.status.code == 2 else None
        self.start, self.end = span.start_time_unix_nano, span.end_time_unix_nano


class Receiver:
    """Everything that was exported, and the address to export to."""

    def __init__(self) -> None:
        self.endpoint = ""
        self.protocol = ""
        self.requests: list[Any] = []
        self.headers: list[dict[str, str]] = []  # of all requests, with names in lower case
        self.answer = Answer()  # to each request from now on
        self.tries = 0
        self._spans: list[Span] = []
        self._of_webhook: dict[object, list[Span]] = {}  # by correlation id, for speed: there may be thousands

    def receive(self, request: Any, answer: Answer) -> None:  # noqa: ANN401
        """Keep what is in a request if the answer to it says so."""
        if answer.is_taken:
            self.take(request)
        self.tries += 1

    def forget(self) -> None:
        """Forget what was received."""
        for kept in (self.requests, self.headers, self._spans, self._of_webhook):
            kept.clear()

    def take(self, request: Any) -> None:  # noqa: ANN401
        self.requests.append(request)
        if isinstance(request, trace_service_pb2.ExportTraceServiceRequest):
            spans = [
                Span(span, attributes(resource.resource.attributes)["service.name"], scope.schema_url)
                for resource in request.resource_spans
                for scope in resource.scope_spans
                for span in scope.spans
            ]
            self._spans += spans
            for span in spans:
                self._of_webhook.setdefault(span.attributes.get("correlation_id"), []).append(span)

    @property
    def environment(self) -> dict[str, str]:
        """The settings that make a process export to this receiver, and soon."""
        return {
            "OTEL_EXPORTER_OTLP_ENDPOINT": self.endpoint,
            "OTEL_EXPORTER_OTLP_PROTOCOL": self.protocol,
            "OTEL_BSP_SCHEDULE_DELAY": "100",
            "OTEL_METRIC_EXPORT_INTERVAL": "500",
        }

    def spans(self, **wanted: object) -> list[Span]:
        """Return the spans with these attributes, sorted by start; `name` and `trace_id` are the span's own fields."""
        correlation_id = wanted.get("correlation_id")
        found = list(self._of_webhook.get(correlation_id, []) if correlation_id else self._spans)
        own = {"name", "trace_id"} & wanted.keys()
        return sorted(
            (
                span
                for span in found
                if all(getattr(span, name) == wanted[name] for name in own)
                and all(span.attributes.get(name) == wanted[name] for name in wanted.keys() - own)
            ),
            key=lambda span: span.start,
        )

    def wait_for_spans(self, count: int, within: float = 15.0, **wanted: object) -> list[Span]:
        deadline = time.monotonic() + within
        while len(found := self.spans(**wanted)) < count:
            assert time.monotonic() < deadline, f"{len(found)} of {count} spans {wanted} after {within} s"
            time.sleep(0.05)
        return found

    def wait_until(self, condition: Callable[[], object], within: float = 15.0) -> None:
        deadline = time.monotonic() + within
        while not condition():
            assert time.monotonic() < deadline
            time.sleep(0.05)

    def metric_names(self) -> set[str]:
        return {metric.name for metric in self.metrics()}

    def points(self, name: str) -> list[Any]:
        """Return a histogram's points, in the order in which they arrived."""
        return [point for metric in self.metrics() if metric.name == name for point in metric.histogram.data_points]

    def newest_by_instance(self, name: str) -> dict[str, int]:
        """Return a histogram's last count by `service.instance.id`."""
        return {
            attributes(resource.resource.attributes)["service.instance.id"]: sum(
                point.count for point in metric.histogram.data_points
            )
            for request in list(self.requests)
            if isinstance(request, metrics_service_pb2.ExportMetricsServiceRequest)
            for resource in request.resource_metrics
            for scope in resource.scope_metrics
            for metric in scope.metrics
            if metric.name == name
        }

    def metrics(self) -> list[Any]:
        """Return every metric of every push."""
        return [
            metric
            for request in list(self.requests)
            if isinstance(request, metrics_service_pb2.ExportMetricsServiceRequest)
            for resource in request.resource_metrics
            for scope in resource.scope_metrics
            for metric in scope.metrics
        ]

    def log_records(self) -> list[Any]:
        return [
            record
            for request in list(self.requests)
            if isinstance(request, logs_service_pb2.ExportLogsServiceRequest)
            for resource in request.resource_logs
            for scope in resource.scope_logs
            for record in scope.log_records
        ]

    def raw(self) -> bytes:
        """Return everything that arrived, as bytes."""
        return b"".join(request.SerializeToString() for request in list(self.requests))


def attributes(pairs: Any) -> dict[str, Any]:  # noqa: ANN401  (protobuf's own sequence)
    return {one.key: getattr(one.value, one.value.WhichOneof("value")) for one in pairs}
