"""Send any bytes on a socket, also those that no HTTP client sends, and read the answers."""

import contextlib
import socket
from collections.abc import Iterator
from http.client import HTTPResponse
from typing import NamedTuple, Self, cast
from urllib.parse import urlsplit

from app.webhook import PATH
from tests.support.system import Server, Tenant

PROBLEM = "application/problem+json"


class Answer(NamedTuple):
    """One answer as it arrived."""

    status: int
    headers: dict[str, str]
    body: bytes


class Wire:
    """A connection on which anything can be sent."""

    def __init__(self, connection: socket.socket) -> None:
        self.socket = connection
        self._file = connection.makefile("rb")

    @classmethod
    @contextlib.contextmanager
    def to(cls, server: Server, timeout: float = 10.0) -> Iterator[Self]:
        address = urlsplit(server.url)
        with socket.create_connection((address.hostname, address.port), timeout=timeout) as connection:
            wire = cls(connection)
            with wire._file:
                yield wire

    def send(self, data: bytes) -> None:
        self.socket.sendall(data)

    def answer(self, method: str = "GET") -> Answer:
        """Read one answer; that to a HEAD has no body. Raises HTTPException or OSError if none comes."""
        response = HTTPResponse(cast("socket.socket", self), method=method)  # it calls only makefile()
        response.begin()
        headers = {name.lower(): value for name, value in response.getheaders()}
        return Answer(response.status, headers, response.read())

    def makefile(self, _mode: str) -> "Unclosed":
        return Unclosed(self._file)

    def is_closed(self) -> bool:
        """Wait for the next byte or the end; return True if it is the end."""
        with contextlib.suppress(ConnectionResetError):
            return self._file.read(1) == b""
        return True


class Unclosed:
    """A file that the reader of one answer cannot close, so that the next answer can be read."""

    def __init__(self, file: object) -> None:
        self._file = file

    def close(self) -> None:
        pass

    def __getattr__(self, name: str) -> object:
        return getattr(self._file, name)


def head(tenant: Tenant, body: bytes, *lines: str, version: str = "1.1", length: bool = True) -> bytes:
    """Return the head of a signed webhook, with further `lines`."""
    fields = [f"{name}: {value}" for name, value in tenant.headers(body).items()]
    if length:
        fields.append(f"Content-Length: {len(body)}")
    return "\r\n".join([f"POST {PATH} HTTP/{version}", "Host: x", *fields, *lines, "", ""]).encode()


def chunked(body: bytes) -> bytes:
    """Return a body in chunks of at most 100 bytes, with the last chunk that ends it."""
    parts = [body[start : start + 100] for start in range(0, len(body), 100)]
    return b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in parts) + b"0\r\n\r\n"
