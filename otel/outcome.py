"""What became of one export? The receiver took it, refused it, or may take it later; it is counted and logged here."""

import logging
from typing import Any, Literal

import msgspec

from otel import logs, metrics

logger = logging.getLogger(__name__)
# What makes requests of a signal smaller; those of metrics have all of them.
BATCHES = {
    "traces": "OTEL_BSP_MAX_EXPORT_BATCH_SIZE lower, or ",
    "logs": "OTEL_BLRP_MAX_EXPORT_BATCH_SIZE lower, or ",
}
REJECTED = {"traces": "rejected_spans", "metrics": "rejected_data_points", "logs": "rejected_log_records"}


class Outcome(msgspec.Struct, frozen=True):
    """What the receiver did with a request, and why in one line without credentials, or None.

    Source: https://opentelemetry.io/docs/specs/otlp/#failures
    """

    kind: Literal["taken", "refused", "later"]
    error: str | None = None
    rejected: int = 0  # of the items in a request that was taken: these are lost, and never sent again
    wait: float | None = None  # seconds that the receiver asked for before the next try


def hint(words: str, signal: str) -> str:
    """Return what to do: `{batch}` and `{none}` in `words` become this signal's own variables, or nothing.

    A receiver may know no metrics, as a Jaeger does; of spans only the address can be wrong.
    """
    none = "" if signal == "traces" else f"set OTEL_{signal.upper()}_EXPORTER=none if it takes no {signal}, else "
    return words.format(batch=BATCHES.get(signal, ""), none=none)


def of_answer(signal: str, answer: Any, address: str, message: str) -> Outcome:  # noqa: ANN401  (a message of protobuf)
    """Return what an answer says; `message` is its error message as it may be logged.

    A message with no rejected item is a warning.
    """
    rejected = max(0, getattr(answer.partial_success, REJECTED[signal]))
    if not rejected and not message:
        return Outcome("taken")
    said = f"{address} rejected {rejected} items" if rejected else address
    return Outcome("taken", f"{said}: {message or 'it did not say why'}", rejected)


def count(signal: str, number: int, outcome: Outcome) -> None:
    """Count what became of `number` spans, data points or log lines, and log what is wrong, once a minute."""
    rejected = {"taken": min(number, outcome.rejected), "refused": number, "later": 0}[outcome.kind]
    metrics.EXPORTED.labels(signal, "failure").inc(rejected)
    if outcome.kind == "taken":
        metrics.EXPORTED.labels(signal, "success").inc(number - rejected)
    if outcome.kind == "later":
        metrics.RETRIED.labels(signal).inc(number)
    if outcome.error:
        event = logs.WARNING if outcome.kind == "taken" and not outcome.rejected else logs.NOT_EXPORTED
        logs.log(logger, logging.WARNING, event, signal=signal, error=outcome.error)
