"""How do several processes take connections on one port? Each binds it for itself, and the kernel deals them out.

On one socket that all of them accept from, whoever wakes first takes most of a burst (docs/decisions/0021).
"""

import socket
import sys
from collections.abc import Callable
from typing import Any

from app.server import run


class Port(socket.socket):
    """A port that is bound anew by each process it is handed to, so that the kernel spreads connections evenly."""

    def __reduce__(self) -> tuple[Callable[..., "Port"], tuple[Any, ...]]:
        return bind, (self.family, self.getsockname())


def bind(family: socket.AddressFamily, address: Any) -> Port:  # noqa: ANN401  (its form is the family's)
    """Bind a port that this user's other processes may bind too."""
    port = Port(family)
    if family == socket.AF_INET6:
        port.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
    for option in (socket.SO_REUSEADDR, socket.SO_REUSEPORT):
        port.setsockopt(socket.SOL_SOCKET, option, 1)
    port.bind(address)
    return port


def claim(host: str, port: int) -> socket.socket:
    """Take a port for our own processes, which listen on it as they come; 0 takes a free one. Raises ListenError.

    Any server of this user's could join in. So we first listen alone, as a single server does, which is refused
    where somebody listens; and what we hold from then on is not to be reused, which has others refused.
    """
    with run.listen(host, port) as alone:
        if sys.platform != "linux":
            return alone.dup()  # elsewhere the kernel would give all connections to one of them
        alone.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        claimed = bind(alone.family, alone.getsockname())
        claimed.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 0)
        return claimed
