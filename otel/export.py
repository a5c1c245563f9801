"""Where are traces, metrics and logs exported to? To the endpoints that OTEL_* variables name; without them, nowhere.

A collector that is away, slow or wrong holds up the exporter's own thread and nothing else: what it does not take
waits in a queue of bounded length, and is then dropped and counted.
"""

import logging
import os
import threading
import time
import uuid
from collections.abc import Callable, Sequence
from importlib import import_module
from importlib.metadata import version
from types import ModuleType
from typing import Any

from opentelemetry.sdk import environment_variables as names
from opentelemetry.sdk.resources import OTELResourceDetector, Resource

from otel import metrics, tracing, variables
from otel.variables import Environ

BATCH = 512  # spans in one request
STOP_SECONDS = 3.0  # that a stopping process waits for the last exports
PUSH_MILLISECONDS = 60_000  # between two pushes of the metrics, as the specification has it
Stop = Callable[[], object]


def configure(service: str, environ: Environ = os.environ) -> Stop:
    """Export what `environ` asks for as `service`, and return a function that ends that within STOP_SECONDS.

    Raises WrongTelemetryError, before anything is started.
    """
    wanted = variables.settle(environ)
    if not wanted:
        return lambda: None
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")  # gRPC writes log lines of its own otherwise
    resource = _resource(service)
    for signal in wanted:
        for outcome in ("success", "failure"):
            metrics.EXPORTED.labels(signal.lower(), outcome)  # so that it is at /metrics from the beginning, at 0
    metrics.DROPPED.labels("traces")
    try:
        stops = [EXPORTS[signal](resource, environ) for signal in wanted]
    except (ValueError, KeyError) as error:
        raise variables.WrongTelemetryError(f"an OTEL_* variable is wrong: {error}") from None
    return lambda: _stop(stops)


def count(signal: str, number: int, *, taken: bool) -> None:
    """Count `number` spans, metrics or lines that an exporter delivered, or failed to deliver."""
    metrics.EXPORTED.labels(signal, "success" if taken else "failure").inc(number)


def _exporter(signal: str, module: str, kind: str, environ: Environ) -> Any:  # noqa: ANN401
    """Return a signal's OTLP exporter, which reads its endpoint and options from OTEL_EXPORTER_OTLP_*."""
    return _counted(signal.lower(), getattr(_module(signal, module, environ), kind)())


def _module(signal: str, module: str, environ: Environ) -> ModuleType:
    return import_module(f"{variables.MODULES[variables.protocol(signal, environ)]}.{module}")


def _counted(signal: str, exporter: Any) -> Any:  # noqa: ANN401
    """Make an exporter count what it delivers, and what it fails to deliver; return it."""
    export = exporter.export

    def counted(batch: Sequence[object], **options: Any) -> object:  # noqa: ANN401
        result = export(batch, **options)
        count(signal, len(batch), taken=result.name == "SUCCESS")
        return result

    exporter.export = counted
    return exporter


def _export_spans(resource: Resource, environ: Environ) -> Stop:
    from opentelemetry.sdk.trace import TracerProvider  # noqa: PLC0415

    from otel import otlp  # noqa: PLC0415
    from otel.counting_span_queue import CountingSpanQueue  # noqa: PLC0415

    provider = TracerProvider(resource=resource, shutdown_on_exit=False)
    _module("TRACES", "trace_exporter", environ).encode_spans = otlp.encode  # type: ignore[attr-defined]
    exporter = _exporter("TRACES", "trace_exporter", "OTLPSpanExporter", environ)
    size = int(environ.get(names.OTEL_BSP_MAX_QUEUE_SIZE) or variables.QUEUE)
    batch = min(size, int(environ.get(names.OTEL_BSP_MAX_EXPORT_BATCH_SIZE) or BATCH))
    tracing.use(tracing.Recorder(provider, CountingSpanQueue(exporter, size, batch)))
    return provider.shutdown


def _export_metrics(resource: Resource, environ: Environ) -> Stop:
    from otel.metrics_by_otlp import Pusher  # noqa: PLC0415

    module = _module("METRICS", "metric_exporter", environ)
    seconds = int(environ.get(names.OTEL_METRIC_EXPORT_INTERVAL) or PUSH_MILLISECONDS) / 1000
    counted = lambda number, taken: count("metrics", number, taken=taken)  # noqa: E731
    return Pusher(module.OTLPMetricExporter(), resource, seconds, counted).stop


def _export_logs(resource: Resource, environ: Environ) -> Stop:
    from opentelemetry.sdk._logs import LoggerProvider  # noqa: PLC0415
    from opentelemetry.sdk._logs.export import BatchLogRecordProcessor  # noqa: PLC0415

    from otel.logs_by_otlp import Handler  # noqa: PLC0415

    provider = LoggerProvider(resource, shutdown_on_exit=False)
    exporter = _exporter("LOGS", "_log_exporter", "OTLPLogExporter", environ)
    provider.add_log_record_processor(BatchLogRecordProcessor(exporter))
    logging.getLogger().addHandler(Handler(provider))
    return provider.shutdown


EXPORTS = {"TRACES": _export_spans, "METRICS": _export_metrics, "LOGS": _export_logs}


def _resource(service: str) -> Resource:
    ours = {
        "service.namespace": "ticket-inbox",
        "service.name": service,
        "service.version": version("ticket-inbox"),
        "service.instance.id": str(uuid.uuid4()),
    }
    return Resource.create({**ours, **OTELResourceDetector().detect().attributes})


def _stop(stops: Sequence[Stop]) -> None:
    """Stop all exporters, each in a thread of its own; one that does not stop in time is left behind."""
    threads = [threading.Thread(target=stop, daemon=True) for stop in stops]
    for thread in threads:
        thread.start()
    ends = time.monotonic() + STOP_SECONDS
    for thread in threads:
        thread.join(max(0.0, ends - time.monotonic()))
