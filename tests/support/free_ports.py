"""Find a port on which no process listens."""

import socket


def free_port() -> int:
    """Return a free port. Listen there soon: another process may take it."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])
