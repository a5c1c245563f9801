"""How do an answer's head and body leave together? uvicorn writes them separately, each by a system call."""

import asyncio
from typing import Any


class BufferedTransport:
    """A transport that collects what is written until the loop's next turn, and then writes it in one piece."""

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
        self._transport, self._loop = transport, loop
        self._buffer: list[bytes] = []
        self._is_half_closed = False
        self.peer_sends = False  # more of a request that it has begun
        self.peer_has_ended = False  # its side of the connection: it sends no more

    def write(self, data: bytes) -> None:
        if not self._buffer:
            self._loop.call_soon(self._flush)
        self._buffer.append(data)

    def close(self) -> None:
        """Close; while the peer sends, only our side: unread bytes would make the kernel reset, and lose our answer."""
        self._flush()
        if not self.peer_sends or self.peer_has_ended or not self._transport.can_write_eof():
            self._transport.close()
        elif not self.is_closing():
            self._is_half_closed = True
            self._transport.write_eof()

    def is_closing(self) -> bool:
        return self._is_half_closed or self._transport.is_closing()

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401  (whatever else a transport can do)
        return getattr(self._transport, name)

    def _flush(self) -> None:
        if self._buffer and not self._transport.is_closing():
            self._transport.write(b"".join(self._buffer))
        self._buffer.clear()
