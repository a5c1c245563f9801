"""In which ways can a process write to standard error without being held up there?

Standard error belongs to other processes too: a shell, a supervisor, its children. So it is never set not to block:
that flag is one of the open file, and would be theirs as well. Nor does it help to look first whether there is room:
another process may fill it between the look and the write.
"""

import os
import select
import signal
import socket
import stat
import threading
from collections.abc import Callable
from queue import Empty, SimpleQueue
from typing import Protocol, TextIO

Attempt = Callable[[bytes], int]  # write what there is room for; raise BlockingIOError if there is none
Patience = Callable[[], float]  # how many seconds to wait, if there is no room


class Outlet(Protocol):
    """One way to write to standard error."""

    def write(self, data: bytes, patience: Patience) -> bool:
        """Write all of it, and return True; or nothing, if nothing is taken in the meantime, and return False."""


class Descriptor:
    """Attempts to write without blocking. Where there is no room, a thread writes the rest, and is held up for us.

    Only a write that blocks stands in the kernel's queue for room: one that asks again and again is overtaken for as
    long as other processes write to the same pipe.
    """

    def __init__(self, descriptor: int, attempt: Attempt | None) -> None:
        self._descriptor, self._attempt = descriptor, attempt
        self._has_thread = self._is_busy = False
        # A signal's handler may write in the midst of a write: only these queues of Python's can bear that.
        self._handed: SimpleQueue[bytes] = SimpleQueue()
        self._done: SimpleQueue[None] = SimpleQueue()

    def write(self, data: bytes, patience: Patience) -> bool:
        """As above; but the end of what is taken may still wait for room. Nothing more is taken until it is written."""
        if self._is_busy and not self._ended(0):
            return False
        try:
            taken = self._attempt(data) if self._attempt else 0
        except BlockingIOError:
            taken = 0
        except OSError:  # closed, its reader gone, its disk full
            return False
        return taken == len(data) or self._hand_over(data[taken:], patience())

    def _hand_over(self, data: bytes, seconds: float) -> bool:
        try:
            if not self._has_thread:
                threading.Thread(target=self._run, name="standard error", daemon=True).start()
        except RuntimeError:  # the interpreter is ending
            return False
        self._has_thread = self._is_busy = True
        self._handed.put(data)
        self._ended(seconds)
        return True

    def _ended(self, seconds: float) -> bool:
        """Return whether the thread has written what it was handed, or does so within `seconds`."""
        try:
            self._done.get(timeout=seconds)
        except Empty:
            return False
        self._is_busy = False
        return True

    def _run(self) -> None:
        obey_no_signal()
        while data := self._handed.get():
            while data:
                data = data[self._blocking(data) :]
            self._done.put(None)

    def _blocking(self, data: bytes) -> int:
        try:
            return os.write(self._descriptor, data)
        except BlockingIOError:  # another program has set it not to block
            select.select([], [self._descriptor], [])
            return 0
        except OSError:
            return len(data)  # it is lost


class Closed:
    """No standard error at all: its number may by now be that of any file or connection."""

    def write(self, data: bytes, patience: Patience) -> bool:  # noqa: ARG002
        return False


class Stream:
    """What another program put in the place of sys.stderr, as a test's runner does. It is that program's affair."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, data: bytes, patience: Patience) -> bool:  # noqa: ARG002
        try:
            self._stream.write(data.decode(errors="replace"))
            self._stream.flush()
        except (OSError, ValueError):  # it is closed
            return False
        return True


def to(descriptor: int) -> Outlet:
    """Return the way to write to `descriptor`."""
    try:
        mode = os.fstat(descriptor).st_mode
    except OSError:
        return Closed()
    return Descriptor(descriptor, _attempt(descriptor, mode))


def _attempt(descriptor: int, mode: int) -> Attempt | None:
    """Return what writes there without blocking, or None if there is nothing."""
    if stat.S_ISSOCK(mode):  # as systemd gives a service; each write can ask not to block
        own = socket.socket(fileno=os.dup(descriptor))
        return lambda data: own.send(data, socket.MSG_DONTWAIT)
    if not stat.S_ISFIFO(mode) and not os.isatty(descriptor):
        return lambda data: os.write(descriptor, data)  # a file or device, which never blocks for want of a reader
    try:
        # Opened anew on Linux, a pipe or terminal is an open file of our own, whose flags are ours. (Of a regular file
        # we would lose the place where the next line belongs.)
        anew = os.open(f"/proc/self/fd/{descriptor}", os.O_WRONLY | os.O_NONBLOCK | os.O_NOCTTY)
    except OSError:
        return None  # it is another user's, or this is not Linux
    return lambda data: os.write(anew, data)


def obey_no_signal() -> None:
    """Leave every signal to the threads that were there before, some of which block one on purpose."""
    signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
