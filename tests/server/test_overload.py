"""More webhooks than there is room for: refused at once, cheaply and by fair share; what was accepted is stored."""

import asyncio
import contextlib
import re
import socket
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from urllib.parse import urlsplit

import httpx
import psycopg
import pytest
import uvloop

from app.server import ports
from app.server.refusal_log import EACH
from app.webhook import PATH
from app.webhook.admission import CALM, FALL, LEAST, PERIOD, TARGET, Admission
from tests.support.system import JSON, Database, Server, Tenant, Worker

pytestmark = pytest.mark.one_postgres

PLACES = 20


@pytest.fixture
def noisy(database: Database, secrets_key: str) -> Tenant:
    return database.add_tenant(secrets_key)


@pytest.fixture
def quiet(database: Database, secrets_key: str) -> Tenant:
    return database.add_tenant(secrets_key)


@pytest.fixture
def small(start_server: Callable[..., Server], noisy: Tenant, quiet: Tenant) -> Server:
    """A server with few places in its queue."""
    server = start_server(APPEND_QUEUE=str(PLACES), APPEND_TIMEOUT_SECONDS="20")
    for tenant in (noisy, quiet):
        server.wait_until_known(tenant)
    return server


@contextlib.contextmanager
def held_up(database: Database) -> Iterator[None]:
    """Lock the inbox, so that Postgres appends nothing until the block ends."""
    with psycopg.connect(database.url) as holder:
        holder.execute("LOCK inbox IN ACCESS EXCLUSIVE MODE")
        yield


@contextlib.asynccontextmanager
async def sending(server: Server) -> AsyncIterator[Callable[[Tenant, int], list[asyncio.Task[httpx.Response]]]]:
    """Yield a function that sends a number of a tenant's webhooks at once."""
    limits = httpx.Limits(max_connections=None)
    async with httpx.AsyncClient(base_url=server.url, timeout=30, limits=limits) as client:

        async def send(tenant: Tenant) -> httpx.Response:
            body = tenant.body()
            return await client.post(PATH, content=body, headers=tenant.headers(body))

        yield lambda tenant, count: [asyncio.create_task(send(tenant)) for _ in range(count)]


async def answered(tasks: list[asyncio.Task[httpx.Response]], count: int) -> list[httpx.Response]:
    """Wait until `count` of the webhooks are answered, and return those answers."""
    async with asyncio.timeout(10):
        while sum(task.done() for task in tasks) < count:  # noqa: ASYNC110  (whichever are answered first)
            await asyncio.sleep(0.01)
    return [task.result() for task in tasks if task.done()]


def test_what_finds_no_room_is_refused_at_once_and_what_was_accepted_is_stored(
    small: Server, noisy: Tenant, database: Database, start_worker: Callable[..., Worker]
) -> None:
    """Each refusal has its problem, its correlation id, its log line and its count, and the connection stays open."""

    async def run() -> list[httpx.Response]:
        async with sending(small) as send:
            with held_up(database):
                tasks = send(noisy, PLACES + 80)
                refused = await answered(tasks, 80)
                assert {one.status_code for one in refused} == {503}
                assert all(int(one.headers["retry-after"]) > 0 for one in refused)
                assert {one.json()["type"] for one in refused} == {"urn:ticket-inbox:problem:unavailable"}
                assert all(one.json()["correlation_id"] == one.headers["x-correlation-id"] for one in refused)
                again = await answered(send(noisy, 5), 5)
                assert {one.status_code for one in again} == {503}
            return await asyncio.gather(*tasks)

    statuses = Counter(one.status_code for one in asyncio.run(run()))
    assert statuses == {202: PLACES, 503: 80}
    start_worker()
    database.wait_for("SELECT count(*) FROM ticket_history", PLACES, within=10)
    lines = [line for line in small.lines("webhook_answered") if line["status"] in {202, 503}]
    assert Counter(line["status"] for line in lines) == {202: PLACES, 503: 85}
    assert {line["tenant_id"] for line in lines} == {noisy.id}
    assert len({line["correlation_id"] for line in lines}) == PLACES + 85
    counted = re.findall(r'webhooks_total{outcome="unavailable".*} (.*)', small.client.get("/metrics").text)
    assert sum(map(float, counted)) == 85


