"""How is the port opened, for one process or for several?

On one socket that several processes accept from, the first to wake takes most of a burst (docs/decisions/0021). So each
of several binds the port for itself, and the kernel spreads the connections over them.
"""

import os
import socket
import sys
from collections.abc import Callable
from typing import Any

TAKEN_A_TURN = 16  # connections


class ListenError(Exception):
    """The address cannot be listened on; the message says why and what to do."""


class Port(socket.socket):
    """A port that is bound anew by each process it is handed to, so that the kernel spreads connections evenly."""

    def __reduce__(self) -> tuple[Callable[..., "Port"], tuple[Any, ...]]:
        return bind, (self.family, self.getsockname())


def listen(host: str, port: int) -> socket.socket:
    """Open the server's socket; port 0 takes a free one. Raises ListenError."""
    try:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        return socket.create_server((host, port), family=family, backlog=2048)
    except OSError as error:
        why = os.strerror(error.errno) if error.errno and error.errno > 0 else error.strerror
        raise ListenError(
            f"cannot listen on {host}:{port} ({why}): stop what listens there, or set HOST and PORT"
        ) from None


def claim(host: str, port: int) -> socket.socket:
    """Take a port for our own processes, each of which listens on it later; 0 takes a free one. Raises ListenError.

    Any server of this user's could join in. So we first listen alone, as a single server does, which is refused
    where another listens; and what we hold from then on is not to be reused, which has others refused.
    """
    with listen(host, port) as alone:
        if sys.platform != "linux":
            return alone.dup()  # elsewhere the kernel would give all connections to one of them
        alone.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        claimed = bind(alone.family, alone.getsockname())
        claimed.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 0)
        return claimed


def bind(family: socket.AddressFamily, address: Any) -> Port:  # noqa: ANN401  (its form is the family's)
    """Bind a port that this user's other processes may bind too."""
    port = Port(family)
    if family == socket.AF_INET6:
        port.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
    for option in (socket.SO_REUSEADDR, socket.SO_REUSEPORT):
        port.setsockopt(socket.SOL_SOCKET, option, 1)
    port.bind(address)
    return port


def as_many(bound: socket.socket) -> list[socket.socket]:
    """Return `bound` as several sockets: uvloop takes one connection from each in a turn of the loop (libuv 1.48).

    From a single one a burst that meets a busy loop, with long turns, is taken in over seconds.
    """
    return [bound, *(bound.dup() for _ in range(TAKEN_A_TURN - 1))]
