"""Standard error of every kind (pipe, socket, terminal, another user's pipe): read, read slowly, full, and closed."""

import contextlib
import fcntl
import json
import os
import socket
import subprocess
import sys
import threading
import time
import tty
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.one_postgres

# Logs COUNT lines of LENGTH characters, says so on standard output, waits for its standard input, and logs one more.
LINES = """
import asyncio, logging, sys
from otel import logs, outlets, standard_error

async def main():
    for number in range({count}):
        logs.log(logging.getLogger("x"), logging.INFO, "line", number=number, text="x" * {length})
        if number % 10 == 0:
            await asyncio.sleep(0)
    await asyncio.to_thread(lambda: (print(sys.stderr.fileno(), flush=True), sys.stdin.read()))
    logs.log(logging.getLogger("x"), logging.INFO, "line", number={count}, text="")

{before}
logs.configure("info", "json")
asyncio.run(main())
"""
PRINTS = """
import logging, sys, threading, warnings
from otel import logs

logs.configure("info", "json")
for number in range(1000):
    print("x" * 100, file=sys.stderr)
    sys.stderr.write("no line")
warnings.warn("x" * 10_000)
thread = threading.Thread(target=lambda: 1 / 0)
thread.start()
thread.join()
print("done")
raise RuntimeError("x" * 10_000)
"""
ANOTHERS = "outlets._attempt = lambda *_: None"  # as where a pipe cannot be opened anew

Ends = tuple[int, int]


def pipe() -> Ends:
    reading, writing = os.pipe()
    fcntl.fcntl(writing, fcntl.F_SETPIPE_SZ, 4096)
    return reading, writing


def sockets() -> Ends:
    reading, writing = socket.socketpair()
    return reading.detach(), writing.detach()


def terminal() -> Ends:
    reading, writing = os.openpty()
    tty.setraw(writing)
    return reading, writing


@contextlib.contextmanager
def running(script: str, ends: Ends) -> Iterator[subprocess.Popen[str]]:
    """Run a script whose standard error is `ends[1]`; it ends with the block."""
    command = [sys.executable, "-c", script]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=ends[1], text=True)
    os.close(ends[1])
    overdue = threading.Timer(60, process.kill)  # if it is held up for good
    overdue.start()
    with process:
        try:
            yield process
        finally:
            overdue.cancel()
            process.kill()


def read(descriptor: int, pause: float = 0) -> Iterator[bytes]:
    """Yield what a pipe, socket or terminal has, to its end."""
    with contextlib.suppress(OSError):  # so a terminal says that it is closed
        while data := os.read(descriptor, 4096):
            yield data
            time.sleep(pause)


def parsed(data: bytes) -> tuple[list[int], list[dict[str, Any]]]:
    """Return the numbers of the lines, and the lines about dropped ones."""
    lines = [json.loads(line) for line in data.splitlines()]
    return (
        [line["number"] for line in lines if line["event"] == "line"],
        [line for line in lines if line["event"] == "log_lines_dropped"],
    )


def ask(process: subprocess.Popen[str]) -> str:
    """Wait until the process has logged its lines, and return what it printed."""
    assert process.stdout
    return process.stdout.readline()


@pytest.mark.parametrize("length", [200, 20_000])
@pytest.mark.parametrize(
    ("made", "before"), [(pipe, ""), (sockets, ""), (terminal, ""), (pipe, ANOTHERS)], ids=["p", "s", "t", "other"]
)
def test_lines_that_are_not_taken_are_dropped_and_counted(made: Callable[[], Ends], before: str, length: int) -> None:
    """A line that was begun has its end, however long it is."""
    ends = made()
    with running(LINES.format(count=3000, length=length, before=before), ends) as process:
        assert ask(process) == "2\n"
        data: list[bytes] = []
        thread = threading.Thread(target=lambda: data.extend(read(ends[0])))
        thread.start()
        time.sleep(1)  # longer than the process takes to look again
        process.communicate("")
        thread.join(30)
    os.close(ends[0])
    assert process.returncode == 0
    numbers, dropped = parsed(b"".join(data))
    assert numbers[-1] == 3000
    assert numbers == sorted(set(numbers))
    [line] = dropped
    assert line["count"] + len(numbers) == 3001
    assert line["process_id"] == process.pid


