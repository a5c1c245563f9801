"""Which process do our processes come from, in tests? This one: it has imported other people's packages, and forks.

It is the other end of tests/support/preloaded.py. Each fork imports our packages itself, as a process that a shell
starts does, and runs a module as `python -m` does.
"""

import contextlib
import gc
import importlib
import io
import json
import os
import runpy
import signal
import socket
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from app.dev.embedded_postgres import end_with_parent

LIBRARIES = (
    "aiolimiter", "alembic.command", "asyncpg", "click", "cryptography.fernet", "difflib", "google.protobuf.json_format", "grpc",
    "httptools", "httpx", "litestar.openapi.plugins", "msgspec", "opentelemetry.propagators", "opentelemetry.sdk.trace",
    "opentelemetry.trace.propagation.tracecontext", "procrastinate.worker", "prometheus_client.multiprocess", "psycopg_pool",
    "sqlalchemy.dialects.postgresql.asyncpg", "sqlalchemy.ext.asyncio", "uvicorn.protocols.http.httptools_impl", "uvloop",
)  # fmt: skip
OURS = ("app", "db", "jobs", "migrations", "otel", "tests")
LONGEST = 1_000_000  # bytes of a request; an environment has a few thousand


class Recorded(os._Environ[str]):  # noqa: SLF001  (an instance of it takes another class, so all that hold it see that)
    """os.environ, which notes what is read."""

    def __getitem__(self, name: str) -> str:
        names_read.add(name)
        return super().__getitem__(name)


names_read: set[str] = set()  # in the environment


def main() -> None:
    """Fork at each request that comes on the socket whose number is the first argument, until its other end closes."""
    ours = socket.socket(fileno=int(sys.argv[1]))
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C in a terminal is for pytest, which ends this process
    with _recorded():
        for name in LIBRARIES:
            importlib.import_module(name)
        import litestar  # noqa: PLC0415  (by now it is recorded what it reads)

        litestar.Litestar([litestar.get("/")(_nothing)], logging_config=None)  # it imports what it finds, as pydantic
    if threading.active_count() > 1:
        raise SystemExit("a library starts a thread as it is imported: no fork would have it")
    ours.send(json.dumps(sorted(names_read)).encode())
    gc.collect()
    gc.freeze()  # a collection in a fork would copy all these objects' pages
    runpy._run_module_as_main(_until_forked(ours))  # type: ignore[attr-defined]  # noqa: SLF001  (what `-m` calls)


async def _nothing() -> None:
    """Answer nothing."""


@contextlib.contextmanager
def _recorded() -> Iterator[None]:
    plain = os.environ.__class__
    os.environ.__class__ = Recorded
    try:
        yield
    finally:
        os.environ.__class__ = plain


def _until_forked(ours: socket.socket) -> str:
    """Answer requests; in a fork, return the module that it is to run."""
    while True:
        message, streams, _, _ = socket.recv_fds(ours, LONGEST, 3)
        if not message:
            os._exit(0)
        request = json.loads(message)
        if "ended" in request:
            _, status = os.waitpid(request["ended"], 0)
            answer = os.waitstatus_to_exitcode(status)
        elif (answer := os.fork()) == 0:
            ours.close()
            _become(request, streams)
            return str(request["arguments"][0])
        for stream in streams:
            os.close(stream)
        ours.send(f"{request['number']} {answer}".encode())


def _become(request: dict[str, Any], streams: list[int]) -> None:
    """Make this process what it would be if it had been started with the request's environment and streams."""
    if ends := end_with_parent(signal.SIGKILL):
        ends()
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for number, stream in enumerate(streams):
        os.dup2(stream, number)
        os.close(stream)
    for name, number, mode in (("stdin", 0, "r"), ("stdout", 1, "w"), ("stderr", 2, "w")):
        _open_again(name, number, mode)
    os.environ.clear()
    os.environ.update(request["env"])
    os.chdir(request["cwd"])
    # As `python -m` has them while it looks for the module.
    sys.argv[:] = ["-m", *request["arguments"][1:]]
    sys.path[0] = str(Path.cwd())
    for name in [name for name in sys.modules if name.partition(".")[0] in OURS]:
        del sys.modules[name]


def _open_again(name: str, number: int, mode: str) -> None:
    """Open a standard stream as Python does at its start: by lines if it is a terminal or standard error."""
    before = getattr(sys, f"__{name}__")
    unbuffered = before.write_through  # by PYTHONUNBUFFERED
    by_line = not unbuffered and (name == "stderr" or os.isatty(number))
    raw = open(number, f"{mode}b", 0 if unbuffered and mode == "w" else -1, closefd=False)  # noqa: SIM115
    getattr(raw, "raw", raw).name = f"<{name}>"  # type: ignore[misc]
    stream = io.TextIOWrapper(raw, before.encoding, before.errors, line_buffering=by_line, write_through=unbuffered)
    setattr(sys, name, stream)
    setattr(sys, f"__{name}__", stream)


if __name__ == "__main__":
    main()
