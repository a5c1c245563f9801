"""How does a server process end? It says so first, then closes its port, and finishes the answers in flight.

::

    signal ──► /health/ready is 503, answers end their connections ──► the port is closed ──► the last answer is sent
               for DRAIN_DELAY_SECONDS                                 for at most SHUTDOWN_TIMEOUT_SECONDS
"""

import asyncio
import contextlib
import logging
import math
import select
import signal
import socket
import time
from collections.abc import Iterator
from types import FrameType

import uvicorn

from app import stopping
from app.readiness import Patience, this_process
from otel import logs

TURNS = 200  # of the loop, in which connections are still accepted that the kernel has queued; 16 in each
_logger = logging.getLogger("ticket_inbox.server")


class Config(uvicorn.Config):
    """uvicorn's, and what a server must know to end."""

    drain_delay = 0.0  # seconds
    start_patience = 0.0  # seconds for the first moment of readiness, and then it ends; 0 waits for ever
    is_supervised = False  # systemd sends SIGTERM to all processes, and so does the supervisor: the second says nothing


class Server(uvicorn.Server):
    """uvicorn's, which ends at once while it starts, and later as the head of this module draws it."""

    config: Config

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        self._seen: set[int] = set()  # signals
        self._closes_at = math.inf  # by time.monotonic()
        self._is_logged = False  # that it drains
        this_process.is_logged = True
        self._patience = Patience(config.start_patience)
        self.gave_up = False

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Handle signals to the end. uvicorn would handle two of them, and raise these again after the last answer."""
        stopping.handle_all(self.handle_exit)
        try:
            yield
        finally:
            stopping.handle_all(stopping.end_at_once)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Begin to end. The same signal again cuts the delay short; a second Ctrl-C waits for no answer either."""
        if not hasattr(self, "servers"):
            stopping.end_at_once(sig, frame)
        is_first, is_again = not self._seen, sig in self._seen
        self._seen.add(sig)
        if is_first:
            stopping.begin()
            self._closes_at = min(self._closes_at, time.monotonic() + self.config.drain_delay)
        elif sig == signal.SIGINT:
            self.force_exit = True
            self.close_now()
        elif is_again and not self.config.is_supervised:
            self.close_now()

    def close_now(self) -> None:
        """Close the port without delay, and finish the answers in flight; any thread may call this."""
        self._closes_at = 0.0

    async def on_tick(self, counter: int) -> bool:
        """Look ten times a second whether it is time to close the port."""
        if self._seen and not self.should_exit and time.monotonic() < self._closes_at:
            self._log_once()
        if not (self._seen or this_process.was_ready or self.config.is_supervised):
            self._wait_for_start()
        self.should_exit = self.should_exit or time.monotonic() >= self._closes_at
        return await super().on_tick(counter)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Close the port after what the kernel has queued there is accepted: closing resets it."""
        if sockets:
            await _accept_queued(sockets[0])
        for one in (*self.servers, *(sockets or ())):
            one.close()
        await asyncio.sleep(0)  # the loop greets the last ones, so that they are among those that uvicorn ends
        await super().shutdown(sockets)

    def _wait_for_start(self) -> None:
        """Log why the server is not ready yet, and end it when its patience is over; several have one for all."""
        self._patience.log(_logger, this_process.trouble)
        if self._patience.is_over() and not self.gave_up:
            self.gave_up = True
            self._patience.log_end(_logger, this_process.trouble)
            self.close_now()

    def _log_once(self) -> None:
        if not self._is_logged:
            self._is_logged = True
            logs.log(_logger, logging.INFO, "draining", seconds=self.config.drain_delay)


async def _accept_queued(listener: socket.socket) -> None:
    poll = select.poll()
    poll.register(listener, select.POLLIN)
    for _ in range(TURNS):
        if not poll.poll(0):
            return
        await asyncio.sleep(0)
