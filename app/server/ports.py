"""How is a port opened, for one process or for several?

On one socket that several processes accept from, the first to wake takes most of a burst (docs/decisions/0021). So each
of several binds the port for itself, and the kernel spreads the connections over them.
"""

import errno
import ipaddress
import os
import socket
import sys
from collections.abc import Callable
from typing import Any

TAKEN_A_TURN = 16  # connections
BACKLOG = 2048  # connections that wait to be accepted
UNPRIVILEGED = 1024  # the least port that needs no right
NO_IPV6 = "this machine has no IPv6: set HOST to an address of IPv4, such as 127.0.0.1 or 0.0.0.0"
# What to do, by the system's error. `{setting}` is the name of the port's setting.
CURES = {
    errno.EADDRINUSE: "stop what listens there, or set another {setting}",
    errno.EADDRNOTAVAIL: "no interface of this machine has that address: set HOST to one that has, or to 0.0.0.0 or ::",
    errno.EAFNOSUPPORT: NO_IPV6,
}
UNKNOWN_NAME = (
    "no address of that name is known: set HOST to an IP address, and TICKET_INBOX_HOST where another program sets HOST"
)


class ListenError(Exception):
    """The address cannot be listened on; the message says why and what to do."""


class Port(socket.socket):
    """A port that is bound anew by each process it is handed to, so that the kernel spreads connections evenly."""

    def __reduce__(self) -> tuple[Callable[..., "Port"], tuple[Any, ...]]:
        return bind, (self.family, self.getsockname())


def listen(host: str, port: int, setting: str = "PORT") -> socket.socket:
    """Open a socket that listens on a host name or address without brackets, `::` for every one of IPv6 and IPv4.

    Port 0 takes a free one; `setting` names the port's setting in errors. Raises ListenError.
    """
    try:
        family, address = _resolve(host, port)
        return _listening(family, address)
    except (OSError, UnicodeError) as error:
        reason = _reason(error)
        raise ListenError(
            f"cannot listen on {name(host, port)} ({reason}): {_cure(error, host, port, setting)}"
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
    _take_both_families(port)
    for option in (socket.SO_REUSEADDR, socket.SO_REUSEPORT):
        port.setsockopt(socket.SOL_SOCKET, option, 1)
    port.bind(address)
    return port


def as_many(bound: socket.socket) -> list[socket.socket]:
    """Return `bound` as several sockets: uvloop takes one connection from each in a turn of the loop (libuv 1.48).

    From a single one a burst that meets a busy loop, with long turns, is taken in over seconds.
    """
    return [bound, *(bound.dup() for _ in range(TAKEN_A_TURN - 1))]


def name(host: str, port: int) -> str:
    """Return an address as it is written in URLs: an address of IPv6 stands in brackets."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def url(host: str, port: int) -> str:
    """Return a URL that reaches, from this machine, a server that listens on `host`, also if that is every address."""
    try:
        ip = ipaddress.ip_address(host)
    except ValueError:
        return f"http://{name(host, port)}"
    if ip.is_unspecified:
        host = "127.0.0.1" if ip.version == 4 else "::1"  # noqa: PLR2004
    return f"http://{name(host, port)}"


def _resolve(host: str, port: int) -> tuple[socket.AddressFamily, Any]:
    """Return the family and the address to bind: of a name with addresses of both families, the one of IPv4."""
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    family, *_, address = min(found, key=lambda one: one[0] != socket.AF_INET)
    return family, address


def _listening(family: socket.AddressFamily, address: Any) -> socket.socket:  # noqa: ANN401
    listening = socket.socket(family, socket.SOCK_STREAM)
    try:
        _take_both_families(listening)
        if os.name == "posix":  # Windows would let two servers share the port
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(address)
        listening.listen(BACKLOG)
    except OSError:
        listening.close()
        raise
    return listening


def _take_both_families(unbound: socket.socket) -> None:
    """Have `::` mean every address of IPv4 too, whatever the system's default; other addresses stay what they are."""
    if unbound.family == socket.AF_INET6:
        unbound.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)


def _reason(error: Exception) -> str:
    if isinstance(error, UnicodeError):
        return "it is no host name"
    number = getattr(error, "errno", None)
    return os.strerror(number) if number and number > 0 else str(getattr(error, "strerror", error))


def _cure(error: Exception, host: str, port: int, setting: str) -> str:
    if isinstance(error, UnicodeError | socket.gaierror):
        return UNKNOWN_NAME
    number = getattr(error, "errno", None)
    if number == errno.EACCES and port < UNPRIVILEGED:
        right = "a port below 1024 needs a right that this user lacks (CAP_NET_BIND_SERVICE)"
        return f"{right}: set {setting} to 1024 or more, or grant it"
    if number == errno.EADDRNOTAVAIL and ":" in host and not _has_ipv6():
        return NO_IPV6
    return CURES.get(number or 0, "set HOST and {setting} to what this system allows").format(setting=setting)


def _has_ipv6() -> bool:
    """Return True if this machine can use IPv6 at all: then it has the loopback address."""
    try:
        with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as probe:
            probe.bind(("::1", 0))
    except OSError:
        return False
    return True
