"""How do an answer's head and body leave together? uvicorn writes one after the other, and each asks the kernel."""

import asyncio
from typing import Any


class CorkedTransport:
    """A transport that keeps what is written until the loop's next turn, and then writes it at once."""

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
        self._transport, self._loop = transport, loop
        self._kept: list[bytes] = []
        self._is_ended = False
        self.peer_sends = False  # there is more to come of what it has begun

    def write(self, data: bytes) -> None:
        if not self._kept:
            self._loop.call_soon(self._flush)
        self._kept.append(data)

    def close(self) -> None:
        """Close; while the peer sends, only our side: what is not read would make the kernel take the answer back."""
        self._flush()
        if not self.peer_sends:
            self._transport.close()
        elif not self.is_closing():
            self._is_ended = True
            self._transport.write_eof()

    def is_closing(self) -> bool:
        return self._is_ended or self._transport.is_closing()

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401  (whatever else a transport can do)
        return getattr(self._transport, name)

    def _flush(self) -> None:
        if self._kept and not self._transport.is_closing():
            self._transport.write(b"".join(self._kept))
        self._kept.clear()
