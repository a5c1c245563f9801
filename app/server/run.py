"""How does one process serve? uvicorn on a socket that we open ourselves, to say clearly when the port is taken."""

import contextlib
import logging
import sys
from typing import TYPE_CHECKING, Any

from app import stopping
from app.server import draining, ports
from app.settings import Settings
from otel import logs

if TYPE_CHECKING:
    from litestar import Litestar  # which the processes that supervise others never import

_logger = logging.getLogger("ticket_inbox.server")


def serve(application: "Litestar", settings: Settings) -> None:
    """Serve `application` until a signal ends it, then finish the answers in flight.

    Raises ListenError; and SystemExit where it was not ready in START_PATIENCE_SECONDS.
    """
    bound = ports.listen(settings.host, settings.port)
    logs.log(_logger, logging.INFO, "listening", host=settings.host, port=bound.getsockname()[1])
    stopping.reap_orphans()
    config = draining.Config(application, **options(settings))
    config.drain_delay, config.start_patience = settings.drain_delay_seconds, settings.start_patience_seconds
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(one) for one in ports.as_many(bound)]
        server = draining.Server(config)
        server.run(sockets=sockets)
    if server.gave_up:
        sys.exit(1)  # the log says why


def options(settings: Settings) -> dict[str, Any]:
    """Return uvicorn's options, for one process and for each of several."""
    return {
        "http": "app.server.shedding:SheddingProtocol",
        "ws": "none",  # whatever is installed
        "proxy_headers": False,  # nothing here uses the client's address
        "log_config": None,
        "access_log": False,
        "server_header": False,
        "lifespan": "on",
        "timeout_graceful_shutdown": settings.shutdown_timeout_seconds,
    }
