"""How does `dev` run the server and the worker? As processes of their own, which end with it."""

import asyncio
import contextlib
import fcntl
import math
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import click

from app.dev import waterfall
from app.dev.embedded_postgres import end_with_parent

ENDS_WITHIN = 30.0  # seconds; more than the default of SHUTDOWN_TIMEOUT_SECONDS
Child = tuple[str, subprocess.Popen[bytes]]


class LockedError(Exception):
    """Another process holds the lock; the message is its process id."""


def environment(**changes: str) -> dict[str, str]:
    """Return this process's environment with `changes`.

    It reaches this process past every proxy. Unless it says otherwise, logs are lines for a person, and a stopping
    process takes 3 seconds at most.
    """
    ours = {"LOG_FORMAT": "console", "SHUTDOWN_TIMEOUT_SECONDS": "3"}
    return {**ours, **os.environ, **_past_proxies(os.environ), **changes}


def _past_proxies(environ: Mapping[str, str]) -> dict[str, str]:
    """Return the variables by which a process that has a proxy for others still reaches this one."""
    given = environ.get("no_proxy") or environ.get("NO_PROXY")
    hosts = f"{given},{waterfall.HERE}" if given else waterfall.HERE
    return {"no_proxy": hosts, "NO_PROXY": hosts}


@contextlib.contextmanager
def child(command: str, env: dict[str, str]) -> Iterator[Child]:
    """Run `ticket-inbox COMMAND` as in production, yield its name and process, and end it with the block.

    It has a session of its own, so that a terminal's Ctrl-C does not end it before this process. On Linux, if this
    process is killed, the child is killed too.
    """
    process = subprocess.Popen(
        [sys.executable, "-m", "app", command],
        env=env,
        start_new_session=True,
        preexec_fn=end_with_parent(signal.SIGKILL),
    )
    try:
        yield command, process
    finally:
        process.terminate()
        try:
            process.wait(ENDS_WITHIN)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


async def watch(children: Sequence[Child], seconds: float = math.inf) -> None:
    """Wait for `seconds`; raise ClickException as soon as a child ends."""
    deadline = time.monotonic() + seconds
    while True:
        for command, process in children:
            if process.poll() is not None:
                raise click.ClickException(f"`ticket-inbox {command}` ended by itself: see its log above")
        if (left := deadline - time.monotonic()) <= 0:
            return
        await asyncio.sleep(min(left, 0.2))


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold the lock at `path`, which ends with this process. Raises LockedError, OSError."""
    with path.open("a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            raise LockedError(file.read().strip() or "unknown") from None
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        yield
