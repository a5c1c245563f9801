"""A whole ticket-inbox: a Postgres on disk behind a network that can fail, servers, workers and tenants."""

import contextlib
import fcntl
import os
import signal
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
from cryptography.fernet import Fernet

from app.dev.embedded_postgres import EmbeddedPostgres
from db import schema
from tests.conftest import clean_environment
from tests.faults.proxy import Proxy
from tests.support import preloaded
from tests.support.free_ports import free_port
from tests.support.system import Database, Process, Tenant

CONNECTIONS = 60  # max_connections, low enough for a fault to take them all
LOG_BYTES = 4096  # of a log that is not read, which stay in its pipe
POSTGRES = [f"max_connections={CONNECTIONS}", "shared_buffers=64MB", "tcp_keepalives_idle=5"]


class Part:
    """A server or a worker, which a fault can end and start again."""

    def __init__(self, command: str, environment: dict[str, str], log: Path, *arguments: str) -> None:
        self.command, self.environment, self.log, self.arguments = command, environment, log, arguments
        self.log_is_read = threading.Event()
        self.log_is_read.set()
        self.port = int(environment["PORT"])
        self.process: Process | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def process_id(self) -> int:
        assert self.process is not None
        return self.process.process.pid

    def start(self, **changes: str) -> None:
        """Start it, with these changes to its environment, unless another fault has started it."""
        if self.lives():
            return
        read_end, write_end = os.pipe()
        fcntl.fcntl(write_end, fcntl.F_SETPIPE_SZ, LOG_BYTES)
        started = preloaded.start(["app", self.command, *self.arguments], self.environment | changes, write_end)
        os.close(write_end)
        threading.Thread(target=self._keep_log, args=[read_end], daemon=True).start()
        self.process = Process(started, self.log)

    def wait_until_live(self, within: float = 30.0) -> None:
        """Wait until a started server answers; a worker has no port to ask."""
        deadline = time.monotonic() + within
        while self.command == "serve" and self.lives() and time.monotonic() < deadline:
            with contextlib.suppress(httpx.HTTPError):
                if httpx.get(f"{self.url}/health/live", verify=False).is_success:
                    return
            time.sleep(0.05)

    def signal(self, number: int) -> None:
        """Send a signal; nothing happens if another fault has ended the process. SIGKILL meets its children too."""
        assert self.process is not None
        children = self.process.children() if number == signal.SIGKILL and self.lives() else []
        self.process.process.send_signal(number)
        for child in children:
            with contextlib.suppress(ProcessLookupError):
                os.kill(child, number)

    def wait(self) -> None:
        assert self.process is not None
        self.process.process.wait(40)

    def end(self) -> None:
        self.log_is_read.set()
        if self.process:
            self.signal(signal.SIGKILL)
            self.process.process.wait()

    def _keep_log(self, read_end: int) -> None:
        """Copy what a process logs into the file, while it is read, until the process has ended."""
        with open(read_end, "rb", buffering=0) as pipe, self.log.open("ab") as file:
            while self.log_is_read.wait() and (data := pipe.read(LOG_BYTES)):
                file.write(data)
                file.flush()

    def is_frozen(self) -> bool:
        assert self.process is not None
        with contextlib.suppress(FileNotFoundError):
            stat = Path(f"/proc/{self.process.process.pid}/stat").read_text()
            return stat.rsplit(")", 1)[1].split()[0] == "T"
        return False

    def lives(self) -> bool:
        return self.process is not None and self.process.process.poll() is None


class World:
    """Everything that runs. `database` connects to Postgres directly, not through the network."""

    def __init__(self, postgres: EmbeddedPostgres, proxy: Proxy, directory: Path) -> None:
        self.postgres, self.proxy, self.directory = postgres, proxy, directory
        self.database = Database(postgres.url())
        self.secrets_key = Fernet.generate_key().decode()
        self.tenants: list[Tenant] = []
        self.servers: list[Part] = []
        self.workers: list[Part] = []

    @property
    def parts(self) -> list[Part]:
        return self.servers + self.workers

    def add(self, command: str, url: str, number: int, *arguments: str) -> Part:
        """Start a server or a worker."""
        environment = clean_environment(
            DATABASE_URL=url, SECRETS_KEY=self.secrets_key, PORT=str(free_port()), APPEND_TIMEOUT_SECONDS="3",
            SHUTDOWN_TIMEOUT_SECONDS="10",
        )  # fmt: skip
        part = Part(command, environment, self.directory / f"{command}-{number}.log", *arguments)
        (self.servers if command == "serve" else self.workers).append(part)
        part.start()
        return part

    def wait_until_ready(self, within: float = 20.0) -> None:
        """Wait until every server is ready."""
        deadline = time.monotonic() + within
        for server in self.servers:
            while True:
                with contextlib.suppress(httpx.HTTPError):
                    if httpx.get(f"{server.url}/health/ready", verify=False).is_success:
                        break
                assert time.monotonic() < deadline, server.log.read_text()[-2000:]
                time.sleep(0.05)


@contextlib.contextmanager
def world(
    binaries: Path, *, servers: int = 2, supervised: int = 0, workers: int = 2, tenants: int = 3
) -> Iterator[World]:
    """Run a world, of whose servers the first `supervised` have two processes; end all its processes with the block."""
    with tempfile.TemporaryDirectory(prefix="ticket-inbox-", ignore_cleanup_errors=True) as directory:
        postgres = EmbeddedPostgres(Path(directory), binaries, POSTGRES)
        postgres.start()
        proxy = Proxy(socket_of(postgres))
        try:
            schema.upgrade(postgres.url())
            with proxy.running() as port:
                made = World(postgres, proxy, Path(directory))
                made.tenants = [made.database.add_tenant(made.secrets_key, f"tenant-{n}") for n in range(tenants)]
                url = f"postgresql://postgres@127.0.0.1:{port}/postgres"
                try:
                    for number in range(servers):
                        several = ["--processes", "2"] if number < supervised else []
                        made.add("serve", url, number, *several)
                    for number in range(workers):
                        made.add("worker", url, number)
                    made.wait_until_ready()
                    yield made
                finally:
                    for part in made.parts:
                        part.end()
        finally:
            postgres.stop()


def socket_of(postgres: EmbeddedPostgres) -> Path:
    """Return the path of Postgres' Unix socket."""
    from urllib.parse import parse_qs, urlsplit  # noqa: PLC0415

    [directory] = parse_qs(urlsplit(postgres.url()).query)["host"]
    return Path(directory) / ".s.PGSQL.5432"
