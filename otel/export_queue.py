"""What happens to spans and log lines that cannot be exported yet? They wait in a queue of bounded length.

The batch that the receiver could not take is kept beside the queue and sent again, later and later, until it is taken
or refused. When the queue is full, the oldest in it are dropped and counted.
"""

import logging
import random
import threading
import time
from collections import deque
from typing import Any

from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor

from otel import logs, metrics, outcome
from otel.outcome import Outcome
from otel.sender import Sender

logger = logging.getLogger(__name__)
FIRST_WAIT = 1.0  # seconds after the first try that failed; each next wait is twice as long
LONGEST_WAIT = 8.0  # seconds: server and worker come back well within the Collector's decision_wait of each other
LONGEST_ASKED_WAIT = 60.0  # seconds of a receiver's Retry-After that are believed
JITTER = 0.2  # so that many processes do not come back at the same moment


class ExportQueue:
    """Items of one signal that wait; a thread of its own sends them in batches, at least every `delay` seconds."""

    def __init__(self, signal: str, sender: Sender, *, size: int, batch: int, delay: float) -> None:
        self._signal, self._sender, self._size, self._batch, self._delay = signal, sender, size, batch, delay
        self._waiting: deque[Any] = deque(maxlen=size)
        self._in_hand: list[Any] = []
        self._awake, self._stopping, self._closed = threading.Event(), threading.Event(), threading.Event()
        self._ends = float("inf")
        self._left = 0
        self._has_overflowed = False
        self._dropped = metrics.DROPPED.labels(signal)
        self._settling = threading.Lock()  # each item is counted once, though two threads may end its wait
        self._thread = threading.Thread(target=self._run, name=f"{signal} by OTLP", daemon=True)
        self._thread.start()

    def put(self, item: object) -> None:
        """Hand over one item. It costs a microsecond and never waits: requests end here."""
        waiting = self._waiting
        if len(waiting) >= self._size:
            self._dropped.inc()
            self._has_overflowed = True
        waiting.append(item)
        if len(waiting) >= self._batch and not self._awake.is_set():
            self._awake.set()

    def stop(self, ends: float) -> None:
        """Send what can be sent until `ends` on the monotonic clock, and return at once."""
        self._ends = ends
        self._stopping.set()
        self._awake.set()

    def wait(self) -> int:
        """Wait for the end that `stop` began, and return how many items were dropped because they were not sent."""
        self._thread.join(max(0.0, self._ends - time.monotonic()))
        self._close()
        self._sender.close()
        return self._left

    def _run(self) -> None:
        while not self._closed.is_set():
            self._awake.wait(self._delay)
            self._awake.clear()
            self._send_what_waits()
            if self._stopping.is_set() and not self._waiting:
                return

    def _send_what_waits(self) -> None:
        """Send one batch, even if it is small, and then as many as are full; all of them if the process stops."""
        while self._waiting and not self._closed.is_set():
            with self._settling:
                self._in_hand = [self._waiting.popleft() for _ in range(min(self._batch, len(self._waiting)))]
            self._deliver()
            if len(self._waiting) < self._batch and not self._stopping.is_set():
                return

    def _deliver(self) -> None:
        """Send the batch in hand until the receiver takes it or refuses it, or the process has to end."""
        wait = FIRST_WAIT
        while (found := self._sender.send(self._in_hand, max(0.1, self._ends - time.monotonic()))).kind == "later":
            self._settle(found)
            if self._stopping.is_set():
                wait = FIRST_WAIT  # there is time for no longer one
            if not self._pause(_seconds(wait, found.wait)):
                self._close()
                return
            wait = min(2 * wait, LONGEST_WAIT)
        self._settle(found)

    def _settle(self, found: Outcome) -> None:
        """Count what became of the batch in hand, unless it is counted as dropped already."""
        with self._settling:
            if self._closed.is_set():
                return
            outcome.count(self._signal, len(self._in_hand), found)
            if found.kind != "later":
                self._in_hand = []
        if self._has_overflowed:
            self._has_overflowed = False
            full = f"{self._size} wait, and the oldest are dropped: the receiver takes too few, or none"
            logs.log(logger, logging.WARNING, "telemetry_queue_full", signal=self._signal, error=full)

    def _pause(self, seconds: float) -> bool:
        """Wait before the next try, and return False if there is no time for one. A stop ends the wait once."""
        if not self._stopping.is_set():
            self._stopping.wait(seconds)
            return True
        return time.monotonic() + seconds < self._ends and not self._closed.wait(seconds)

    def _close(self) -> None:
        """Drop and count all that has not been sent, and whatever is handed over from now on."""
        with self._settling:
            if self._closed.is_set():
                return
            self._closed.set()
            self._size, self._left = 0, len(self._in_hand) + len(self._waiting)
            self._waiting.clear()
            self._in_hand = []
            self._dropped.inc(self._left)


def _seconds(wait: float, asked: float | None) -> float:
    """Return how long to wait: what the receiver asked for, within bounds, or else `wait`, both spread by chance."""
    if asked is None:
        return wait * random.uniform(1 - JITTER, 1 + JITTER)  # noqa: S311
    return min(max(asked, FIRST_WAIT), LONGEST_ASKED_WAIT) * random.uniform(1, 1 + JITTER)  # noqa: S311


class SpanQueue(ExportQueue, SpanProcessor):
    """The queue as the SDK's provider knows it."""

    def on_end(self, span: ReadableSpan) -> None:
        """Hand over a span that has ended."""
        self.put(span)
