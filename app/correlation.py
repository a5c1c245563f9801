"""Which id names one request, in its answer, in the log and in the inbox?"""

import random
import re
import time
from collections.abc import Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from litestar.types import ASGIApp, Message, Receive, Scope, Send

HEADER = "X-Correlation-ID"
HEADER_BYTES = HEADER.lower().encode()
Headers = Iterable[tuple[bytes, bytes]]  # names in lower case
_VALID = re.compile(rb"[A-Za-z0-9._:-]{1,128}", re.ASCII)


def kept_or_new(value: bytes | None) -> str:
    """Return the correlation id that a request came with where it is valid, else a new one."""
    return value.decode() if value and _VALID.fullmatch(value) else new()


def new() -> str:
    """Return a UUID of version 7 (RFC 9562). It begins with the time: an index keeps those of one moment together."""
    moment, bits = f"{time.time_ns() // 1_000_000:012x}", f"{random.getrandbits(72):018x}"
    return f"{moment[:8]}-{moment[8:]}-7{bits[:3]}-a{bits[3:6]}-{bits[6:]}"


def of_headers(headers: Headers) -> str:
    """Return the correlation id of a request with these headers, of which the first of a name counts."""
    return kept_or_new(next((value for name, value in headers if name == HEADER_BYTES), None))


def on_each_answer(app: "ASGIApp") -> "ASGIApp":
    """Wrap `app`, ASGI, so that each of its answers carries a correlation id; one that it has stays."""

    async def respond(scope: "Scope", receive: "Receive", send: "Send") -> None:
        async def send_with_id(message: "Message") -> None:
            if message["type"] == "http.response.start":
                headers = list(message["headers"])
                if not any(name.lower() == HEADER_BYTES for name, _ in headers):
                    headers.append((HEADER_BYTES, of_headers(scope["headers"]).encode()))
                message["headers"] = headers
            await send(message)

        await app(scope, receive, send_with_id)

    return respond
