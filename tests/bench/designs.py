"""How is each measured design run? On this machine, on the same Postgres; its processes end with the block."""

import contextlib
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from typing import NamedTuple
from urllib.parse import urlsplit

import sqlalchemy as sa

from tests import ROOT
from tests.bench.workbench import Rig


class Design(NamedTuple):
    """A running server: its port, and its process id."""

    port: int
    process_id: int


@contextlib.contextmanager
def noop() -> Iterator[Design]:
    """Run the no-op handler."""
    port = free_port()
    with running(["tests.bench.noop", str(port)], port) as process_id:
        yield Design(port, process_id)


@contextlib.contextmanager
def ours(rig: Rig) -> Iterator[Design]:
    """Run `ticket-inbox serve`."""
    with rig.server() as server:
        yield Design(urlsplit(server.url).port or 0, server.process.pid)


@contextlib.contextmanager
def peer(rig: Rig, name: str, **environment: str) -> Iterator[Design]:
    """Run a peer's server as ours runs: one process, uvloop, no access log."""
    port = free_port()
    arguments = ["uvicorn", f"tests.bench.peers.{name}:app", f"--port={port}", "--no-access-log", "--log-level=warning"]
    environment |= {"DATABASE_URL": rig.database.url, "SECRET": rig.tenant.secret}
    with running(arguments, port, **environment) as process_id:
        yield Design(port, process_id)


@contextlib.contextmanager
def celery_workers(rig: Rig, redis_url: str) -> Iterator[int]:
    """Run Celery's worker with one process a core, its default; yield the id of the first."""
    app = "tests.bench.peers.fastapi_celery:celery"
    environment = {"DATABASE_URL": rig.database.url, "SECRET": rig.tenant.secret, "REDIS_URL": redis_url}
    arguments = ["celery", f"--app={app}", "worker", "--loglevel=ERROR", "--prefetch-multiplier=64"]
    with running(arguments, None, **environment) as process_id:
        time.sleep(4)
        yield process_id


class Redis(NamedTuple):
    """A running Redis."""

    url: str
    process_id: int


@contextlib.contextmanager
def redis() -> Iterator[Redis | None]:
    """Run Redis with its append-only file on; yield None if it is not installed."""
    if not (binary := shutil.which("redis-server")):
        yield None
        return
    port = free_port()
    with tempfile.TemporaryDirectory() as directory:
        options = ["--port", str(port), "--dir", directory, "--appendonly", "yes", "--bind", "127.0.0.1"]
        process = subprocess.Popen([binary, *options], stdout=subprocess.DEVNULL)
        try:
            wait_for(port)
            yield Redis(f"redis://127.0.0.1:{port}/0", process.pid)
        finally:
            process.terminate()
            process.wait()


def make_tables(rig: Rig) -> None:
    """Make the peers' tables."""
    os.environ.update(DATABASE_URL=rig.database.url, SECRET=rig.tenant.secret)
    from tests.bench.peers.payload import Base  # noqa: PLC0415

    engine = sa.create_engine(rig.database.url.replace("postgresql://", "postgresql+psycopg://"))
    Base.metadata.create_all(engine)
    engine.dispose()


@contextlib.contextmanager
def running(arguments: Sequence[str], port: int | None, **environment: str) -> Iterator[int]:
    """Run `python -m ARGUMENTS` until the block ends; yield its process id."""
    process = subprocess.Popen([sys.executable, "-m", *arguments], cwd=ROOT, env={**os.environ, **environment})
    try:
        if port:
            wait_for(port)
        yield process.pid
    finally:
        process.terminate()
        process.wait()


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port: int = probe.getsockname()[1]
        return port


def wait_for(port: int) -> None:
    deadline = time.monotonic() + 20
    while True:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return
        assert time.monotonic() < deadline
        time.sleep(0.05)
