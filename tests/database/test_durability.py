"""A webhook answered 202 is kept: bursts, kills, and a Postgres that is away, slow, full or restarted."""

import asyncio
import contextlib
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import httpx
import psycopg
import pytest

from app.dev.embedded_postgres import EmbeddedPostgres
from app.webhook import PATH
from app.webhook.keyring import Keyring
from db import engine as engines
from db.tenants import Secrets
from tests.support.system import Database, Server, Tenant, Worker

pytestmark = pytest.mark.one_postgres

StartServer = Callable[..., Server]
StartWorker = Callable[..., Worker]
DOING = "SELECT count(*) FROM procrastinate_jobs WHERE task_name = 'promote' AND status = 'doing'"


@contextlib.contextmanager
def frozen(process_ids: list[int]) -> Iterator[None]:
    """Freeze processes for the block, as on a host that hangs."""
    for process_id in process_ids:
        os.kill(process_id, signal.SIGSTOP)
    try:
        yield
    finally:
        for process_id in process_ids:
            os.kill(process_id, signal.SIGCONT)


def backends(database: Database, of: str = "server") -> list[int]:
    """Return the ids of Postgres' processes for the connections of our server, or of the worker."""
    rows = database.query("SELECT pid FROM pg_stat_activity WHERE application_name = %s", f"ticket-inbox {of}")
    return [row["pid"] for row in rows]


def unavailable(response: httpx.Response) -> bool:
    assert response.status_code in (202, 503), response.text
    if response.status_code == 503:
        assert int(response.headers["retry-after"]) > 0
        assert response.headers["content-type"] == "application/problem+json"
    return response.status_code == 503


def wait_until_accepted(server: Server, tenant: Tenant, within: float = 10.0) -> None:
    deadline = time.monotonic() + within
    while unavailable(server.send(tenant)):
        assert time.monotonic() < deadline, server.text()
        time.sleep(0.05)


def test_a_hundred_at_once_are_stored_within_five_seconds(
    database: Database, secrets_key: str, start_server: StartServer, start_worker: StartWorker
) -> None:
    tenant = database.add_tenant(secrets_key)
    worker, server = start_worker(), start_server()
    started = time.monotonic()
    with ThreadPoolExecutor(100) as pool:
        answers = list(pool.map(lambda number: server.send(tenant, ticket_id=f"t{number}"), range(100)))
    assert [answer.status_code for answer in answers] == [202] * 100
    database.wait_for("SELECT count(*) FROM ticket_history", 100, within=5 - (time.monotonic() - started))
    assert database.value("SELECT count(*) FROM inbox WHERE action = 'inserted' AND attempts = 1") == 100
    assert len({answer.json()["correlation_id"] for answer in answers}) == 100
    lines = worker.wait_for_line("ticket_promoted", 100)
    assert len(lines) == 100
    assert not [line for line in worker.lines() + server.lines() if line["level"] in ("warning", "error", "critical")]


def test_two_workers_at_once_store_the_newest_of_each_ticket(
    database: Database, secrets_key: str, start_server: StartServer, start_worker: StartWorker
) -> None:
    tenant = database.add_tenant(secrets_key)
    server, workers = start_server(), [start_worker(), start_worker()]
    for worker in workers:
        worker.wait_for_line("worker_started")
    events = [(number % 8, f"2026-01-01T00:00:{number * 37 % 60:02}Z") for number in range(240)]
    with ThreadPoolExecutor(16) as pool:
        sent = pool.map(
            lambda one: server.send(tenant, ticket_id=str(one[0]), resolved_date=one[1]).status_code, events
        )
        assert set(sent) == {202}
    # Each job has as many rows as it may hold, so that none takes over another.
    payloads = [tenant.payload(ticket_id=str(ticket), resolved_date=date) for ticket, date in events]
    for _ in range(8):
        database.deliver(*(payloads * 3)[:500])
    database.wait_for("SELECT count(*) FROM inbox WHERE status = 'promoted'", 240 + 8 * 500, within=30)
    newest = {str(ticket): max(date for other, date in events if other == ticket) for ticket in range(8)}
    found = database.query(
        "SELECT ticket_id, to_char(resolved_date AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS\"Z\"') AS d FROM ticket_history"
    )
    assert {row["ticket_id"]: row["d"] for row in found} == newest
    assert database.value("SELECT count(*) FROM inbox WHERE action = 'inserted'") == 8
    assert all(worker.lines("ticket_promoted") for worker in workers), "each worker had a share"


