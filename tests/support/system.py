"""The system under test: a database, a tenant that signs, a server and a worker in processes of their own."""

import asyncio
import contextlib
import json
import subprocess
import threading
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import psycopg
from psycopg.rows import dict_row
from sqlalchemy.ext.asyncio import AsyncEngine

from app.event import flat
from app.server import ports
from app.webhook import PATH, signature
from db import engine as engines
from db import inbox, queue
from db.allowed import Allowed
from db.inbox import Delivery
from db.tenants import Secrets
from otel import tracing
from tests.support import preloaded
from tests.support.json_log import JsonLog

JSON = {"Content-Type": "application/json"}
ANY_TENANT = Allowed("SELECT unnest(CAST(:tenants AS text[]))")  # also one without a row in tenant_configs
STARTS_WITHIN = 30.0  # seconds; several processes import for 5 s of processor, which other tests use, too
PRIORITIES = {
    queue.SWEEP: queue.SWEEP_PRIORITY, queue.REPROCESS: queue.REPROCESS_PRIORITY, queue.PRUNE: queue.PRUNE_PRIORITY,
    queue.INDEX: queue.INDEX_PRIORITY,
}  # fmt: skip


class Tenant:
    """A tenant and its secret: it makes payloads and signs them."""

    def __init__(self, tenant_id: str, secret: str) -> None:
        self.id = tenant_id
        self.secret = secret

    def payload(self, **members: object) -> dict[str, Any]:
        """Return a valid payload with `members` in it; a member given as ... is left out."""
        whole = {**flat.EXAMPLE, "tenant_id": self.id, "ticket_id": uuid.uuid4().hex, **members}
        return {name: value for name, value in whole.items() if value is not ...}

    def body(self, **members: object) -> bytes:
        return json.dumps(self.payload(**members)).encode()

    def headers(self, body: bytes, **more: str) -> dict[str, str]:
        """Sign `body`, and return the headers with the signature and the content type."""
        return {**JSON, signature.HEADER: signature.sign(self.secret.encode(), body), **more}


class Database:
    """A database of the tests' own."""

    def __init__(self, url: str) -> None:
        self.url = url
        self._kept = threading.local()  # a thread's connection, if it keeps one

    @contextlib.contextmanager
    def on_one_connection(self) -> Iterator[psycopg.Connection[dict[str, Any]]]:
        """Use one connection for all queries of the block: making a new one takes longer than most queries."""
        if kept := getattr(self._kept, "connection", None):
            yield kept
            return
        with psycopg.connect(self.url, autocommit=True, row_factory=dict_row) as self._kept.connection:
            try:
                yield self._kept.connection
            finally:
                del self._kept.connection

    def query(self, sql: str, *parameters: object) -> list[dict[str, Any]]:
        """Run one statement and return its rows."""
        with self.on_one_connection() as connection:
            done = connection.execute(sql, parameters)
            return done.fetchall() if done.description else []

    def value(self, sql: str, *parameters: object) -> Any:  # noqa: ANN401
        [row] = self.query(sql, *parameters)
        [value] = row.values()
        return value

    def add_tenant(self, secrets_key: str, tenant_id: str | None = None) -> Tenant:
        tenant = Tenant(tenant_id or f"tenant-{uuid.uuid4().hex[:8]}", f"secret-{uuid.uuid4().hex}")
        encrypted = Secrets(secrets_key).encrypt(tenant.secret)
        self.query("INSERT INTO tenant_configs (tenant_id, secret) VALUES (%s, %s)", tenant.id, encrypted)
        return tenant

    def deliver(self, *payloads: dict[str, Any]) -> list[int]:
        """Append events as the server does, with one job for all of them, and return their inbox ids.

        Their tenants need not exist.
        """

        async def append() -> list[int]:
            engine = engines.create_engine(self.url, "test", 1, 30.0)
            try:
                return await appended(engine, *payloads)
            finally:
                await engine.dispose()

        return asyncio.run(append())

    def defer(self, task: str, **arguments: object) -> int:
        """Defer a job as `procrastinate defer` does, with its task's priority, and return its id."""
        return int(
            self.value(
                "SELECT (procrastinate_defer_jobs_v1(ARRAY[ROW(%s, %s, %s, NULL, NULL, %s::jsonb, NULL)"
                "::procrastinate_job_to_defer_v1]))[1] AS id",
                task, task, PRIORITIES.get(task, 0), json.dumps(arguments),
            )
        )  # fmt: skip

    def wait_for(self, sql: str, wanted: object, *, within: float) -> None:
        """Query until the result is `wanted`; fail after `within` seconds, and show the last result."""
        deadline = time.monotonic() + within
        with self.on_one_connection():  # fifty new ones a second would take a core from the processes under test
            while (found := self.value(sql)) != wanted:
                assert time.monotonic() < deadline, f"{sql} is {found!r} and not {wanted!r} after {within} s"
                time.sleep(0.02)


