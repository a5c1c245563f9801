"""`DATABASE_URL` names several hosts: if one is silent, refuses or is no primary, we connect to the next."""

import socket
from collections.abc import Callable, Iterator

import pytest

from app.dev.embedded_postgres import EmbeddedPostgres
from db import sessions
from db.parameters import complete
from tests.faults.proxy import Proxy
from tests.faults.world import socket_of
from tests.support.system import Database, Server, Worker

pytestmark = pytest.mark.one_postgres


@pytest.fixture
def port(own_postgres: EmbeddedPostgres) -> Iterator[int]:
    """A TCP port of the test's own Postgres."""
    with Proxy(socket_of(own_postgres)).running() as found:
        yield found


@pytest.mark.begins_early
@pytest.mark.parametrize("first", ["silent", "refuses"])
def test_the_first_host_does_not_answer(
    own_postgres: EmbeddedPostgres, port: int, secrets_key: str, first: str,
    start_server: Callable[..., Server], start_worker: Callable[..., Worker],
) -> None:  # fmt: skip
    database = Database(own_postgres.url())
    tenant = database.add_tenant(secrets_key)
    with socket.create_server(("127.0.0.1", 0)) as other:
        if first == "refuses":
            other.close()
        elsewhere = other.getsockname()[1] if first == "silent" else 1
        url = f"postgresql://postgres@127.0.0.1:{elsewhere},127.0.0.1:{port}/postgres?target_session_attrs=read-write&connect_timeout=2"
        server, worker = start_server(DATABASE_URL=url), start_worker(DATABASE_URL=url)
        worker.wait_for_line("worker_started", within=15)
        server.wait_until_known(tenant, within=15)
        assert server.send(tenant).status_code == 202
        database.wait_for("SELECT count(*) FROM ticket_history", 1, within=20)


@pytest.mark.parametrize(
    ("url", "wanted"),
    [
        ("postgresql://u@a,b/x", "read-write"),
        ("postgresql://u@/x?hostaddr=1.2.3.4,5.6.7.8", "read-write"),
        ("postgresql://u@a,b/x?target_session_attrs=any", "any"),
        ("postgresql://u@a/x", "any"),
    ],
)
def test_of_several_hosts_one_that_takes_writes_is_wanted(url: str, wanted: str) -> None:
    assert complete(url)["target_session_attrs"] == wanted


@pytest.mark.parametrize(
    ("url", "hosts"),
    [
        ("postgresql://u@a:1,b:2/x", [("a", 1), ("b", 2)]),
        ("postgresql://u@a,b/x?port=5433", [("a", 5433), ("b", 5433)]),
        ("postgresql://u@a:1,b/x", [("a", 1), ("b", 5432)]),
        ("postgresql://u@a/x", [("a", 5432)]),
        ("postgresql://u@/x?host=%2Ftmp%2Fs", [("/tmp/s", 5432)]),
        ("postgresql://u@[::1]:99/x", [("::1", 99)]),
    ],
)
def test_hosts_are_read_as_libpq_reads_them(url: str, hosts: list[tuple[str, int]]) -> None:
    assert [(host, port) for host, _, port in sessions.hosts_of(complete(url))] == hosts