@pytest.mark.parametrize("burst", [1, 40, 200])
def test_a_server_that_is_killed_in_a_burst_breaks_no_promise(
    database: Database, secrets_key: str, start_server: StartServer, burst: int
) -> None:
    """SIGKILL during many requests: every 202 has its row, and every row has its job."""
    tenant = database.add_tenant(secrets_key)
    server = start_server()
    accepted: list[str] = []

    def send_until_it_dies(_: int) -> None:
        with httpx.Client(base_url=server.url, verify=False) as client, contextlib.suppress(httpx.HTTPError):
            while True:
                body = tenant.body()
                answer = client.post(PATH, content=body, headers=tenant.headers(body))
                assert answer.status_code == 202
                accepted.append(answer.json()["correlation_id"])

    with ThreadPoolExecutor(16) as pool:
        sending = [pool.submit(send_until_it_dies, number) for number in range(16)]
        while len(accepted) < burst:
            time.sleep(0.001)
        server.process.kill()
        for one in sending:
            one.result()
    kept = {row["correlation_id"] for row in database.query("SELECT correlation_id FROM inbox")}
    assert set(accepted) <= kept
    without = "SELECT count(*) FROM inbox WHERE NOT EXISTS (SELECT FROM procrastinate_jobs WHERE args->'inbox_ids' @> to_jsonb(inbox.id))"
    assert database.value(without) == 0


def test_a_server_finishes_its_answers_on_sigterm(
    database: Database, secrets_key: str, start_server: StartServer
) -> None:
    """SIGTERM while ten webhooks wait for Postgres: the server answers each 202, and exits with 0."""
    tenant = database.add_tenant(secrets_key)
    server = start_server()
    with ThreadPoolExecutor(10) as pool:
        with psycopg.connect(database.url) as holder:
            holder.execute("LOCK inbox IN ACCESS EXCLUSIVE MODE")
            waiting = [pool.submit(server.send, tenant) for _ in range(10)]
            time.sleep(0.5)
            server.process.terminate()
            time.sleep(0.5)
            assert server.process.poll() is None
        assert [one.result().status_code for one in waiting] == [202] * 10
    assert server.process.wait(10) == 0
    assert database.value("SELECT count(*) FROM inbox") == 10


def test_a_worker_finishes_its_jobs_on_sigterm(
    database: Database, secrets_key: str, start_server: StartServer, start_worker: StartWorker
) -> None:
    tenant = database.add_tenant(secrets_key)
    server, worker = start_server(), start_worker()
    assert server.send(tenant).status_code == 202
    database.wait_for("SELECT count(*) FROM ticket_history", 1, within=10)
    with psycopg.connect(database.url) as holder:
        holder.execute("LOCK ticket_history IN ACCESS EXCLUSIVE MODE")
        assert server.send(tenant).status_code == 202
        database.wait_for(DOING, 1, within=5)
        worker.process.terminate()
        time.sleep(0.5)
        assert worker.process.poll() is None
    assert worker.process.wait(10) == 0
    assert database.value("SELECT count(*) FROM inbox WHERE status = 'promoted'") == 2


