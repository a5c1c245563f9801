"""What becomes of what a command prints where standard output is closed, full, gone or of few characters?

An error of standard output is none of Postgres, which raises OSError too: it is an error of its own here.
"""

import io
import os
import sys


class OutputError(Exception):
    """Standard output takes nothing; the message says why."""

    def __init__(self, error: OSError) -> None:
        super().__init__(error.strerror)
        self.reader_is_gone = isinstance(error, BrokenPipeError)


class _Output(io.FileIO):
    """Standard output, whose errors are OutputError."""

    def write(self, data: bytes) -> int | None:  # type: ignore[override]
        try:
            return super().write(data)
        except OSError as error:
            _discard(self.fileno())
            raise OutputError(error) from None


class _Errors(io.FileIO):
    """Standard error, which loses what nobody takes: a warning that cannot be printed fails no command."""

    def write(self, data: bytes) -> int | None:  # type: ignore[override]
        try:
            return super().write(data)
        except OSError:
            return len(data)


def fill_gaps() -> None:
    """Open what is closed of the three streams: a connection to Postgres would get its number, and what is printed."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)  # it gets the least free number  # noqa: FBT003


def watch_output() -> None:
    """Print what the stream's encoding lacks by its number, and raise OutputError where it takes nothing."""
    if sys.stdout is sys.__stdout__ and sys.stdout is not None:
        sys.stdout = _like(sys.stdout, _Output)


def watch_errors() -> None:
    """Drop what standard error does not take. Not for a process that logs: otel/standard_error.py does more for it."""
    if sys.stderr is sys.__stderr__ and sys.stderr is not None:
        sys.stderr = _like(sys.stderr, _Errors)


def can_print(text: str) -> bool:
    """Return True if standard output's encoding has every character of `text`."""
    try:
        text.encode(getattr(sys.stdout, "encoding", None) or "utf-8")
    except (UnicodeError, LookupError):
        return False
    return True


def _like(stream: io.TextIOWrapper, kind: type[io.FileIO]) -> io.TextIOWrapper:
    raw = kind(stream.fileno(), "wb", closefd=False)
    return io.TextIOWrapper(
        io.BufferedWriter(raw),
        encoding=stream.encoding,
        errors="backslashreplace",
        line_buffering=stream.line_buffering,
        write_through=stream.write_through,
    )


def _discard(number: int) -> None:
    """Lead the rest nowhere: Python writes what is left when it ends, and would print a traceback."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, number)
    os.close(nowhere)
