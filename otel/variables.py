"""Which OTEL_* variables do we honour, and is each one right? They are checked before anything listens."""

import os
import re
from collections.abc import Mapping
from urllib.parse import unquote

from opentelemetry.sdk import environment_variables as names

SIGNALS = ("TRACES", "METRICS", "LOGS")
QUEUE = 16_384  # spans: a burst of batches overflows the SDK's own 2,048
PROTOCOLS = ("grpc", "http/protobuf")
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


class WrongTelemetryError(ValueError):
    """An OTEL_* variable has a wrong value; the message names the variable and what would be right."""


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
    for part in ("", *(f"{signal}_" for signal in SIGNALS)):
        _check_address(f"OTEL_EXPORTER_OTLP_{part}", environ)
    return [signal for signal in SIGNALS if _is_wanted(signal, environ) and protocol(signal, environ)]


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


def _is_wanted(signal: str, environ: Environ) -> bool:
    """Return True if `signal` is exported. Logs only on demand: they are on standard error already, and cost time."""
    name = f"OTEL_{signal}_EXPORTER"
    exporter = environ.get(name) or ("none" if signal == "LOGS" else "otlp")
    if exporter not in ("otlp", "none"):
        raise WrongTelemetryError(f"{name} is wrong: it must be otlp or none")
    named = any(environ.get(f"OTEL_EXPORTER_OTLP_{part}ENDPOINT") for part in ("", f"{signal}_"))
    return exporter == "otlp" and named


def protocol(signal: str, environ: Environ) -> str:
    """Return the OTLP protocol of a signal. Raises WrongTelemetryError."""
    for name in (f"OTEL_EXPORTER_OTLP_{signal}_PROTOCOL", names.OTEL_EXPORTER_OTLP_PROTOCOL):
        if given := environ.get(name):
            if given not in PROTOCOLS:
                raise WrongTelemetryError(f"{name} is wrong: it must be one of {', '.join(PROTOCOLS)}")
            return given
    return "http/protobuf"
