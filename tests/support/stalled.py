"""Hold a process of ours at an import for as long as a test needs, alone or as the first process of a container."""

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

_STAYS = """
import pathlib, sys, time
here = pathlib.Path({directory!r})
if not {site} or sys.orig_argv[1:3] == ["-m", "jobs"]:
    (here / "reached").touch()
    while not (here / "released").exists():
        time.sleep(0.02)
"""
UNSHARE = ["unshare", "--pid", "--fork", "--mount-proc", "--kill-child"]


def may_unshare() -> bool:
    """Return whether this user may start the first process of a PID namespace here."""
    return (
        shutil.which("unshare") is not None
        and subprocess.run([*UNSHARE, "true"], capture_output=True, check=False).returncode == 0
    )


def wait_until(condition: Callable[[], object], within: float = 30.0) -> None:
    deadline = time.monotonic() + within
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


class Stalled:
    """A process of ours that does not get past an import."""

    def __init__(self, process: subprocess.Popen[bytes], directory: Path, *, is_first: bool) -> None:
        self.process, self._directory, self._is_first = process, directory, is_first

    def send(self, number: signal.Signals) -> None:
        """Send a signal to it, and not to the `unshare` around it."""
        os.kill(children(self.process.pid)[0] if self._is_first else self.process.pid, number)

    def end(self) -> tuple[int, str]:
        """Wait for its end; return exit code and what it wrote on standard error."""
        code = self.process.wait(15)
        return code, (self._directory / "stderr").read_text()

    def release(self) -> None:
        """Let it go on."""
        (self._directory / "released").touch()


@contextlib.contextmanager
def stalled(
    arguments: list[str], at: str, env: dict[str, str], directory: Path, *, is_first: bool = False
) -> Iterator[Stalled]:
    """Run `python ARGUMENTS` until it imports the module `at`, where it stays; it ends with the block.

    The module `sitecustomize` is imported by Python itself; it holds only `python -m jobs`.
    """
    (directory / f"{at}.py").write_text(_STAYS.format(directory=str(directory), site=at == "sitecustomize"))
    with (directory / "stderr").open("wb") as stderr:
        process = subprocess.Popen(
            [*(UNSHARE if is_first else []), sys.executable, *arguments],
            env={**env, "PYTHONPATH": str(directory)}, stderr=stderr, stdout=subprocess.DEVNULL,
        )  # fmt: skip
    try:
        wait_until(lambda: (directory / "reached").exists() or process.poll() is not None)
        assert process.poll() is None, (directory / "stderr").read_text()
        yield Stalled(process, directory, is_first=is_first)
    finally:
        (directory / "released").touch()  # for what it may have started
        process.kill()
        process.wait()


def children(process_id: int) -> list[int]:
    """Return the ids of a process's children, also of those that have ended and that it has not waited for."""
    return [int(one) for one in Path(f"/proc/{process_id}/task/{process_id}/children").read_text().split()]


def runs(process_id: int) -> bool:
    """Return whether a process has not ended; one that has, and was not waited for, has no command line."""
    with contextlib.suppress(OSError):
        return Path(f"/proc/{process_id}/cmdline").read_bytes() != b""
    return False
