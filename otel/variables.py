"""Which OTEL_* variables do we honour, and is each one right? They are checked before anything listens.

The SDK reads many from os.environ by itself, each in its own way: `settle` leaves nothing there but what we honour.
"""

import os
from collections.abc import Mapping, MutableMapping

from opentelemetry.sdk import environment_variables as names

from otel import variable_rules as rules
from otel.variable_rules import Rule

SIGNALS = ("TRACES", "METRICS", "LOGS")
QUEUE = 16_384  # spans: a burst of batches overflows the SDK's own 2,048
LINES = 2_048  # log lines, as the SDK has it
BATCH = 512  # spans or log lines in one request, as the SDK has it
PROTOCOLS = HTTP, GRPC = "http/protobuf", "grpc"
OTLP = "OTEL_EXPORTER_OTLP_"
SAMPLERS = ("always_on", "always_off", "traceidratio")
EXPORTER = Rule("otlp or none", rules.one_of("otlp", "none").holds)
# What OTEL_EXPORTER_OTLP_… says for all signals, and OTEL_EXPORTER_OTLP_TRACES_… and the like for one.
OPTIONS = {
    "ENDPOINT": rules.ADDRESS_OF_ANY,
    "PROTOCOL": rules.one_of(*PROTOCOLS),
    "HEADERS": rules.HEADERS,
    "COMPRESSION": rules.one_of("none", "gzip", "deflate"),
    "TIMEOUT": rules.SECONDS,
    "INSECURE": rules.SWITCH,
    "CERTIFICATE": rules.CERTIFICATES,
    "CLIENT_CERTIFICATE": rules.CERTIFICATES,
    "CLIENT_KEY": rules.KEY,
}
PARTS = ("", *(f"{signal}_" for signal in SIGNALS))
# Every variable that has an effect here, with its rule; docs/tracing.md lists them.
HONOURED: Mapping[str, Rule] = {
    names.OTEL_SDK_DISABLED: rules.SWITCH,
    **{f"OTEL_{signal}_EXPORTER": EXPORTER for signal in SIGNALS},
    **{f"{OTLP}{part}{option}": rule for part in PARTS for option, rule in OPTIONS.items()},
    names.OTEL_TRACES_SAMPLER: rules.one_of(*SAMPLERS, *(f"parentbased_{name}" for name in SAMPLERS)),
    names.OTEL_TRACES_SAMPLER_ARG: rules.RATIO,
    names.OTEL_SERVICE_NAME: rules.NAME,
    names.OTEL_RESOURCE_ATTRIBUTES: rules.ATTRIBUTES,
    names.OTEL_EXPERIMENTAL_RESOURCE_DETECTORS: rules.DETECTORS,
    names.OTEL_BSP_SCHEDULE_DELAY: rules.MILLISECONDS,
    names.OTEL_BSP_MAX_QUEUE_SIZE: rules.NUMBER,
    names.OTEL_BSP_MAX_EXPORT_BATCH_SIZE: rules.NUMBER,
    names.OTEL_BLRP_SCHEDULE_DELAY: rules.MILLISECONDS,
    names.OTEL_BLRP_MAX_QUEUE_SIZE: rules.NUMBER,
    names.OTEL_BLRP_MAX_EXPORT_BATCH_SIZE: rules.NUMBER,
    names.OTEL_METRIC_EXPORT_INTERVAL: rules.MILLISECONDS,
}
# What each protocol takes of what one of them takes.
BY_PROTOCOL = {
    GRPC: {
        "ENDPOINT": rules.GRPC_ADDRESS,
        "HEADERS": rules.GRPC_HEADERS,
        "COMPRESSION": Rule("none or gzip with grpc", rules.one_of("none", "gzip").holds),
    },
    HTTP: {"ENDPOINT": rules.HTTP_ADDRESS},
}
Environ = MutableMapping[str, str]


class WrongTelemetryError(ValueError):
    """An OTEL_* variable has a wrong value; the message names the variable and what would be right."""


def check(environ: Mapping[str, str] = os.environ) -> list[str]:
    """Return which of TRACES, METRICS and LOGS `environ` wants exported. Raises WrongTelemetryError.

    Nothing else is looked at where OTEL_SDK_DISABLED is true. A value is in no message: it may hold a secret.
    """
    given = _given(environ)
    _hold(names.OTEL_SDK_DISABLED, given, rules.SWITCH)
    if given.get(names.OTEL_SDK_DISABLED, "").lower() == "true":
        return []
    for name, rule in HONOURED.items():
        _hold(name, given, rule)
    _check_batch("OTEL_BSP_", QUEUE, given)
    _check_batch("OTEL_BLRP_", LINES, given)
    wanted = [signal for signal in SIGNALS if _is_wanted(signal, given)]
    for signal in wanted:
        _check_exporter(signal, given)
    return wanted