@pytest.mark.parametrize("is_idle", [True, False], ids=["idle", "with a job in hand"])
def test_a_worker_on_sigterm_does_not_wait_for_a_postgres_that_never_answers(
    own_postgres: EmbeddedPostgres, start_worker: StartWorker, *, is_idle: bool
) -> None:
    """An idle one has nothing to finish, and ends at once; one with a job cannot finish it, and says so."""
    database = Database(own_postgres.url())
    worker = start_worker(DATABASE_URL=database.url, SHUTDOWN_TIMEOUT_SECONDS="3")
    worker.wait_for_line("worker_started")
    # A worker that starts runs the periodic tasks that were missed.
    database.wait_for("SELECT least(count(*), 1) FROM procrastinate_periodic_defers", 1, within=10)
    database.wait_for("SELECT count(*) FROM procrastinate_jobs", 0, within=10)
    with psycopg.connect(database.url) as holder:
        if not is_idle:
            holder.execute("LOCK ticket_history IN ACCESS EXCLUSIVE MODE")
            database.deliver(Tenant("acme", "secret").payload())
            database.wait_for(DOING, 1, within=5)
        with frozen([own_postgres.process_id, *backends(database, "worker")]):
            worker.process.terminate()
            # An idle one allows itself 2 s to unregister and 5 to let its sessions go.
            assert worker.process.wait(10 if is_idle else 20) == int(not is_idle)
    assert len(worker.lines("worker_ended_late")) == int(not is_idle)
    if is_idle:
        database.deliver(Tenant("acme", "secret").payload())
    start_worker(DATABASE_URL=database.url)
    database.wait_for("SELECT count(*) FROM ticket_history", 1, within=40)


def test_a_server_on_sigterm_does_not_wait_for_a_postgres_that_never_answers(
    database: Database, secrets_key: str, start_server: StartServer
) -> None:
    tenant = database.add_tenant(secrets_key)
    server = start_server(SHUTDOWN_TIMEOUT_SECONDS="1", APPEND_TIMEOUT_SECONDS="1")
    assert server.send(tenant).status_code == 202
    with frozen(backends(database)):
        assert server.send(tenant).status_code == 503
        server.process.terminate()
        server.process.wait(25)


class ObservedKeyring(Keyring):
    """The server's keyring, which sets an event when it has read the tenants."""

    read: asyncio.Event

    async def refresh(self) -> None:
        await super().refresh()
        self.read.set()


def test_reading_the_tenants_ends_with_the_server_also_when_it_has_just_read_them(
    database: Database, secrets_key: str
) -> None:
    """Python 3.11's wait_for loses a cancellation at that moment, and the server used to wait for ever."""

    async def read_and_stop() -> bool:
        keyring = ObservedKeyring(engine := engines.create_engine(database.url, "test", 1, 30.0), Secrets(secrets_key))
        keyring.read = asyncio.Event()
        async with asyncio.timeout(10) as limit, keyring.kept_fresh():
            keyring.read.clear()
            await keyring.read.wait()
        await engine.dispose()
        return limit.expired()

    assert not asyncio.run(read_and_stop())


def test_503_while_postgres_is_slow_and_202_again_after(
    database: Database, secrets_key: str, start_server: StartServer
) -> None:
    """Another session holds the table past the time limit; an event answered 503 may still be kept, but whole."""
    tenant = database.add_tenant(secrets_key)
    server = start_server(APPEND_TIMEOUT_SECONDS="0.5")
    with psycopg.connect(database.url) as holder:
        holder.execute("LOCK inbox IN ACCESS EXCLUSIVE MODE")
        started = time.monotonic()
        assert unavailable(server.send(tenant))
        assert time.monotonic() - started < 3
    wait_until_accepted(server, tenant)
    [line] = [line for line in server.lines("webhook_answered") if line["status"] == 503][:1]
    assert line["level"] == "error"


def test_503_at_once_when_too_many_wait(database: Database, secrets_key: str, start_server: StartServer) -> None:
    tenant = database.add_tenant(secrets_key)
    server = start_server(APPEND_QUEUE="4", APPEND_TIMEOUT_SECONDS="10")
    with ThreadPoolExecutor(4) as pool:
        with psycopg.connect(database.url) as holder:
            holder.execute("LOCK inbox IN ACCESS EXCLUSIVE MODE")
            waiting = [pool.submit(server.send, tenant) for _ in range(4)]
            time.sleep(0.5)
            started = time.monotonic()
            refused = server.send(tenant)
            assert unavailable(refused)
            assert "Too many" in refused.json()["detail"]
            assert time.monotonic() - started < 5  # and not the 10 s that those before it may wait
        assert [one.result().status_code for one in waiting] == [202] * 4