def test_of_many_refusals_the_first_leave_a_line_each_and_the_rest_one_together(
    start_server: Callable[..., Server], noisy: Tenant, database: Database
) -> None:
    """Every refusal is in some log line, is counted, and has its answer."""
    server = start_server(APPEND_QUEUE="1", APPEND_TIMEOUT_SECONDS="20")
    server.wait_until_known(noisy)

    async def run() -> list[httpx.Response]:
        async with sending(server) as send:
            return await asyncio.gather(*send(noisy, 3 * EACH))

    with held_up(database), filled(server, noisy, 1):
        refused = asyncio.run(run())
    assert len({one.headers["x-correlation-id"] for one in refused}) == 3 * EACH
    server.wait_for_line("webhooks_refused")
    logged = [line for line in server.lines("webhook_answered") if line["status"] == 503]
    rest = sum(line["count"] for line in server.lines("webhooks_refused"))
    assert len(logged) >= EACH
    assert len(logged) + rest == 3 * EACH + 1  # + 1: the refusal by which `filled` saw that the queue was full
    assert all(line["tenants"] == {noisy.id: line["count"]} for line in server.lines("webhooks_refused"))
    counted = re.findall(r'webhooks_total{outcome="unavailable".*} (.*)', server.client.get("/metrics").text)
    assert sum(map(float, counted)) == 3 * EACH + 1


def test_a_refusal_costs_no_signature_and_reads_what_it_was_sent(
    small: Server, noisy: Tenant, database: Database
) -> None:
    """A request that needs no room, or that the server cannot refuse by its head alone, gets its usual answer."""
    with held_up(database), filled(small, noisy):
        unsigned = small.post(noisy.body(), {**JSON, "X-ServiceDesk-Signature": "nonsense"})
        assert unsigned.status_code == 503
        sent = noisy.body(resolution="x" * 100_000)
        assert small.post(sent, noisy.headers(sent)).status_code == 503
        chunked = noisy.body()
        headers = noisy.headers(chunked)
        assert small.client.post(PATH, content=iter([chunked[:9], chunked[9:]]), headers=headers).status_code == 503
        assert small.client.post(PATH, content=chunked, headers={**headers, "Expect": "100-continue"}).status_code == 503  # fmt: skip
        assert small.client.post(PATH, content=b"{", headers=JSON).status_code == 400
        assert small.client.get(PATH).status_code == 405
        assert small.client.get("/health/live").status_code == 200
        closed = small.client.post(PATH, content=chunked, headers={**headers, "Connection": "close"})
        assert (closed.status_code, closed.headers["connection"]) == (503, "close")


def test_a_pipelined_webhook_is_refused_after_the_one_before_it_was_answered(
    small: Server, noisy: Tenant, database: Database
) -> None:
    with socket.create_connection(address(small)) as raw:
        raw.settimeout(10)
        with held_up(database):
            raw.sendall(request(noisy))
            with filled(small, noisy, PLACES - 1):
                raw.sendall(request(noisy))
        received = b""
        while received.count(b"HTTP/1.1 ") < 2 or not received.endswith(b"}"):
            received += raw.recv(65536)
    assert received.startswith(b"HTTP/1.1 202")


