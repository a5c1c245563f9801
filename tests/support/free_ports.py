"""A port on which nobody listens."""

import socket


def free_port() -> int:
    """Give one; whoever is to listen there should do so soon."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])