async def appended(engine: AsyncEngine, *payloads: dict[str, Any]) -> list[int]:
    """Append events as `Database.deliver` does, on a connection of this engine's."""
    deliveries = [
        Delivery(
            tenant_id=payload["tenant_id"], ticket_id=payload["ticket_id"], correlation_id=uuid.uuid4().hex,
            traceparent=tracing.position_of_request(None, "", {}).traceparent, payload=json.dumps(payload).encode(), signature="signed",
        )
        for payload in payloads
    ]  # fmt: skip
    async with engines.connection(engine) as connection:
        return [one or 0 for one in await inbox.append(connection, deliveries, allowed=ANY_TENANT)]


class Process:
    """One of our processes, and what it logs."""

    def __init__(self, process: preloaded.AProcess, log: Path) -> None:
        self.process = process
        self._log = JsonLog(log)

    def text(self) -> str:
        return self._log.path.read_text()

    def lines(self, event_name: str | None = None) -> list[dict[str, Any]]:
        """Return the log's lines, all of which are JSON objects."""
        lines = self._log.lines(is_whole=self.process.poll() is not None)
        return [line for line in lines if event_name in (None, line["event"])]

    def wait_for_line(
        self, event_name: str, count: int = 1, within: float = 10.0, **members: str
    ) -> list[dict[str, Any]]:
        """Wait until there are `count` lines of an event with these `members`, and return them."""
        deadline = time.monotonic() + within
        while len(found := [line for line in self.lines(event_name) if members.items() <= line.items()]) < count:
            assert time.monotonic() < deadline, f"{len(found)} lines {event_name} after {within} s: {self.text()}"
            assert self.process.poll() is None, self.text()
            time.sleep(0.02)
        return found

    def children(self) -> list[int]:
        """Return the ids of its child processes; one of them is Python's resource tracker."""
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children")
        return [int(one) for one in children.read_text().split()]

    def stop(self) -> int:
        """Send SIGTERM, wait, and return the exit code."""
        self.process.terminate()
        return self.process.wait(30)


class Worker(Process):
    """`ticket-inbox worker`."""


class Server(Process):
    """`ticket-inbox serve`, and an HTTP client for it."""

    def __init__(self, process: preloaded.AProcess, log: Path) -> None:
        super().__init__(process, log)
        [line] = self.wait_for_line("listening", within=STARTS_WITHIN)
        self.url = ports.url(line["host"], line["port"])
        # Threads share the client: with a limit, httpcore may close an idle connection while another thread takes it.
        # The server closes an idle one after 5 s: httpx, whose own time is the same, would send on it at that moment.
        limits = httpx.Limits(max_connections=None, max_keepalive_connections=None, keepalive_expiry=4)
        self.client = httpx.Client(base_url=self.url, timeout=30, limits=limits, verify=False)

    def wait_until_live(self) -> None:
        deadline = time.monotonic() + STARTS_WITHIN
        while True:
            with contextlib.suppress(httpx.HTTPError):
                if self.client.get("/health/live").is_success:
                    return
            assert time.monotonic() < deadline, self.text()
            time.sleep(0.02)

    def post(self, body: bytes, headers: dict[str, str]) -> httpx.Response:
        return self.client.post(PATH, content=body, headers=headers)

    def send(self, tenant: Tenant, **members: object) -> httpx.Response:
        """Post a signed payload with `members` in it."""
        body = tenant.body(**members)
        return self.post(body, tenant.headers(body))

    def wait_until_known(self, tenant: Tenant, *, known: bool = True, within: float = 10.0) -> None:
        """Wait until the tenant's signature verifies, or no longer verifies; the contract promises 10 s."""
        probe = json.dumps({"tenant_id": tenant.id, "ticket_id": 0}).encode()
        deadline = time.monotonic() + within
        while (self.post(probe, tenant.headers(probe)).status_code == 422) != known:
            assert time.monotonic() < deadline
            time.sleep(0.05)


@contextlib.contextmanager
def running_server(env: dict[str, str], log: Path, processes: int = 1, *, by_exec: bool = False) -> Iterator[Server]:
    several = ["--processes", str(processes)] if processes > 1 else []
    with _running(["app", "serve", *several], env, log, by_exec=by_exec) as process:
        server = Server(process, log)
        server.wait_until_live()
        with contextlib.closing(server.client):
            yield server
        if several:
            server.stop()


@contextlib.contextmanager
def running_worker(env: dict[str, str], log: Path, *, by_exec: bool = False) -> Iterator[Worker]:
    with _running(["app", "worker"], env, log, by_exec=by_exec) as process:
        yield Worker(process, log)


@contextlib.contextmanager
def _running(arguments: list[str], env: dict[str, str], log: Path, *, by_exec: bool) -> Iterator[preloaded.AProcess]:
    """Run one of our processes; it ends with the block, or with pytest if that is killed."""
    with log.open("wb") as stderr:
        process = preloaded.start(arguments, env, stderr=stderr.fileno(), by_exec=by_exec)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def run(
    arguments: list[str], env: dict[str, str], *, given: str = "", cwd: Path | None = None
) -> subprocess.CompletedProcess[str]:
    """Run `ticket-inbox ARGUMENTS` to its end."""
    return preloaded.run(["app", *arguments], env, given=given, cwd=cwd)