def settle(environ: Environ = os.environ) -> list[str]:
    """Return what `check` returns, and leave no OTEL_* in `environ` but those that were checked.

    Blanks around a value are removed, and empty values. The SDK would warn of what it reads in its own way.
    """
    wanted = check(environ)
    given = _given(environ)
    if attributes := given.get(names.OTEL_RESOURCE_ATTRIBUTES):
        given[names.OTEL_RESOURCE_ATTRIBUTES] = ",".join(rules.entries(attributes))
    if given.get(names.OTEL_TRACES_SAMPLER, "").lower().endswith("ratio"):
        given.setdefault(names.OTEL_TRACES_SAMPLER_ARG, "1")
    for name in [name for name in environ if name.startswith("OTEL_")]:
        del environ[name]
    environ.update(given)
    return wanted


def without_effect(environ: Mapping[str, str] = os.environ) -> list[str]:
    """Return the names of the OTEL_* variables that have a value, and no effect here: perhaps they are misspelled."""
    return sorted(
        name for name in environ if name.startswith("OTEL_") and name not in HONOURED and environ[name].strip()
    )


def protocol(signal: str, environ: Mapping[str, str]) -> str:
    """Return the OTLP protocol of a signal."""
    return source(signal, "PROTOCOL", environ)[1].lower() or HTTP


def source(signal: str, option: str, given: Mapping[str, str]) -> tuple[str, str]:
    """Return the variable that sets an option of a signal (its own wins), and its value: empty where none does."""
    own, shared = f"{OTLP}{signal}_{option}", f"{OTLP}{option}"
    name = own if given.get(own) else shared
    return name, given.get(name, "")


def _given(environ: Mapping[str, str]) -> dict[str, str]:
    """Return the variables that we honour, without blanks around them; an empty one counts as unset."""
    stripped = {name: environ[name].strip() for name in HONOURED if name in environ}
    return {name: text for name, text in stripped.items() if text}


def _hold(name: str, given: Mapping[str, str], rule: Rule) -> None:
    if name in given and not rule.holds(given[name]):
        raise WrongTelemetryError(f"{name} is wrong: it must be {rule.words}")


def _check_batch(prefix: str, default: int, given: Mapping[str, str]) -> None:
    queue, batch = f"{prefix}MAX_QUEUE_SIZE", f"{prefix}MAX_EXPORT_BATCH_SIZE"
    size = int(given.get(queue) or default)
    if int(given.get(batch) or 1) > size:
        raise WrongTelemetryError(f"{batch} is wrong: it must be at most {queue}, which is {size}")


def _is_wanted(signal: str, given: Mapping[str, str]) -> bool:
    """Return True if `signal` is exported. Logs only on demand: they are on standard error already, and cost time."""
    exporter = given.get(f"OTEL_{signal}_EXPORTER") or ("none" if signal == "LOGS" else "otlp")
    return exporter.lower() == "otlp" and bool(source(signal, "ENDPOINT", given)[1])


def _check_exporter(signal: str, given: Mapping[str, str]) -> None:
    spoken = protocol(signal, given)
    for option, rule in BY_PROTOCOL[spoken].items():
        name, _ = source(signal, option, given)
        of_signal = spoken == HTTP and name == f"{OTLP}{signal}_ENDPOINT"
        _hold(name, given, rules.HTTP_SIGNAL_ADDRESS if of_signal else rule)
    _check_client(signal, given, spoken)


def _check_client(signal: str, given: Mapping[str, str], spoken: str) -> None:
    """Check what shows a receiver who we are: half of it would be ignored, or fail at each export."""
    key, key_file = source(signal, "CLIENT_KEY", given)
    certificate, file = source(signal, "CLIENT_CERTIFICATE", given)
    if key_file and not file:
        raise WrongTelemetryError(f"{key} is wrong: it must be set together with {certificate}")
    if file and not key_file and spoken == GRPC:
        raise WrongTelemetryError(f"{certificate} is wrong: it must be set together with {key} with grpc")
    if file and not rules.belong_together(file, key_file or None):
        rule = f"it must be the private key, without a passphrase, of the first certificate in {certificate}"
        raise WrongTelemetryError(f"{key} is wrong: {rule}")
