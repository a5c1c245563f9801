"""What is one of several processes, to the supervisor and to itself? A server, and a pipe on which it is asked.

Signals do not say enough between the two: a terminal and systemd send them to all processes, and the same one twice
may be read as one. What the supervisor alone may ask for goes through the pipe.
"""

import contextlib
import multiprocessing
import os
import signal
import socket
import threading
import time

from uvicorn.supervisors.multiprocess import Process

from app.readiness import this_process
from app.server import draining

ANSWER_SECONDS = 0.05  # an idle process takes a thousandth of it
CLOSE = b"close"  # the port, without delay


class Child(Process):
    """uvicorn's process, with a server of ours in it."""

    config: draining.Config

    def __init__(self, config: draining.Config, sockets: list[socket.socket]) -> None:
        super().__init__(config, sockets)
        self.is_serving = False  # by its last answer, as the next two
        self.was_ready = False
        self.trouble: str | None = None  # why it is not
        self._asked_at: float | None = None  # and not answered since
        self.kill_at = 0.0  # once it is to end

    @property
    def server(self) -> draining.Server:
        if self._server is None:
            self._server = draining.Server(self.config)
        assert isinstance(self._server, draining.Server)  # noqa: S101
        return self._server

    def start(self) -> None:
        super().start()
        self.child_conn.close()  # the child has its own; with ours open, its death would look like silence

    def silent_seconds(self) -> float:
        """Ask whether it serves, and return how long it has not answered."""
        now = time.monotonic()
        try:
            if self._asked_at is None:
                self._asked_at = now
                self.parent_conn.send(b"ping")
            if self.parent_conn.poll(ANSWER_SECONDS):
                self.is_serving, self.was_ready, self.trouble = self.parent_conn.recv()
                self._asked_at = None
                return 0.0
        except (OSError, EOFError):
            pass  # it has ended, or will have by the next time
        return now - (self._asked_at or now)

    def stop(self, seconds: float) -> None:
        """Have it end; `seconds` from now it is killed."""
        self.kill_at = time.monotonic() + seconds
        if self.exitcode is None and self.pid:
            os.kill(self.pid, signal.SIGTERM)

    def close_now(self, seconds: float) -> None:
        """Have it close its port without delay, and end; `seconds` from now it is killed."""
        self.kill_at = time.monotonic() + seconds
        with contextlib.suppress(OSError):
            self.parent_conn.send(CLOSE)

    def has_ended(self) -> bool:
        """Return whether it has ended; kill it first if it is late."""
        if self.exitcode is None and time.monotonic() > self.kill_at:
            self.kill()
            self.join()
        return self.exitcode is not None

    def target(self, sockets: list[socket.socket] | None = None) -> None:
        """Serve; this runs in the process itself."""
        server = self.server
        threading.Thread(target=_end_with_parent, args=[server], daemon=True).start()
        super().target(sockets)

    def pong(self) -> None:
        """Do what the supervisor asks for, in the process itself."""
        if self.child_conn.recv() == CLOSE:
            self.server.close_now()
        else:
            self.child_conn.send((self.server.started, this_process.was_ready, this_process.trouble))


def _end_with_parent(server: draining.Server) -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None  # noqa: S101  (the supervisor started this process)
    parent.join()
    from otel import metrics  # noqa: PLC0415

    metrics.remove_shared()  # it was killed, and could not
    server.close_now()
    os.kill(os.getpid(), signal.SIGTERM)
