"""The primary dies for good and its synchronous standby takes over: every webhook answered 202 is there."""

import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from app.dev.embedded_postgres import EmbeddedPostgres
from db import schema
from tests.faults import checker
from tests.faults.proxy import Proxy
from tests.faults.traffic import Senders
from tests.faults.world import World, socket_of
from tests.support.system import Database

pytestmark = pytest.mark.one_postgres


class Standby(EmbeddedPostgres):
    """A Postgres that is copied from a primary, and follows it until it is promoted."""

    def __init__(self, directory: Path, binaries: Path, primary: EmbeddedPostgres) -> None:
        super().__init__(directory, binaries)
        self._source = socket_of(primary).parent

    def _init(self) -> None:
        subprocess.run(
            [self._binaries / "pg_basebackup", "-D", self._data, "-h", self._source, "-U", "postgres", "-R", "-c", "fast"],
            check=True, stderr=subprocess.DEVNULL, **self._identity(),
        )  # fmt: skip
        (self._data / ".s.PGSQL.5432.lock").unlink()  # the copied data include the primary's socket


@contextmanager
def waited_for(primary: EmbeddedPostgres, standby: Standby) -> Iterator[None]:
    """Run a synchronous standby, for which the primary waits at each commit."""
    standby.start()
    try:
        database = Database(primary.url())
        database.query("ALTER SYSTEM SET synchronous_standby_names = '*'")
        database.query("SELECT pg_reload_conf()")
        database.wait_for("SELECT count(*) FROM pg_stat_replication WHERE sync_state = 'sync'", 1, within=20)
        yield
    finally:
        standby.stop(signal.SIGQUIT)


@pytest.mark.begins_early
def test_a_standby_is_promoted_while_the_primary_dies(binaries: Path, tmp_path: Path) -> None:
    with tempfile.TemporaryDirectory(prefix="ticket-inbox-", ignore_cleanup_errors=True) as root:
        primary = EmbeddedPostgres(Path(root) / "a", binaries)
        primary.start()
        schema.upgrade(primary.url())
        try:
            standby = Standby(Path(root) / "b", binaries, primary)
            with waited_for(primary, standby):
                one, other = Proxy(socket_of(primary)), Proxy(socket_of(standby))
                with one.running() as port, other.running() as port_of_other:
                    hosts = f"127.0.0.1:{port},127.0.0.1:{port_of_other}"
                    url = f"postgresql://postgres@{hosts}/postgres?target_session_attrs=read-write&connect_timeout=2"
                    fail_over(World(primary, one, tmp_path), url, standby)
        finally:
            primary.stop(signal.SIGQUIT)


def wait_until_accepted(senders: Senders, count: int) -> None:
    """Wait until so many webhooks were answered 202, however long that takes on a busy machine."""
    deadline = time.monotonic() + 30
    while sum(one.status == 202 for one in senders.sent) < count:
        assert time.monotonic() < deadline
        time.sleep(0.05)


def fail_over(made: World, url: str, standby: EmbeddedPostgres) -> None:
    made.tenants = [made.database.add_tenant(made.secrets_key, "acme")]
    try:
        for command in ("serve", "serve", "worker", "worker"):
            made.add(command, url, len(made.parts))
        made.wait_until_ready()
        senders = Senders([server.url for server in made.servers], made.tenants, seed=3, count=8, rate=100)
        senders.start()
        wait_until_accepted(senders, 60)
        made.postgres.stop(signal.SIGKILL)
        made.database = Database(standby.url())
        made.database.query("SELECT pg_promote()")
        promoted = time.monotonic()
        while senders.last_accepted() < promoted:
            assert time.monotonic() < promoted + checker.ACCEPTS_WITHIN
            time.sleep(0.05)
        time.sleep(3)
        senders.stop()
        assert sum(one.status == 202 and one.began < promoted for one in senders.sent) >= 60
        assert not [*checker.wait_until_drained(made), *checker.broken_promises(senders.sent, made.database)]
    finally:
        for part in made.parts:
            part.end()
