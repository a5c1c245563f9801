"""Where are traces, metrics and logs exported to? To the endpoints that OTEL_* variables name; without them, nowhere.

A collector that is away, slow or wrong holds up the exporter's own thread and nothing else: what it does not take
waits in a queue of bounded length, and is then dropped and counted.
"""

import logging
import os
import time
import uuid
from collections.abc import Callable
from importlib.metadata import version
from typing import TYPE_CHECKING

from opentelemetry.sdk import environment_variables as names
from opentelemetry.sdk.resources import OTELResourceDetector, Resource

from otel import host, logs, metrics, tracing, variables
from otel.variables import Environ

if TYPE_CHECKING:
    from otel.export_queue import ExportQueue
    from otel.metrics_by_otlp import Pusher

logger = logging.getLogger(__name__)
SPANS_DELAY, LINES_DELAY = 5000, 1000  # milliseconds that one waits at most, as the specification has it
STOP_SECONDS = 3.0  # that a stopping process waits for the last exports
LAST_PUSH_SECONDS = 1.0  # of these, which are kept for the last push of the metrics
PUSH_MILLISECONDS = 60_000  # between two pushes of the metrics, as the specification has it
Stop = Callable[[], object]


def configure(service: str, environ: Environ = os.environ) -> Stop:
    """Export what `environ` asks for as `service`, and return a function that ends that within STOP_SECONDS.

    Raises WrongTelemetryError, before anything is started.
    """
    ignored = variables.without_effect(environ)
    wanted = variables.settle(environ)
    if ignored:
        logs.log(logger, logging.WARNING, "setting_ignored", error=f"{', '.join(ignored)}: without effect here")
    if not wanted:
        return lambda: None
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")  # gRPC writes log lines of its own otherwise
    resource = _resource(service)
    for signal in wanted:
        metrics.export_begins(signal.lower())
    try:
        queues = {name.lower(): QUEUES[name](resource, environ) for name in wanted if name in QUEUES}
        pusher = _push_metrics(resource, environ) if "METRICS" in wanted else None
    except (OSError, ValueError) as error:  # such as a file that went away since it was checked
        raise variables.WrongTelemetryError(f"an OTEL_* variable is wrong: {error}") from None
    return lambda: _stop(queues, pusher)


def _queue_spans(resource: Resource, environ: Environ) -> "ExportQueue":
    from opentelemetry.sdk.trace import TracerProvider  # noqa: PLC0415

    from otel import otlp, sender  # noqa: PLC0415
    from otel.export_queue import SpanQueue  # noqa: PLC0415

    provider = TracerProvider(resource=resource, shutdown_on_exit=False)
    size = int(environ.get(names.OTEL_BSP_MAX_QUEUE_SIZE) or variables.QUEUE)
    queue = SpanQueue(
        "traces",
        sender.sender("TRACES", otlp.encode, environ),
        size=size,
        batch=min(size, int(environ.get(names.OTEL_BSP_MAX_EXPORT_BATCH_SIZE) or variables.BATCH)),
        delay=int(environ.get(names.OTEL_BSP_SCHEDULE_DELAY) or SPANS_DELAY) / 1000,
    )
    tracing.use(tracing.Recorder(provider, queue))
    return queue


def _queue_logs(resource: Resource, environ: Environ) -> "ExportQueue":
    from opentelemetry.exporter.otlp.proto.common._log_encoder import encode_logs  # noqa: PLC0415

    from otel import sender  # noqa: PLC0415
    from otel.logs_by_otlp import LineQueue  # noqa: PLC0415

    size = int(environ.get(names.OTEL_BLRP_MAX_QUEUE_SIZE) or variables.LINES)
    queue = LineQueue(
        "logs",
        sender.sender("LOGS", encode_logs, environ),
        size=size,
        batch=min(size, int(environ.get(names.OTEL_BLRP_MAX_EXPORT_BATCH_SIZE) or variables.BATCH)),
        delay=int(environ.get(names.OTEL_BLRP_SCHEDULE_DELAY) or LINES_DELAY) / 1000,
    )
    queue.connect(resource)
    return queue


def _push_metrics(resource: Resource, environ: Environ) -> "Pusher":
    from opentelemetry.exporter.otlp.proto.common.metrics_encoder import encode_metrics  # noqa: PLC0415

    from otel import sender  # noqa: PLC0415
    from otel.metrics_by_otlp import Pusher  # noqa: PLC0415

    seconds = int(environ.get(names.OTEL_METRIC_EXPORT_INTERVAL) or PUSH_MILLISECONDS) / 1000
    return Pusher(sender.sender("METRICS", encode_metrics, environ), resource, seconds)


QUEUES = {"TRACES": _queue_spans, "LOGS": _queue_logs}


def _resource(service: str) -> Resource:
    ours = {
        "service.namespace": "ticket-inbox",
        "service.name": service,
        "service.version": version("ticket-inbox"),
        "service.instance.id": str(uuid.uuid4()),
        **host.attributes(),
    }
    return Resource.create({**ours, **OTELResourceDetector().detect().attributes})


def _stop(queues: "dict[str, ExportQueue]", pusher: "Pusher | None") -> None:
    """Send what can be sent within STOP_SECONDS, count and log the rest, and push the metrics that have that count."""
    ends = time.monotonic() + STOP_SECONDS
    for queue in queues.values():
        queue.stop(ends - (LAST_PUSH_SECONDS if pusher else 0))
    left = {signal: queue.wait() or None for signal, queue in queues.items()}
    if any(left.values()):
        error = "the process ends, and the receiver took no more"
        logs.log(logger, logging.WARNING, "telemetry_dropped", **left, error=error)
    if pusher:
        pusher.stop(ends)
