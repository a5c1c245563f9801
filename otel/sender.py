"""How does a batch of one signal become a request that is sent? Libraries of the protocol in use alone are loaded.

OpenTelemetry's own exporters are not used: they give a batch up after ten seconds, take a redirect for a success, and
read neither `partial_success` nor how long a receiver asks to wait.
"""

from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any, Protocol

from otel import otlp_target
from otel.otlp_target import Target
from otel.outcome import Outcome

# The package and the service of each signal in opentelemetry.proto.
SERVICES = {"TRACES": ("trace", "Trace"), "METRICS": ("metrics", "Metrics"), "LOGS": ("logs", "Logs")}
Encode = Callable[[Any], Any]


class Transport(Protocol):
    """Sends requests that are encoded."""

    def send(self, request: Any, within: float) -> Outcome:  # noqa: ANN401
        """Send `request`, and return what became of it."""

    def close(self) -> None:
        """Close the connections."""


class Sender:
    """Sends one signal's batches to its receiver."""

    def __init__(self, transport: Transport, target: Target, encode: Encode) -> None:
        self._transport, self._target, self._encode = transport, target, encode
        self.close = transport.close

    def send(self, batch: Any, within: float = float("inf")) -> Outcome:  # noqa: ANN401
        """Return what became of `batch`, which has at most `within` seconds, and never more than its own timeout."""
        try:
            return self._transport.send(self._encode(batch), min(within, self._target.timeout))
        except Exception as error:  # noqa: BLE001  (the thread that sends has to outlive whatever a batch does)
            why = self._target.one_line(f"{type(error).__name__}: {error}")
            return Outcome("refused", f"nothing was sent to {self._target.address}: {why}")


def sender(signal: str, encode: Encode, environ: Mapping[str, str]) -> Sender:
    """Return the sender of a signal (TRACES, METRICS, LOGS). Raises OSError if a file of TLS cannot be read."""
    target = otlp_target.target(signal, environ)
    package, service = SERVICES[signal]
    name = f"opentelemetry.proto.collector.{package}.v1.{package}_service_pb2"
    return Sender(_transport(signal.lower(), target, name, service), target, encode)


def _transport(signal: str, target: Target, module: str, service: str) -> Transport:
    if target.protocol == "grpc":
        from otel.grpc_sender import GrpcSender  # noqa: PLC0415

        return GrpcSender(signal, target, getattr(import_module(f"{module}_grpc"), f"{service}ServiceStub"))
    from otel.http_sender import HttpSender  # noqa: PLC0415

    return HttpSender(signal, target, getattr(import_module(module), f"Export{service}ServiceResponse"))
