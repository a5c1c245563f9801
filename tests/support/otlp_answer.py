"""What an OTLP receiver answers: any status, headers and body over HTTP, any code and details over gRPC."""

from __future__ import annotations

import dataclasses
from typing import Any

import grpc
from google.protobuf import json_format
from google.rpc.error_details_pb2 import RetryInfo
from google.rpc.status_pb2 import Status


@dataclasses.dataclass(frozen=True)
class Answer:
    """One answer. `rejected` and `message` are its `partial_success`; `body` stands in its place where it is given."""

    status: int = 200
    headers: dict[str, str] = dataclasses.field(default_factory=dict)
    body: bytes | None = None
    is_json: bool = False
    rejected: int = 0
    message: str = ""
    code: Any = None  # of gRPC; None is OK
    retry_seconds: float | None = None  # in gRPC's details
    delay: float = 0.0  # seconds until it is sent
    missing: int = 0  # bytes of the body that its length has and that never come

    def __str__(self) -> str:
        changed = (
            getattr(self, one.name) for one in dataclasses.fields(self) if getattr(self, one.name) != one.default
        )
        return " ".join(getattr(value, "name", str(value)) for value in changed if value not in ({}, None))

    @property
    def is_taken(self) -> bool:
        """Whether what was sent is kept."""
        return self.status == 200 and self.code is None

    def fill(self, response: Any) -> Any:  # noqa: ANN401  (a message of protobuf)
        """Return `response` with the partial success, under whichever name its signal has for it."""
        if self.rejected or self.message:
            response.partial_success.error_message = self.message
            [rejected] = [one.name for one in response.partial_success.DESCRIPTOR.fields if "rejected" in one.name]
            setattr(response.partial_success, rejected, self.rejected)
        return response

    def http_body(self, response: Any) -> bytes:  # noqa: ANN401
        """Return the body of this answer, which would be `response`."""
        if self.body is not None:
            return self.body
        filled = self.fill(response)
        return json_format.MessageToJson(filled).encode() if self.is_json else bytes(filled.SerializeToString())

    def abort(self, context: Any) -> None:  # noqa: ANN401  (grpcio has no types)
        """Answer a call of gRPC by the code, if it is not OK."""
        if self.code is None:
            return
        if self.retry_seconds is not None:
            info, status = RetryInfo(), Status(code=self.code.value[0], message=self.message)
            info.retry_delay.FromNanoseconds(int(self.retry_seconds * 1e9))
            status.details.add().Pack(info)
            context.set_trailing_metadata((("grpc-status-details-bin", status.SerializeToString()),))
        context.abort(self.code, self.message)


def unavailable(protocol: str) -> Answer:
    """Return the answer of a receiver that cannot take anything now."""
    return Answer(code=grpc.StatusCode.UNAVAILABLE) if protocol == "grpc" else Answer(status=503)
