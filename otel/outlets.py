"""In which ways can a process write to standard error without being held up there?

Standard error belongs to other processes too: a shell, a supervisor, its children. So it is never set not to block:
that flag is one of the open file, and would be theirs as well.
"""

import errno
import os
import select
import signal
import socket
import stat
import threading
import time
from queue import SimpleQueue
from typing import Protocol, TextIO


class Outlet(Protocol):
    """One way to write to standard error without being held up."""

    def write(self, data: bytes, seconds: float) -> int:
        """Return how many bytes were taken, 0 if none within `seconds`. Raises OSError if it can take none."""


class Descriptor:
    """A regular file or a device, which always take bytes; or a pipe or a terminal opened anew, not to block."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def write(self, data: bytes, seconds: float) -> int:
        try:
            return self._take(data)
        except BlockingIOError:
            return self._wait(data, seconds) if seconds else 0

    def _take(self, data: bytes) -> int:
        return os.write(self._descriptor, data)

    def _wait(self, data: bytes, seconds: float) -> int:
        room = select.poll()
        room.register(self._descriptor, select.POLLOUT)
        ends = time.monotonic() + seconds
        while (left := ends - time.monotonic()) > 0 and room.poll(left * 1000):
            try:
                return self._take(data)
            except BlockingIOError:  # another process on the same pipe was faster
                continue
        return 0


class Socket(Descriptor):
    """A socket, as systemd gives a service. It cannot be opened anew, but each write can ask not to block."""

    def __init__(self, descriptor: int) -> None:
        super().__init__(descriptor)
        self._socket = socket.socket(fileno=os.dup(descriptor))

    def _take(self, data: bytes) -> int:
        return self._socket.send(data, socket.MSG_DONTWAIT)


class Thread:
    """A pipe or terminal of another user, or of a system without /proc: a thread writes, and is held up for us.

    No look before the write could do: another process on the same pipe may fill it in between.
    """

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._handed: SimpleQueue[bytes] = SimpleQueue()
        self._idle = threading.Event()
        self._idle.set()
        self._error: OSError | None = None
        threading.Thread(target=self._run, name="standard error", daemon=True).start()

    def write(self, data: bytes, seconds: float) -> int:
        """As the others, but what is taken may still be on its way, if that takes longer than `seconds`."""
        if not self._idle.wait(seconds):
            return 0
        self._idle.clear()
        self._handed.put(data)
        self._idle.wait(seconds)
        error, self._error = self._error, None
        if error:
            raise error
        return len(data)

    def _run(self) -> None:
        obey_no_signal()
        while True:
            data = self._handed.get()
            try:
                while data:
                    data = data[os.write(self._descriptor, data) :]
            except OSError as error:
                self._error = error
            self._idle.set()


class Closed:
    """No standard error at all: number 2 may be any file or connection that was opened since."""

    def write(self, data: bytes, seconds: float) -> int:  # noqa: ARG002
        raise OSError(errno.EBADF, os.strerror(errno.EBADF))


class Stream:
    """What another program put in the place of sys.stderr, as a test's runner does. It is that program's affair."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, data: bytes, seconds: float) -> int:  # noqa: ARG002
        try:
            self._stream.write(data.decode(errors="replace"))
            self._stream.flush()
        except ValueError as closed:
            raise OSError(errno.EBADF, str(closed)) from None
        return len(data)


def obey_no_signal() -> None:
    """Leave every signal to the threads that were there before, some of which block one on purpose."""
    signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())


def to(descriptor: int) -> Outlet:
    """Return the way to write to `descriptor`."""
    try:
        mode = os.fstat(descriptor).st_mode
    except OSError:
        return Closed()
    if stat.S_ISSOCK(mode):
        return Socket(descriptor)
    if not stat.S_ISFIFO(mode) and not os.isatty(descriptor):
        return Descriptor(descriptor)
    try:
        # Opened anew on Linux, it is an open file of our own, whose flags are ours. (Of a regular file we would lose
        # the place where the next line belongs.)
        return Descriptor(os.open(f"/proc/self/fd/{descriptor}", os.O_WRONLY | os.O_NONBLOCK | os.O_NOCTTY))
    except OSError:
        return Thread(descriptor)