def test_a_tenant_that_fills_the_queue_does_not_keep_the_others_out(
    small: Server, noisy: Tenant, quiet: Tenant, database: Database
) -> None:
    """A tenant that comes to a full queue gets its share of it, and no more."""

    async def run() -> tuple[list[httpx.Response], ...]:
        async with sending(small) as send:
            with held_up(database):
                theirs = send(noisy, 3 * PLACES)
                await answered(theirs, 2 * PLACES)
                ours = send(quiet, PLACES)
                await answered(ours, PLACES // 2)
            return await asyncio.gather(*theirs), await asyncio.gather(*ours)

    theirs, ours = asyncio.run(run())
    assert Counter(one.status_code for one in theirs) == {202: PLACES, 503: 2 * PLACES}
    assert Counter(one.status_code for one in ours) == {202: PLACES // 2, 503: PLACES // 2}


def test_a_queue_that_makes_all_wait_grows_shorter_and_one_stall_does_not() -> None:
    admission = crowded_admission(1000)

    def learn(waited: float, now: float) -> int:
        assert not admission.has_place("a", 1)
        admission.limit.learn(500, waited, now)
        return int(admission.limit.rows)

    assert learn(TARGET / 2, 0) == 1000
    once = learn(5.0, 5.0)
    assert once == 1000 * FALL
    assert {learn(2 * TARGET, 5.0 + number * PERIOD / 10) for number in range(1, 10)} == {
        once
    }  # however long the stall
    assert [learn(2 * TARGET, 6.0 + number) for number in range(100)][-1] == LEAST
    assert LEAST < learn(TARGET / 2, 200) < 1000
    assert [learn(TARGET / 2, 200 + number) for number in range(100)][-1] == 1000


def test_some_time_after_an_overload_the_next_burst_finds_all_of_the_room() -> None:
    admission = crowded_admission(1000)
    for number in range(10):
        admission.has_place("a", 1)
        admission.limit.learn(500, 5.0, float(number))
    assert admission.limit.rows == LEAST
    admission.limit.learn(1, TARGET / 2, 9.0 + CALM - 0.1)
    assert admission.limit.rows < 2 * LEAST
    admission.limit.learn(1, TARGET / 2, 9.0 + CALM + 0.1)
    assert admission.limit.rows == 1000


def crowded_admission(rows: int) -> Admission:
    admission = Admission(rows, 10**9)
    for _ in range(2 * rows):
        admission.enter("a", 1)
    return admission


def test_however_many_tenants_come_the_queue_ends() -> None:
    admission = Admission(100, 10**9)
    taken = 0
    for tenant in range(500):
        while admission.has_place(str(tenant), 1):
            admission.enter(str(tenant), 1)
            taken += 1
    assert 100 < taken <= 200
    assert not any(admission.has_place(str(tenant), 1) for tenant in range(1000))


def test_a_turn_of_a_busy_loop_takes_in_many_connections() -> None:
    """Uvloop accepts one connection a turn from each socket: behind 1,000 busy ones a burst waited for seconds."""

    async def taken_in_a_turn(sockets: list[socket.socket]) -> int:
        loop, first, taken = asyncio.get_running_loop(), asyncio.Event(), list[asyncio.BaseTransport]()

        class Taken(asyncio.Protocol):
            def connection_made(self, transport: asyncio.BaseTransport) -> None:
                taken.append(transport)
                first.set()

        async with contextlib.AsyncExitStack() as stack:
            for one in sockets:
                await stack.enter_async_context(await loop.create_server(Taken, sock=one))
            burst = [stack.enter_context(socket.create_connection(sockets[0].getsockname())) for _ in range(100)]
            await first.wait()
            count = len(taken)
            while len(taken) < len(burst):  # noqa: ASYNC110  (all of them)
                await asyncio.sleep(0.01)
            for transport in taken:
                transport.close()
        return count

    bound = ports.listen("127.0.0.1", 0)
    assert uvloop.run(taken_in_a_turn(ports.as_many(bound))) >= ports.TAKEN_A_TURN


def address(server: Server) -> tuple[str, int]:
    parts = urlsplit(server.url)
    return parts.hostname or "", parts.port or 0


def request(tenant: Tenant) -> bytes:
    body = tenant.body()
    head = "".join(f"{name}: {value}\r\n" for name, value in tenant.headers(body).items())
    return f"POST {PATH} HTTP/1.1\r\nHost: here\r\nContent-Length: {len(body)}\r\n{head}\r\n".encode() + body


@contextlib.contextmanager
def filled(server: Server, tenant: Tenant, places: int = PLACES) -> Iterator[None]:
    """Fill `places` places, and wait until the server refuses one more."""
    with contextlib.ExitStack() as stack:
        for _ in range(places):
            stack.enter_context(socket.create_connection(address(server))).sendall(request(tenant))
        deadline = time.monotonic() + 10
        while server.post(tenant.body(), {**JSON, "X-ServiceDesk-Signature": "nonsense"}).status_code != 503:
            assert time.monotonic() < deadline
        yield
