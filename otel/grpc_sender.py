"""How is one OTLP request sent over gRPC, and what does the answer mean?"""

from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import grpc
from google.protobuf.message import DecodeError
from google.rpc.error_details_pb2 import RetryInfo
from google.rpc.status_pb2 import Status

from otel import outcome
from otel.otlp_target import Target
from otel.outcome import Outcome

Code = grpc.StatusCode
LATER = {
    Code.CANCELLED,
    Code.DEADLINE_EXCEEDED,
    Code.ABORTED,
    Code.OUT_OF_RANGE,
    Code.UNAVAILABLE,
    Code.DATA_LOSS,
}  # RESOURCE_EXHAUSTED too if it says when; all others are refusals, by the specification
HINTS = {
    Code.UNAUTHENTICATED: "check OTEL_EXPORTER_OTLP_HEADERS",
    Code.PERMISSION_DENIED: "check OTEL_EXPORTER_OTLP_HEADERS",
    Code.UNIMPLEMENTED: "{none}check OTEL_EXPORTER_OTLP_ENDPOINT",
    Code.RESOURCE_EXHAUSTED: "set {batch}the receiver's limit higher",
}
COMPRESSION = {"gzip": grpc.Compression.Gzip, "deflate": grpc.Compression.Deflate}
DETAILS = "grpc-status-details-bin"  # the trailer in which a status has its details


class GrpcSender:
    """Calls `Export` of one target."""

    def __init__(self, signal: str, target: Target, make_stub: Callable[[Any], Any]) -> None:
        self._signal, self._target, self._make_stub = signal, target, make_stub
        self._credentials = _credentials(target)
        self._connect()

    def send(self, request: Any, within: float) -> Outcome:  # noqa: ANN401  (a message of protobuf)
        """Send one request and return what became of it, after at most `within` seconds."""
        try:
            answer = self._stub.Export(request, metadata=tuple(self._target.headers.items()), timeout=within)
        except grpc.RpcError as error:
            return self._failure(error)
        message = self._target.one_line(answer.partial_success.error_message)
        return outcome.of_answer(self._signal, answer, self._target.address, message)

    def close(self) -> None:
        """Close the channel; a call that runs is cancelled."""
        self._channel.close()

    def _failure(self, error: Any) -> Outcome:  # noqa: ANN401  (a call: grpcio has no types)
        code, wait = error.code(), _wait(error.trailing_metadata())
        said = f"{self._target.address}: {code.name}: {self._target.one_line(error.details() or '')}"
        if code in LATER or (code is Code.RESOURCE_EXHAUSTED and wait is not None):
            if code in (Code.UNAVAILABLE, Code.DEADLINE_EXCEEDED):
                self.close()  # the old channel would wait long before it connects again, and not see a dead connection
                self._connect()
            return Outcome("later", said, wait=wait or None)
        return Outcome("refused", f"{said}: {outcome.hint(HINTS[code], self._signal)}" if code in HINTS else said)

    def _connect(self) -> None:
        address = urlsplit(self._target.url).netloc.rpartition("@")[2] or self._target.url
        options = (
            ("grpc.primary_user_agent", f"ticket-inbox/{version('ticket-inbox')}"),
            ("grpc.use_local_subchannel_pool", 1),  # else a new channel takes over the old one's waits
        )
        chosen = {"options": options, "compression": COMPRESSION.get(self._target.compression)}
        self._channel = (
            grpc.secure_channel(address, self._credentials, **chosen)
            if self._credentials
            else grpc.insecure_channel(address, **chosen)
        )
        self._stub = self._make_stub(self._channel)


def _credentials(target: Target) -> Any:  # noqa: ANN401
    """Return what TLS needs, or None for a target without TLS. Raises OSError if a file cannot be read."""
    if target.url.startswith("http://") or (target.is_insecure and not target.url.startswith("https://")):
        return None
    files = target.certificate, target.client_key, target.client_certificate
    return grpc.ssl_channel_credentials(*(Path(name).read_bytes() if name else None for name in files))


def _wait(trailers: Any) -> float | None:  # noqa: ANN401
    """Return how many seconds a `RetryInfo` asks for; None if there is none."""
    details = dict(trailers or ()).get(DETAILS)
    found = RetryInfo()
    try:
        for detail in Status.FromString(details or b"").details:
            if detail.Unpack(found):
                return float(found.retry_delay.ToTimedelta().total_seconds())
    except (DecodeError, ValueError, OverflowError):
        pass
    return None
