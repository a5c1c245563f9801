"""How do an answer's head and body leave together? uvicorn writes one after the other, and each asks the kernel."""

import asyncio
from typing import Any

import msgspec
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from app import exchange, problems
from app.problems import Refusal


class CorkedTransport:
    """A transport that keeps what is written until the loop's next turn, and then writes it at once."""

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
        self._transport, self._loop = transport, loop
        self._kept: list[bytes] = []

    def write(self, data: bytes) -> None:
        if not self._kept:
            self._loop.call_soon(self._flush)
        self._kept.append(data)

    def close(self) -> None:
        self._flush()
        self._transport.close()

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401  (whatever else a transport can do)
        return getattr(self._transport, name)

    def _flush(self) -> None:
        if self._kept and not self._transport.is_closing():
            self._transport.write(b"".join(self._kept))
        self._kept.clear()


class CorkedProtocol(HttpToolsProtocol):
    """uvicorn's HTTP, on such a transport, and with a problem for what is no HTTP at all."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(CorkedTransport(transport, self.loop))  # type: ignore[arg-type]

    def send_400_response(self, msg: str) -> None:
        """Answer a request that cannot be read, and close the connection."""
        refusal = Refusal(400, f"The request cannot be read: {msg}")
        correlation_id = exchange.correlation_id_of(None)
        body = msgspec.json.encode(refusal.problem(correlation_id))
        head = (
            "HTTP/1.1 400 Bad Request\r\n"
            f"content-type: {problems.MEDIA_TYPE}\r\ncontent-length: {len(body)}\r\n"
            f"{exchange.HEADER}: {correlation_id}\r\nconnection: close\r\n\r\n"
        )
        self.transport.write(head.encode() + body)
        self.transport.close()
