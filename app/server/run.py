"""How is the server run? uvicorn on a socket that we open ourselves, to say clearly when it is taken."""

import contextlib
import logging
import os
import signal
import socket
import sys
from typing import Any

import uvicorn

from app.settings import Settings
from otel import logs

TAKEN_A_TURN = 16  # connections
_logger = logging.getLogger("ticket_inbox.server")


class ListenError(Exception):
    """The address cannot be listened on; the message says why and what to do."""


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


def as_many(bound: socket.socket) -> list[socket.socket]:
    """Give `bound` as several sockets: uvloop takes one connection from each in a turn of the loop (libuv 1.48).

    From a single one a burst that meets a busy loop, with long turns, is taken in over seconds.
    """
    return [bound, *(bound.dup() for _ in range(TAKEN_A_TURN - 1))]


def options(settings: Settings) -> dict[str, Any]:
    """Give what uvicorn is told, in one process or in each of several."""
    return {
        "http": "app.server.shedding:SheddingProtocol",
        "ws": "none",  # whatever is installed
        "proxy_headers": False,  # nothing here asks who the client is
        "log_config": None,
        "access_log": False,
        "server_header": False,
        "lifespan": "on",
        "timeout_graceful_shutdown": settings.shutdown_timeout_seconds,
    }


def serve(settings: Settings) -> None:
    """Serve until SIGTERM or SIGINT, then finish the answers in flight. Raises ListenError."""
    from app.main import create_app  # noqa: PLC0415  (two seconds that who watches over several processes is spared)

    app = create_app(settings)
    bound = listen(settings.host, settings.port)
    for number in (signal.SIGTERM, signal.SIGINT):
        # uvicorn drains at either, then raises it anew for whoever asked before: we end in peace.
        signal.signal(number, lambda *_: sys.exit(0))
    logs.log(_logger, logging.INFO, "listening", host=settings.host, port=bound.getsockname()[1])
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(one) for one in as_many(bound)]
        uvicorn.Server(uvicorn.Config(app, **options(settings))).run(sockets=sockets)
