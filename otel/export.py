"""Where are traces, metrics and logs exported to? To the endpoints that OTEL_* variables name; without them, nowhere.

A collector that is away, slow or wrong holds up the exporter's own thread and nothing else: what it does not take
waits in a queue of bounded length, and is then dropped and counted.
"""

import logging
import os
import re
import threading
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from importlib.metadata import version
from typing import Any
from urllib.parse import unquote

from opentelemetry.sdk import environment_variables as names
from opentelemetry.sdk.resources import OTELResourceDetector, Resource

from otel import metrics, tracing

QUEUE = 16_384  # spans: a burst of batches overflows the SDK's own 2,048
BATCH = 512  # spans in one request
STOP_SECONDS = 3.0  # that a stopping process waits for the last exports
PUSH_MILLISECONDS = 60_000  # between two pushes of the metrics, as the specification has it
MODULES = {"grpc": "opentelemetry.exporter.otlp.proto.grpc", "http/protobuf": "opentelemetry.exporter.otlp.proto.http"}
SAMPLERS = ("always_on", "always_off", "traceidratio")
NUMBERS = (
    names.OTEL_BSP_MAX_QUEUE_SIZE,
    names.OTEL_BSP_MAX_EXPORT_BATCH_SIZE,
    names.OTEL_BSP_SCHEDULE_DELAY,
    names.OTEL_METRIC_EXPORT_INTERVAL,
)
# We check these first: the exporters log a value that they cannot read, with the token or password in it.
ENDPOINT = re.compile(r"(?:https?://(?:[^\s/?#@]+@)?)?[^\s/?#@]+(?:/[^\s#@]*)?")
HEADER = re.compile(r"[!#-'*+\-.0-9A-Z^-z|~]+[ \t]*=[ !#-+\--:<-\[\]-~\t]*")
Environ = Mapping[str, str]
Stop = Callable[[], object]


class WrongTelemetryError(ValueError):
    """An OTEL_* variable has a wrong value; the message names the variable and what would be right."""


def configure(service: str, environ: Environ = os.environ) -> Stop:
    """Export what `environ` asks for as `service`, and return a function that ends that within STOP_SECONDS.

    Raises WrongTelemetryError, before anything is started.
    """
    wanted = check(environ)
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
        raise WrongTelemetryError(f"an OTEL_* variable is wrong: {error}") from None
    return lambda: _stop(stops)


def check(environ: Environ = os.environ) -> list[str]:
    """Return which of TRACES, METRICS and LOGS `environ` wants exported. Raises WrongTelemetryError."""
    for name in NUMBERS:
        if (text := environ.get(name)) and not (text.isascii() and text.isdecimal() and int(text)):
            raise WrongTelemetryError(f"{name} is wrong: it must be a whole number above 0")
    sampler = environ.get(names.OTEL_TRACES_SAMPLER) or "always_on"
    if sampler.removeprefix("parentbased_") not in SAMPLERS:
        known = ", ".join([*SAMPLERS, *(f"parentbased_{name}" for name in SAMPLERS)])
        raise WrongTelemetryError(f"{names.OTEL_TRACES_SAMPLER} is wrong: it must be one of {known}")
    _check_ratio(environ.get(names.OTEL_TRACES_SAMPLER_ARG) or "1")
    size = int(environ.get(names.OTEL_BSP_MAX_QUEUE_SIZE) or QUEUE)
    if int(environ.get(names.OTEL_BSP_MAX_EXPORT_BATCH_SIZE) or 1) > size:
        raise WrongTelemetryError(
            f"{names.OTEL_BSP_MAX_EXPORT_BATCH_SIZE} is wrong: "
            f"it must be at most {names.OTEL_BSP_MAX_QUEUE_SIZE}, which is {size}"
        )
    if environ.get(names.OTEL_SDK_DISABLED, "").strip().lower() == "true":
        return []
    for part in ("", *(f"{signal}_" for signal in EXPORTS)):
        _check_address(f"OTEL_EXPORTER_OTLP_{part}", environ)
    return [signal for signal in EXPORTS if _is_wanted(signal, environ) and _protocol(signal, environ)]


def _check_address(prefix: str, environ: Environ) -> None:
    if (url := environ.get(f"{prefix}ENDPOINT")) and not ENDPOINT.fullmatch(url):
        raise WrongTelemetryError(f"{prefix}ENDPOINT is wrong: it must be a URL like http://localhost:4318")
    headers = [header.strip() for header in environ.get(f"{prefix}HEADERS", "").split(",")]
    if not all(HEADER.fullmatch(header) and unquote(header).isprintable() for header in headers if header):
        rule = "it must be name=value, or several of these with commas between them"
        raise WrongTelemetryError(f"{prefix}HEADERS is wrong: {rule}")


def _check_ratio(text: str) -> None:
    try:
        if 0 <= float(text) <= 1:
            return
    except ValueError:
        pass
    raise WrongTelemetryError(f"{names.OTEL_TRACES_SAMPLER_ARG} is wrong: it must be a number from 0 to 1")


def count(signal: str, number: int, *, taken: bool) -> None:
    """Count `number` spans, metrics or lines that an exporter delivered, or failed to deliver."""
    metrics.EXPORTED.labels(signal, "success" if taken else "failure").inc(number)


def _is_wanted(signal: str, environ: Environ) -> bool:
    """Return True if `signal` is exported. Logs only on demand: they are on standard error already, and cost time."""
    name = f"OTEL_{signal}_EXPORTER"
    exporter = environ.get(name) or ("none" if signal == "LOGS" else "otlp")
    if exporter not in ("otlp", "none"):
        raise WrongTelemetryError(f"{name} is wrong: it must be otlp or none")
    named = any(environ.get(f"OTEL_EXPORTER_OTLP_{part}ENDPOINT") for part in ("", f"{signal}_"))
    return exporter == "otlp" and named


def _protocol(signal: str, environ: Environ) -> str:
    for name in (f"OTEL_EXPORTER_OTLP_{signal}_PROTOCOL", names.OTEL_EXPORTER_OTLP_PROTOCOL):
        if protocol := environ.get(name):
            if protocol not in MODULES:
                raise WrongTelemetryError(f"{name} is wrong: it must be one of {', '.join(MODULES)}")
            return protocol
    return "http/protobuf"


def _exporter(signal: str, module: str, kind: str, environ: Environ) -> Any:  # noqa: ANN401
    """Return a signal's OTLP exporter, which reads its endpoint and options from OTEL_EXPORTER_OTLP_*."""
    return _counted(signal.lower(), getattr(import_module(f"{MODULES[_protocol(signal, environ)]}.{module}"), kind)())


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
    import_module(f"{MODULES[_protocol('TRACES', environ)]}.trace_exporter").encode_spans = otlp.encode  # type: ignore[attr-defined]
    exporter = _exporter("TRACES", "trace_exporter", "OTLPSpanExporter", environ)
    size = int(environ.get(names.OTEL_BSP_MAX_QUEUE_SIZE) or QUEUE)
    batch = min(size, int(environ.get(names.OTEL_BSP_MAX_EXPORT_BATCH_SIZE) or BATCH))
    tracing.use(tracing.Recorder(provider, CountingSpanQueue(exporter, size, batch)))
    return provider.shutdown


def _export_metrics(resource: Resource, environ: Environ) -> Stop:
    from otel.metrics_by_otlp import Pusher  # noqa: PLC0415

    module = import_module(f"{MODULES[_protocol('METRICS', environ)]}.metric_exporter")
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
