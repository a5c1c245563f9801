"""Which machine does this process run on? By it a trace viewer knows whose clocks may differ.

Jaeger 1.76 takes two spans for spans of one clock if the attribute `ip` of their resources is the same; its newer API
takes `host.id`, `host.ip` or `host.name`. Without these it warns of clock skew wherever a promotion does not fit into
its request, and that it never has to.
Source: cmd/query/app/querysvc/internal/adjuster/clockskew.go and …/v2/adjuster/clockskew.go of Jaeger 1.76.0
"""

import contextlib
import socket

# Addresses that no machine has (RFC 5737, RFC 3849): routed as everything else is that has no route of its own.
ELSEWHERE = ((socket.AF_INET, "192.0.2.1"), (socket.AF_INET6, "2001:db8::1"))


def attributes() -> dict[str, str]:
    """Return `host.name`, and as `ip` the address this machine sends from; without what cannot be read."""
    known = {"host.name": _name(), "ip": _address()}
    return {name: value for name, value in known.items() if value}


def _name() -> str:
    with contextlib.suppress(OSError, UnicodeError):
        return socket.gethostname()
    return ""


def _address() -> str:
    """Return the address of the default route; a UDP socket finds it without sending anything."""
    for family, elsewhere in ELSEWHERE:
        with contextlib.suppress(OSError), socket.socket(family, socket.SOCK_DGRAM) as asked:
            asked.connect((elsewhere, 9))
            return str(asked.getsockname()[0])
    return ""
