"""How is each design run that is measured? Everything on this machine, on the same Postgres, ended with the block."""

import contextlib
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from urllib.parse import urlsplit

import sqlalchemy as sa

from tests.bench.parts import ROOT, Rig


@contextlib.contextmanager
def noop() -> Iterator[int]:
    """Run the no-op handler; give its port."""
    port = free_port()
    with running(["tests.bench.noop", str(port)], port):
        yield port


@contextlib.contextmanager
def ours(rig: Rig) -> Iterator[int]:
    """Run `ticket-inbox serve`; give its port."""
    with rig.server() as server:
        yield urlsplit(server.url).port or 0


@contextlib.contextmanager
def peer(rig: Rig, name: str, **environment: str) -> Iterator[int]:
    """Run a peer's server as ours is run: one process, uvloop, no access log. Give its port."""
    port = free_port()
    arguments = ["uvicorn", f"tests.bench.peers.{name}:app", f"--port={port}", "--no-access-log", "--log-level=warning"]
    with running(arguments, port, DATABASE_URL=rig.database.url, SECRET=rig.tenant.secret, **environment):
        yield port


@contextlib.contextmanager
def celery_workers(rig: Rig, redis_url: str) -> Iterator[None]:
    """Run Celery's worker with as many processes as there are cores, its default."""
    app = "tests.bench.peers.fastapi_celery:celery"
    environment = {"DATABASE_URL": rig.database.url, "SECRET": rig.tenant.secret, "REDIS_URL": redis_url}
    arguments = ["celery", f"--app={app}", "worker", "--loglevel=ERROR", "--prefetch-multiplier=64"]
    with running(arguments, None, **environment):
        time.sleep(4)
        yield


@contextlib.contextmanager
def redis() -> Iterator[str | None]:
    """Run Redis with its append-only file on, and give its URL; None where it is not installed."""
    if not (binary := shutil.which("redis-server")):
        yield None
        return
    port = free_port()
    with tempfile.TemporaryDirectory() as directory:
        options = ["--port", str(port), "--dir", directory, "--appendonly", "yes", "--bind", "127.0.0.1"]
        process = subprocess.Popen([binary, *options], stdout=subprocess.DEVNULL)
        try:
            wait_for(port)
            yield f"redis://127.0.0.1:{port}/0"
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
def running(arguments: Sequence[str], port: int | None, **environment: str) -> Iterator[None]:
    """Run `python -m ARGUMENTS` until the block ends."""
    process = subprocess.Popen([sys.executable, "-m", *arguments], cwd=ROOT, env={**os.environ, **environment})
    try:
        if port:
            wait_for(port)
        yield
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
