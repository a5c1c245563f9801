"""A network takes every byte and passes none on, for ever: each process goes on, on new connections."""

import threading
import time
from collections.abc import Callable, Iterator

import httpx
import psycopg
import pytest

from app.dev.embedded_postgres import EmbeddedPostgres
from tests.faults.proxy import Proxy
from tests.faults.world import socket_of
from tests.support.free_ports import free_port
from tests.support.system import Database, Server, Tenant, Worker
from tests.support.troubles import PROMOTING

pytestmark = pytest.mark.one_postgres

StartWorker = Callable[..., Worker]
StartServer = Callable[..., Server]
ACME = Tenant("acme", "secret")
BACK_WITHIN = 30.0  # seconds after new connections work
FREE_WITHIN = 75.0  # seconds until rows that a dumb session locks are stored
ENDS_WITHIN = 10.0  # seconds: an idle worker allows itself 2 to unregister and 5 to let its sessions go
STORING = f"SELECT count(*) {PROMOTING}"
STORED = "SELECT count(*) FROM ticket_history WHERE inbox_id = {}"


class Network:
    """A Postgres of the test's own behind a network; `database` connects to it directly."""

    def __init__(self, postgres: EmbeddedPostgres, proxy: Proxy, port: int) -> None:
        self.database, self.proxy = Database(postgres.url()), proxy
        self.url = f"postgresql://postgres@127.0.0.1:{port}/postgres"


@pytest.fixture
def network(own_postgres: EmbeddedPostgres) -> Iterator[Network]:
    proxy = Proxy(socket_of(own_postgres))
    with proxy.running() as port:
        yield Network(own_postgres, proxy, port)


def begun(start_worker: StartWorker, network: Network, **settings: str) -> Worker:
    """Start a worker behind the network, and wait until it has promoted something."""
    worker = start_worker(DATABASE_URL=network.url, **settings)
    worker.wait_for_line("worker_started", within=30)
    promotes(network.database, within=10)
    return worker


def promotes(database: Database, within: float) -> None:
    """Deliver one more event, and wait until it is stored."""
    [inbox_id] = database.deliver(ACME.payload())
    database.wait_for(STORED.format(inbox_id), 1, within=within)


@pytest.mark.begins_early
@pytest.mark.long
def test_an_idle_worker_is_back(network: Network, start_worker: StartWorker) -> None:
    """It logs why it waits, and is not ready meanwhile; the sessions that it had stay dumb."""
    port = free_port()
    worker = begun(start_worker, network, WORKER_METRICS_PORT=str(port))
    with network.proxy.swallow():
        worker.wait_for_line("worker_waits", within=20)
        time.sleep(8)
        answer = httpx.get(f"http://127.0.0.1:{port}/health/ready")
        assert answer.status_code == 503, answer.text
        assert httpx.get(f"http://127.0.0.1:{port}/health/live").status_code == 200
    promotes(network.database, BACK_WITHIN)
    assert httpx.get(f"http://127.0.0.1:{port}/health/ready").status_code == 200
    assert worker.stop() == 0


@pytest.mark.begins_early
@pytest.mark.parametrize("jobs", [1, pytest.param(2, marks=pytest.mark.long)])
def test_a_worker_with_jobs_in_hand_is_back(network: Network, start_worker: StartWorker, jobs: int) -> None:
    """Also with one in every slot. What the dumb sessions have locked is stored once Postgres has ended them."""
    database = network.database
    begun(start_worker, network, WORKER_CONCURRENCY="2")
    with psycopg.connect(database.url) as holder:
        holder.execute("LOCK ticket_history IN ACCESS EXCLUSIVE MODE")
        for number in range(jobs):
            database.deliver(*(ACME.payload() for _ in range(20)))
            database.wait_for(STORING, number + 1, within=10)  # before, its job would take the next one over
        with network.proxy.swallow():
            time.sleep(2)
    new_connections_work = time.monotonic()
    promotes(database, BACK_WITHIN)
    left = FREE_WITHIN - (time.monotonic() - new_connections_work)
    database.wait_for("SELECT count(*) FROM inbox WHERE status = 'pending'", 0, within=left)
    assert database.value("SELECT count(*) FROM ticket_history") == 20 * jobs + 2


def test_an_idle_worker_ends_on_sigterm(network: Network, start_worker: StartWorker) -> None:
    worker = begun(start_worker, network)
    # A worker that starts runs the periodic tasks that were missed; it is idle once these are over.
    network.database.wait_for("SELECT least(count(*), 1) FROM procrastinate_periodic_defers", 1, within=10)
    network.database.wait_for("SELECT count(*) FROM procrastinate_jobs", 0, within=10)
    with network.proxy.swallow():
        time.sleep(0.5)
        worker.process.terminate()
        assert worker.process.wait(ENDS_WITHIN) == 0
    assert not worker.lines("worker_ended_late")


@pytest.mark.parametrize("processes", [1, 2])
def test_a_server_answers_503_and_is_back(
    network: Network, start_server: StartServer, secrets_key: str, processes: int
) -> None:
    tenant = network.database.add_tenant(secrets_key)
    server = start_server(processes, DATABASE_URL=network.url)
    server.wait_until_known(tenant)
    assert server.send(tenant).status_code == 202
    with network.proxy.swallow():
        answers: list[int] = []
        senders = [threading.Thread(target=lambda: answers.append(server.send(tenant).status_code)) for _ in range(20)]
        for sender in senders:
            sender.start()
        for sender in senders:
            sender.join()
        assert set(answers) == {503}
    deadline = time.monotonic() + 10
    while server.send(tenant).status_code != 202:
        assert time.monotonic() < deadline
        time.sleep(0.1)
