"""Run our processes with standard error on a small pipe whose reader stops and goes on as a test says."""

import contextlib
import fcntl
import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

from tests.support import preloaded

SIZE = 4096  # bytes that the pipe takes: a dozen lines
Made = TypeVar("Made")


class Reader:
    """Copies a pipe into a file, as a log collector does, until it is paused."""

    def __init__(self, log: Path) -> None:
        self._reading, self.writing = os.pipe()
        fcntl.fcntl(self.writing, fcntl.F_SETPIPE_SZ, SIZE)
        self._goes_on = threading.Event()
        self._goes_on.set()
        self._thread = threading.Thread(target=self._copy, args=[log], daemon=True)
        self._thread.start()

    def pause(self) -> None:
        """Read no more; what is being read just now may still come."""
        self._goes_on.clear()

    def resume(self) -> None:
        self._goes_on.set()

    def finish(self) -> None:
        """Read to the end, which comes when every process that writes has ended."""
        self.resume()
        self._thread.join(30)
        assert not self._thread.is_alive(), "a process still has the pipe open"

    def _copy(self, log: Path) -> None:
        with log.open("wb", buffering=0) as file, os.fdopen(self._reading, "rb", buffering=0) as pipe:
            while self._goes_on.wait() and (data := pipe.read(SIZE)):
                file.write(data)


@contextlib.contextmanager
def started(
    arguments: list[str], env: dict[str, str], log: Path, made: Callable[[preloaded.AProcess, Path], Made]
) -> Iterator[tuple[Made, Reader]]:
    """Run one of our processes, its pipe read into `log`; it ends with the block, or with pytest if that is killed."""
    reader = Reader(log)
    try:
        process = preloaded.start(["app", *arguments], env, reader.writing)
    finally:
        os.close(reader.writing)
    try:
        yield made(process, log), reader
    finally:
        process.kill()
        process.wait()
        reader.finish()
