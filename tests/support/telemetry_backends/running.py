"""Start one program of a telemetry stack, wait until it answers over HTTP, and end it."""

import contextlib
import signal
import subprocess
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import httpx

from app.dev.embedded_postgres import end_with_parent


@contextlib.contextmanager
def running(command: Sequence[str | Path], log: Path, answers_at: str) -> Iterator[subprocess.Popen[bytes]]:
    """Run a program that writes to `log` and answers at the URL `answers_at` within half a minute.

    It ends with the block, or with pytest if that is killed.
    """
    with log.open("ab") as output:
        process = subprocess.Popen(command, stdout=output, stderr=output, preexec_fn=end_with_parent(signal.SIGKILL))
    try:
        _wait(process, answers_at, log)
        yield process
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(10)


def _wait(process: subprocess.Popen[bytes], url: str, log: Path) -> None:
    deadline = time.monotonic() + 30
    while True:
        with contextlib.suppress(httpx.HTTPError):
            if httpx.get(url, timeout=2).is_success:
                return
        assert process.poll() is None, log.read_text()
        assert time.monotonic() < deadline, log.read_text()
        time.sleep(0.05)