def test_503_while_postgres_hangs_and_202_again_after(
    own_postgres: EmbeddedPostgres, secrets_key: str, start_server: StartServer
) -> None:
    """It answers on no connection, old or new, and closes none, as on a host that hangs."""
    database = Database(own_postgres.url())
    tenant = database.add_tenant(secrets_key)
    server = start_server(DATABASE_URL=database.url, APPEND_TIMEOUT_SECONDS="0.5", SERVER_CONNECTIONS="3")
    wait_until_accepted(server, tenant)
    with frozen([own_postgres.process_id, *backends(database)]), ThreadPoolExecutor(6) as pool:
        started = time.monotonic()
        assert all(list(pool.map(lambda _: unavailable(server.send(tenant)), range(12))))
        assert time.monotonic() - started < 5
    wait_until_accepted(server, tenant)


def test_one_session_that_hangs_does_not_hold_up_the_others(
    database: Database, secrets_key: str, start_server: StartServer
) -> None:
    tenant = database.add_tenant(secrets_key)
    server = start_server(APPEND_TIMEOUT_SECONDS="0.5", SERVER_CONNECTIONS="3")
    wait_until_accepted(server, tenant)
    with frozen(backends(database)[:1]):
        answers = [unavailable(server.send(tenant)) for _ in range(10)]
    assert answers.count(True) <= 2


def test_a_server_comes_back_after_postgres_did(
    own_postgres: EmbeddedPostgres, secrets_key: str, start_server: StartServer
) -> None:
    """It starts without Postgres, never answers 401 for that, and serves within 10 s of Postgres' start, every time."""
    database = Database(own_postgres.url())
    tenant = database.add_tenant(secrets_key)
    own_postgres.stop()
    server = start_server(DATABASE_URL=database.url, APPEND_TIMEOUT_SECONDS="1")
    assert unavailable(server.send(tenant))
    assert server.client.get("/health/live").status_code == 200
    ready = server.client.get("/health/ready")
    assert ready.status_code == 503
    assert "Postgres cannot be reached" in ready.json()["detail"]

    for how in (signal.SIGINT, signal.SIGQUIT, signal.SIGKILL):
        own_postgres.start()
        wait_until_accepted(server, tenant)
        assert server.client.get("/health/ready").status_code == 200
        own_postgres.stop(how)
        assert unavailable(server.send(tenant))
    own_postgres.start()
    wait_until_accepted(server, tenant)


def test_503_when_postgres_has_no_connection_left(
    own_postgres: EmbeddedPostgres, secrets_key: str, start_server: StartServer
) -> None:
    database = Database(own_postgres.url())
    tenant = database.add_tenant(secrets_key)
    with contextlib.ExitStack() as stack:
        server = start_server(DATABASE_URL=database.url, APPEND_TIMEOUT_SECONDS="1")
        database.query(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name LIKE 'ticket-inbox%%'", *()
        )
        with contextlib.suppress(psycopg.OperationalError):
            while True:
                stack.enter_context(psycopg.connect(database.url))
        assert unavailable(server.send(tenant))
    wait_until_accepted(server, tenant)


def test_sessions_that_are_killed_cost_a_retry_at_most(
    database: Database, secrets_key: str, start_server: StartServer
) -> None:
    tenant = database.add_tenant(secrets_key)
    server = start_server()
    stop = threading.Event()

    def kill_sessions() -> None:
        while not stop.wait(0.05):
            for process_id in backends(database):
                database.query("SELECT pg_terminate_backend(%s)", process_id)

    killer = threading.Thread(target=kill_sessions)
    killer.start()
    try:
        answers = [(server.send(tenant, ticket_id=str(number))).status_code for number in range(100)]
    finally:
        stop.set()
        killer.join()
    assert set(answers) <= {202, 503}
    assert answers.count(202) > 20
    wait_until_accepted(server, tenant)
    for number, status in enumerate(answers):
        kept = database.value("SELECT count(*) FROM inbox WHERE ticket_id = %s", str(number))
        assert kept == 1 if status == 202 else kept in (0, 1)
