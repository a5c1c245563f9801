"""How do several processes serve? uvicorn's supervisor starts them, and starts a new one for each that dies.

The supervising process answers no webhook, and imports nothing that does.
"""

import contextlib
import logging
import multiprocessing
import os
import signal
import socket
import sys
import threading
import time
from multiprocessing import resource_tracker
from typing import Self

import uvicorn
from uvicorn.config import STARTUP_FAILURE
from uvicorn.supervisors import Multiprocess

from app import settings as environment
from app.server import ports, run
from app.settings import Settings, uses
from otel import logs

# A process that does not answer for so long is killed; half a second of processor time passes before it can.
SILENT_SECONDS = 20
LATE_SECONDS = 5.0  # past SHUTDOWN_TIMEOUT_SECONDS: what a process may take to say goodbye, before it is killed
# A terminal sends these to all processes at once. Only this one obeys them, and sends SIGTERM to the others.
OURS_ALONE = {signal.SIGINT, signal.SIGHUP}
_logger = logging.getLogger("ticket_inbox.server")


class NoDirectoryError(Exception):
    """The processes cannot count together; the message says why and what to do."""


def serve(settings: Settings, processes: int) -> None:
    """Serve from several processes until SIGTERM or SIGINT, then finish the answers in flight.

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
    if any(process.exitcode == STARTUP_FAILURE for process in supervisor.processes):
        sys.exit(1)  # the process has logged why


class ChildConfig(uvicorn.Config):
    """uvicorn's, which each process loads at its start."""

    @classmethod
    def of(cls, settings: Settings, processes: int) -> Self:
        return cls(
            "app.main:create_app",
            factory=True,
            host=settings.host,
            workers=processes,
            timeout_worker_healthcheck=SILENT_SECONDS,
            **run.options(settings),
        )

    def load(self) -> None:
        """Import and make the application. Where that fails, say why in one line: the next process would fail too."""
        settings = environment.load_or_exit(uses.LOGS)
        logs.configure(settings.log_level, settings.log_format)
        threading.Thread(target=_end_with_parent, daemon=True).start()
        try:
            super().load()
        except (Exception, SystemExit) as error:  # noqa: BLE001
            logs.log(_logger, logging.CRITICAL, "process_not_started", error=f"{type(error).__name__}: {error}")
            sys.exit(STARTUP_FAILURE)


class Supervisor(Multiprocess):
    """uvicorn's, which also logs what happens, and does not wait for a process for ever."""

    def __init__(self, config: uvicorn.Config, sockets: list[socket.socket]) -> None:
        super().__init__(config, sockets)
        self._listening = False
        resource_tracker.ensure_running()  # a process of Python's own, whose start would unblock SIGINT
        signal.pthread_sigmask(signal.SIG_BLOCK, OURS_ALONE)  # the processes inherit it

    def handle_signals(self) -> None:
        self.signal_queue += _blocked()
        super().handle_signals()

    def keep_subprocess_alive(self) -> None:
        before = list(self.processes)
        for process in before:
            process.child_conn.close()  # the child has its own; with ours open, its death would look like silence
        super().keep_subprocess_alive()
        for old, new in zip(before, self.processes, strict=True):
            if old is not new:
                fields = {"process_id": old.pid, "exit_code": old.exitcode}
                logs.log(_logger, logging.WARNING, "process_restarted", **fields)
        self._log_listening()

    def join_all(self) -> None:
        """Wait until all have ended; kill those that do not in time, or all at a second Ctrl-C."""
        ends = time.monotonic() + (self.config.timeout_graceful_shutdown or 0) + LATE_SECONDS
        while any(process.exitcode is None for process in self.processes):
            if time.monotonic() > ends or _blocked():
                break
            time.sleep(0.05)
        for process in self.processes:
            process.kill()
            process.join()

    def _log_listening(self) -> None:
        """Log it once, when every process takes webhooks."""
        if self._listening or self.should_exit.is_set():
            return
        if all(process.is_ready(SILENT_SECONDS) for process in self.processes):
            self._listening = True
            port = self.sockets[0].getsockname()[1]
            fields = {"host": self.config.host, "port": port, "processes": len(self.processes)}
            logs.log(_logger, logging.INFO, "listening", **fields)


def _blocked() -> list[int]:
    """Return those signals of OURS_ALONE that came, and clear them."""
    return [signal.sigwait({number}) for number in signal.sigpending() & OURS_ALONE]


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None  # noqa: S101  (the supervisor started this process)
    parent.join()
    from otel import metrics  # noqa: PLC0415

    metrics.remove_shared()  # it was killed, and could not
    os.kill(os.getpid(), signal.SIGTERM)
