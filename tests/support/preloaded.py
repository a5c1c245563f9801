"""How do tests start processes of ours without importing the libraries each time? A process that has them forks.

A start costs 1.5 s of processor, most of it for Litestar and SQLAlchemy. What the interpreter or a library reads from
the environment as it begins cannot be changed after that: where it differs, and where a system is no Linux, the
process is started by exec. So are the processes that one of ours starts.
"""

import atexit
import contextlib
import itertools
import json
import os
import select
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import weakref
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Any

from app.dev.embedded_postgres import end_with_parent
from tests import ROOT

BY_THE_INTERPRETER = ("LD_", "PYTHON", "LC_", "LANG", "TZ", "MALLOC_", "GLIBC_", "OPENSSL_")
# What stands in pytest's environment of that, and for tests/__init__.py. Nothing else, so that each name which is read
# is asked for: some libraries copy all. A process that does not save what it compiled would compile all of it again.
AT_FIRST = {
    name: value
    for name, value in os.environ.items()
    if name.startswith((*BY_THE_INTERPRETER, "GRPC_")) and name != "PYTHONDONTWRITEBYTECODE"
}


class Forked:
    """A process that was forked, with the part of subprocess.Popen that tests use."""

    def __init__(self, origin: "Origin", pid: int) -> None:
        self.pid = pid
        self.returncode: int | None = None
        self._origin = origin
        # It stays open as long as this object, because another thread may be waiting.
        self._descriptor = os.pidfd_open(pid)
        weakref.finalize(self, os.close, self._descriptor)
        self._turn = threading.Lock()

    def poll(self) -> int | None:
        """Return the exit code, as subprocess does; None while it lives."""
        with self._turn:
            if self.returncode is None and self._has_ended(0):
                self.returncode = self._origin.ask({"ended": self.pid})
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """Return the exit code. Raises subprocess.TimeoutExpired."""
        if self.returncode is None and not self._has_ended(timeout):
            raise subprocess.TimeoutExpired(f"the process {self.pid}", timeout or 0)
        code = self.poll()
        assert code is not None
        return code

    def send_signal(self, number: int) -> None:
        """Send a signal, unless it has ended; until poll() finds that, no other process gets its id."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)

    def _has_ended(self, timeout: float | None) -> bool:
        waiting = select.poll()
        waiting.register(self._descriptor, select.POLLIN)
        return bool(waiting.poll(None if timeout is None else timeout * 1000))


class Origin:
    """The process that forks. It ends when this one does, and so do its forks."""

    def __init__(self) -> None:
        self._socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "tests.support.forking", str(theirs.fileno())],
                cwd=ROOT, env=AT_FIRST, stdin=subprocess.DEVNULL, pass_fds=[theirs.fileno()],
            )  # fmt: skip
        self._turn, self._numbers = threading.Lock(), itertools.count()
        self._read = set(json.loads(self._answer()))
        atexit.register(self._end)

    def can_start(self, env: Mapping[str, str]) -> bool:
        """Return whether a process would begin in the same way in this environment."""
        names = {one for one in {*env, *AT_FIRST} if one in self._read or one.startswith(BY_THE_INTERPRETER)}
        return all(env.get(one) == AT_FIRST.get(one) for one in names)

    def start(self, arguments: Sequence[str], env: Mapping[str, str], cwd: Path, streams: Sequence[int]) -> Forked:
        """Start `python -m` these arguments."""
        request = {"arguments": list(arguments), "env": dict(env), "cwd": str(cwd)}
        return Forked(self, self.ask(request, streams))

    def ask(self, request: dict[str, Any], descriptors: Sequence[int] = ()) -> int:
        """Send a request, and return the number that answers it."""
        with self._turn:
            number = str(next(self._numbers))
            socket.send_fds(self._socket, [json.dumps({**request, "number": number}).encode()], descriptors)
            while (answer := self._answer().decode().split())[0] != number:
                pass  # Ctrl-C came while another request was answered
            return int(answer[1])

    def _answer(self) -> bytes:
        answer = self._socket.recv(100_000)
        assert answer, f"the process that forks ended with {self._process.wait(10)}: see above"
        return answer

    def _end(self) -> None:
        self._socket.close()
        self._process.wait(10)


AProcess = subprocess.Popen[bytes] | Forked
_origins: list[Origin] = []
_turn = threading.Lock()


def start(arguments: Sequence[str], env: Mapping[str, str], stderr: int, *, by_exec: bool = False) -> AProcess:
    """Start `python -m` these arguments, with nothing to read; it ends with pytest, however that ends.

    A worker is started as what `ticket-inbox worker` becomes by exec, unless this is `by_exec`.
    """
    with Path(os.devnull).open("rb") as empty:
        streams = (empty.fileno(), 1, stderr)
        if by_exec:
            return _by_exec(arguments, env, None, streams)
        return _start(["jobs"] if list(arguments) == ["app", "worker"] else arguments, env, None, streams)


def run(
    arguments: Sequence[str], env: Mapping[str, str], given: str = "", cwd: Path | None = None
) -> subprocess.CompletedProcess[str]:
    """Run `python -m` these arguments to the end, with `given` as standard input; fail after a minute."""
    with contextlib.ExitStack() as stack:
        stdin, stdout, stderr = streams = [stack.enter_context(tempfile.TemporaryFile("w+")) for _ in range(3)]
        stdin.write(given)
        stdin.seek(0)
        process = _start(arguments, env, cwd, [one.fileno() for one in streams])
        try:
            code = process.wait(60)
        finally:
            process.kill()
            process.wait()
        return subprocess.CompletedProcess(arguments, code, *(_text(one) for one in (stdout, stderr)))


def _text(file: IO[str]) -> str:
    file.seek(0)
    return file.read()


def _start(arguments: Sequence[str], env: Mapping[str, str], cwd: Path | None, streams: Sequence[int]) -> AProcess:
    found = origin()
    if found and found.can_start(env):
        return found.start(arguments, env, cwd or Path.cwd(), streams)
    return _by_exec(arguments, env, cwd, streams)


def _by_exec(
    arguments: Sequence[str], env: Mapping[str, str], cwd: Path | None, streams: Sequence[int]
) -> subprocess.Popen[bytes]:
    stdin, stdout, stderr = streams
    return subprocess.Popen(
        [sys.executable, "-m", *arguments],
        env=env, cwd=cwd, stdin=stdin, stdout=stdout, stderr=stderr, preexec_fn=end_with_parent(signal.SIGKILL),
    )  # fmt: skip


def origin() -> Origin | None:
    """Return this process's one, started when first asked for; None where a system has no descriptors of processes."""
    with _turn:
        if not _origins and hasattr(os, "pidfd_open"):
            _origins.append(Origin())
        return _origins[0] if _origins else None