@pytest.mark.parametrize(("made", "before"), [(pipe, ""), (sockets, ""), (terminal, ""), (pipe, ANOTHERS)])
def test_a_slow_reader_gets_every_line(made: Callable[[], Ends], before: str) -> None:
    """It keeps the process waiting, in a burst too, as long as it reads within the patience (here, of any machine)."""
    ends = made()
    patience = "standard_error.PATIENCE = standard_error.LEAST_PATIENCE = 20"
    with running(LINES.format(count=1000, length=200, before=f"{before}\n{patience}"), ends) as process:
        assert process.stdin
        process.stdin.close()
        numbers, dropped = parsed(b"".join(read(ends[0], pause=0.005)))
    os.close(ends[0])
    assert numbers == [*range(1001)]
    assert dropped == []


@pytest.mark.parametrize("made", [pipe, sockets, terminal])
def test_what_others_print_holds_up_nothing_either(made: Callable[[], Ends]) -> None:
    """Warnings, tracebacks of threads and of the end, and what a library prints."""
    ends = made()
    with running(PRINTS, ends) as process:
        assert ask(process) == "done\n"
        assert process.wait(30) == 1
    os.close(ends[0])


def test_what_others_print_is_all_there_where_it_is_read() -> None:
    ends = pipe()
    with running(PRINTS, ends) as process:
        text = b"".join(read(ends[0])).decode()
        assert process.wait(30) == 1
    os.close(ends[0])
    assert text.count("x" * 100 + "\nno line") == 1000
    assert "UserWarning: " + "x" * 10_000 in text
    assert "ZeroDivisionError: division by zero\n" in text
    assert text.endswith("RuntimeError: " + "x" * 10_000 + "\n")


def test_the_flags_of_a_shared_standard_error_stay_as_they_are() -> None:
    """A shell or a sibling that writes to the same open file would fail if it no longer blocked."""
    for made in (pipe, sockets, terminal):
        reading, writing = made()
        before = fcntl.fcntl(writing, fcntl.F_GETFL)
        with running(LINES.format(count=1, length=1, before=""), (reading, os.dup(writing))) as process:
            ask(process)
            assert fcntl.fcntl(writing, fcntl.F_GETFL) == before
            process.communicate("")
        os.close(reading)
        os.close(writing)


def test_a_file_is_written_where_others_write_too(tmp_path: Path) -> None:
    """Two processes share a file's offset."""
    script = LINES.format(count=500, length=200, before="")
    file = tmp_path / "log"
    writing = os.open(file, os.O_WRONLY | os.O_CREAT)
    with running(script, (-1, os.dup(writing))) as one, running(script, (-1, writing)) as other:
        one.communicate("")
        other.communicate("")
    numbers, dropped = parsed(file.read_bytes())
    assert sorted(numbers) == sorted([*range(501)] * 2)
    assert dropped == []


def test_without_standard_error_nothing_is_written_into_what_is_opened_next() -> None:
    """Number 2 is the next file or connection that is opened, if the process was started without standard error."""
    script = LINES.format(count=5, length=200, before="").replace("sys.stderr.fileno()", "opened.fileno()")
    script = f"import tempfile\nopened = tempfile.TemporaryFile()\n{script}\nprint(opened.seek(0, 2))"
    done = subprocess.run(
        ["sh", "-c", 'exec "$0" -c "$1" 2>&-', sys.executable, script],
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True, timeout=60, check=True,
    )  # fmt: skip
    assert done.stdout == "2\n0\n"
