"""How is standard error written to when nobody may read it?

A pipe, a socket or a terminal that is full holds up its writer for as long as its reader pleases: the event loop, every
webhook, both probes and the end on SIGTERM. So a line is written before the process goes on, as ever, but waits at most
PATIENCE for room. Then lines are dropped and counted until one is taken again (docs/decisions/0032).
"""

import io
import os
import select
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence

from otel import outlets
from otel.outlets import Outlet

# Seconds. With 0.05 and 0.1, lines were dropped on a busy machine whose reader read; and a probe waits for a second.
PATIENCE = 0.25
# After lines were dropped, patience is short and grows. A reader that is always a little too slow would otherwise use
# it up between any two lines.
LEAST_PATIENCE = 0.005
GROWTH = 0.1  # of the time since lines were last dropped
LOOK = 0.2  # seconds between two looks at a standard error that takes nothing, where no line comes that would look
Describe = Callable[[int, float], str]  # a line about a number of dropped lines, and the time of the first

# What counts the dropped lines: otel/metrics.py adds its counter. Called only from the thread that looks: a counter's
# lock may be held by the very code that a signal's handler or a destructor interrupts to write its line.
on_drop: list[Callable[[int], object]] = []


class PatientWriter:
    """Writes whole lines in their order; drops and counts them while its outlet takes nothing."""

    errors = "backslashreplace"  # as sys.stderr has it

    def __init__(self, outlet: Outlet, encoding: str = "utf-8") -> None:
        self.encoding = encoding
        self.describe: Describe = "{} lines were dropped since {}\n".format
        self._outlet = outlet
        self._lock = threading.RLock()  # a signal's handler may write while its thread does
        self._unreported = self._uncounted = 0  # dropped lines that no line reports, that no counter has
        self._since: float | None = None  # when the first one was dropped, while lines are dropped
        self._gave_up = float("-inf")
        self._is_watched = False

    def write_text(self, lines: Sequence[str]) -> None:
        """Write the lines, each with its end, or drop those that are not taken."""
        self.write([line.encode(self.encoding, self.errors) for line in lines])

    def write(self, lines: Sequence[bytes]) -> None:
        """As `write_text`."""
        with self._lock:
            if self._since is not None and not self._resumed():
                self._drop(len(lines))
                return
            for first, chunk in _chunks(lines):
                if not self._outlet.write(chunk, self._patience):
                    self._give_up(len(lines) - first)
                    return

    def _patience(self) -> float:
        return min(PATIENCE, LEAST_PATIENCE + (time.monotonic() - self._gave_up) * GROWTH)

    def _give_up(self, count: int) -> None:
        self._since, self._gave_up = time.time(), time.monotonic()
        self._drop(count)
        self._watch()

    def _drop(self, count: int) -> None:
        self._unreported += count
        self._uncounted += count

    def _resumed(self) -> bool:
        """Look once whether the outlet takes bytes again: first of all, the line about those that were dropped."""
        line = self.describe(self._unreported, self._since or 0)
        if not self._outlet.write(line.encode(self.encoding, self.errors), self._patience):
            return False
        self._since, self._unreported = None, 0
        return True

    def _watch(self) -> None:
        """Have a thread look now and then: the next line that would look may be hours away."""
        if not self._is_watched:
            self._is_watched = True
            try:
                threading.Thread(target=self._look, name="standard error is full", daemon=True).start()
            except RuntimeError:  # the interpreter is ending
                self._is_watched = False

    def _look(self) -> None:
        outlets.obey_no_signal()
        while self._is_watched:
            time.sleep(LOOK)
            with self._lock:
                is_over = self._since is None or self._resumed()
                count = self._uncounted if on_drop else 0
                self._uncounted -= count
                self._is_watched = not is_over or self._uncounted > 0
            for add in on_drop:
                add(count)


class PatientFile(io.RawIOBase):
    """What Python and libraries print to sys.stderr (warnings, tracebacks, exit messages), by way of the writer."""

    def __init__(self, writer: PatientWriter, descriptor: int) -> None:
        super().__init__()
        self.writer, self._descriptor = writer, descriptor

    def writable(self) -> bool:
        return True

    def fileno(self) -> int:
        if self._descriptor < 0:
            raise io.UnsupportedOperation("there is no standard error")
        return self._descriptor

    def isatty(self) -> bool:
        return os.isatty(self._descriptor)

    def write(self, data: bytes) -> int:  # type: ignore[override]
        text = bytes(data)
        self.writer.write(text.splitlines(keepends=True))
        return len(text)


def writer() -> PatientWriter:
    """Return the writer of this process's standard error; what is printed to sys.stderr goes through it from now on."""
    stream = sys.stderr
    if isinstance(file := getattr(stream, "buffer", None), PatientFile):
        return file.writer
    if stream is not sys.__stderr__:
        return PatientWriter(outlets.Stream(stream))
    # Python has None where it was started without one. Number 2 may be any file or connection that was opened since.
    descriptor = stream.fileno() if stream else -1
    made = PatientWriter(outlets.to(descriptor), stream.encoding if stream else "utf-8")
    sys.stderr = io.TextIOWrapper(PatientFile(made, descriptor), made.encoding, made.errors, line_buffering=True)
    return made


def _chunks(lines: Sequence[bytes]) -> Iterator[tuple[int, bytes]]:
    """Join whole lines, up to what a pipe takes in one piece: two processes that share it must not mix their lines.

    Yield the number of each chunk's first line, and the chunk.
    """
    first = size = 0
    for number, line in enumerate(lines):
        if number > first and size + len(line) > select.PIPE_BUF:
            yield first, b"".join(lines[first:number])
            first, size = number, 0
        size += len(line)
    if lines:
        yield first, b"".join(lines[first:])
