"""How do several processes serve? A supervisor starts them, and starts a new one for each that dies.

The supervising process answers no webhook, and imports nothing that does.
"""

import contextlib
import logging
import sys
from typing import Self

from uvicorn.config import STARTUP_FAILURE

from app import settings as environment
from app.server import draining, ports, run
from app.server.supervisor import SILENT_SECONDS, Supervisor
from app.settings import Settings, uses
from otel import logs

_logger = logging.getLogger("ticket_inbox.server")


class NoDirectoryError(Exception):
    """The processes cannot count together; the message says why and what to do."""


def serve(settings: Settings, processes: int) -> None:
    """Serve from several processes until a signal ends them, then finish the answers in flight.

    Raises ListenError or NoDirectoryError.
    """
    from otel import metrics  # noqa: PLC0415  (a child that cannot import it logs so: see ChildConfig)

    logs.configure(settings.log_level, settings.log_format)
    with contextlib.ExitStack() as stack:
        port = ports.claim(settings.host, settings.port)
        sockets = [stack.enter_context(one) for one in ports.as_many(port)]
        supervisor = Supervisor(ChildConfig.of(settings, processes), sockets)
        try:
            stack.enter_context(metrics.shared())
        except OSError as error:
            raise NoDirectoryError(f"the processes need a directory to count in: {error}; set TMPDIR") from None
        supervisor.run()
    if supervisor.gave_up or any(process.exitcode == STARTUP_FAILURE for process in supervisor.processes):
        sys.exit(1)  # the log says why


class ChildConfig(draining.Config):
    """uvicorn's, which each process loads at its start."""

    is_supervised = True

    @classmethod
    def of(cls, settings: Settings, processes: int) -> Self:
        config = cls(
            "app.main:create_app",
            factory=True,
            host=settings.host,
            workers=processes,
            timeout_worker_healthcheck=SILENT_SECONDS,
            **run.options(settings),
        )
        config.drain_delay, config.start_patience = settings.drain_delay_seconds, settings.start_patience_seconds
        return config

    def load(self) -> None:
        """Import and make the application. Where that fails, say why in one line: the next process would fail too."""
        settings = environment.load_or_exit(uses.LOGS)
        logs.configure(settings.log_level, settings.log_format)
        try:
            super().load()
        except (Exception, SystemExit) as error:  # noqa: BLE001
            logs.log(_logger, logging.CRITICAL, "process_not_started", error=f"{type(error).__name__}: {error}")
            sys.exit(STARTUP_FAILURE)
