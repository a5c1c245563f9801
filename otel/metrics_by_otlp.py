"""How are the values of /metrics exported by OTLP? prometheus_client's families become the SDK's data classes."""

import threading
import time
from collections.abc import Iterable, Sequence
from typing import Any

from opentelemetry.sdk.metrics import Exemplar
from opentelemetry.sdk.metrics.export import (
    AggregationTemporality,
    Gauge,
    Histogram,
    HistogramDataPoint,
    Metric,
    MetricsData,
    NumberDataPoint,
    ResourceMetrics,
    ScopeMetrics,
    Sum,
)
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from prometheus_client import REGISTRY
from prometheus_client.core import Metric as Family
from prometheus_client.samples import Sample

from otel import outcome
from otel.outcome import Outcome
from otel.sender import Sender

SCOPE = InstrumentationScope("ticket-inbox")
# Where Prometheus' names have underscores, OpenTelemetry's have dots, except within a word.
DOTTED = {
    "http_server_request_duration_seconds": ("http.server.request.duration", "s"),
    "db_client_operation_duration_seconds": ("db.client.operation.duration", "s"),
    "http_request_method": ("http.request.method", ""),
    "http_response_status_code": ("http.response.status_code", ""),
    "http_route": ("http.route", ""),
    "error_type": ("error.type", ""),
    "db_system_name": ("db.system.name", ""),
    "db_operation_name": ("db.operation.name", ""),
    "db_collection_name": ("db.collection.name", ""),
}
STARTED = time.time_ns()
ABSENT: Any = None  # the exporter leaves it out


class Pusher:
    """Sends all values at once, then every `interval` seconds from a thread of its own, and once more at the end.

    The first push has the zeroes: of what first comes as 1, Prometheus sees no increase. A push that fails is not
    repeated: the next one has newer values of everything.
    """

    def __init__(self, sender: Sender, resource: Resource, interval: float) -> None:
        self._sender, self._resource, self._interval = sender, resource, interval
        self._ended = threading.Event()
        self._ends = float("inf")
        self._thread = threading.Thread(target=self._run, name="metrics by OTLP", daemon=True)
        self._thread.start()

    def stop(self, ends: float) -> None:
        """Send all values a last time, and wait for that until `ends` on the monotonic clock."""
        self._ends = ends
        self._ended.set()
        self._thread.join(max(0.0, ends - time.monotonic()))
        self._sender.close()

    def _run(self) -> None:
        self._push()
        while not self._ended.wait(self._interval):
            self._push()
        self._push()

    def _push(self) -> None:
        try:
            found = data(REGISTRY.collect(), self._resource)
        except Exception as error:  # noqa: BLE001  (this thread has to outlive whatever a collector raises)
            outcome.count("metrics", 1, Outcome("refused", f"the values cannot be read: {type(error).__name__}"))
            return
        points = sum(len(metric.data.data_points) for metric in found.resource_metrics[0].scope_metrics[0].metrics)
        became = self._sender.send(found, max(0.1, self._ends - time.monotonic()))
        if became.kind == "later" and self._ended.is_set():
            became = Outcome("refused", became.error)  # there is no next push
        outcome.count("metrics", points, became)


def data(families: Iterable[Family], resource: Resource) -> MetricsData:
    """Return `families`, as prometheus_client collects them, in the form that an OTLP exporter takes.

    A family that has no value yet is left out: the Collector would log 36 lines about each, with every push.
    """
    now = time.time_ns()
    found = [_metric(family, now) for family in families if family.samples]
    scope = ScopeMetrics(SCOPE, [metric for metric in found if metric], "")
    return MetricsData([ResourceMetrics(resource, [scope], "")])


def _metric(family: Family, now: int) -> Metric | None:
    default = family.name.replace("ticket_inbox_", "ticket_inbox.").removesuffix("_seconds"), ""
    name, unit = DOTTED.get(family.name, default)
    if family.name.endswith("_seconds"):
        unit = "s"
    if family.type == "counter":
        points = [_number(sample, now) for sample in family.samples if sample.name.endswith("_total")]
        return Metric(name, family.documentation, unit, Sum(points, AggregationTemporality.CUMULATIVE, True))  # noqa: FBT003
    if family.type == "gauge":
        return Metric(name, family.documentation, unit, Gauge([_number(sample, now) for sample in family.samples]))
    if family.type == "histogram":
        histogram = Histogram(list(_histograms(family.samples, now)), AggregationTemporality.CUMULATIVE)
        return Metric(name, family.documentation, unit, histogram)
    return None  # prometheus_client's own metrics about Python


def _number(sample: Sample, now: int) -> NumberDataPoint:
    return NumberDataPoint(_attributes(sample.labels), STARTED, now, sample.value)


def _histograms(samples: Sequence[Sample], now: int) -> Iterable[HistogramDataPoint]:
    """Yield a point for each set of labels. Prometheus' buckets come in order, each with the count of all below it."""
    by_labels: dict[tuple[tuple[str, str], ...], dict[str, list[Sample]]] = {}
    for sample in samples:
        labels = tuple((name, value) for name, value in sample.labels.items() if name != "le")
        by_labels.setdefault(labels, {}).setdefault(sample.name.rsplit("_", 1)[1], []).append(sample)
    for labels, parts in by_labels.items():
        below = [int(bucket.value) for bucket in parts["bucket"]]
        yield HistogramDataPoint(
            attributes=_attributes(dict(labels)),
            start_time_unix_nano=STARTED,
            time_unix_nano=now,
            count=below[-1],
            sum=parts["sum"][0].value,
            bucket_counts=[high - low for high, low in zip(below, [0, *below], strict=False)],
            explicit_bounds=[float(bucket.labels["le"]) for bucket in parts["bucket"][:-1]],
            min=ABSENT,
            max=ABSENT,
            exemplars=[_exemplar(bucket) for bucket in parts["bucket"] if bucket.exemplar],
        )


def _exemplar(bucket: Sample) -> Exemplar:
    assert bucket.exemplar is not None  # noqa: S101  (the caller has checked)
    given, ids = bucket.exemplar, bucket.exemplar.labels
    when = int(float(given.timestamp or 0) * 1e9)
    return Exemplar({}, given.value, when, int(ids["span_id"], 16), int(ids["trace_id"], 16))


def _attributes(labels: dict[str, str]) -> dict[str, str]:
    return {DOTTED.get(name, (name, ""))[0]: value for name, value in labels.items() if value}
