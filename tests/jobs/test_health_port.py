"""What a worker answers on WORKER_METRICS_PORT: /health/live, /health/ready and /metrics, by GET and by HEAD."""

import socket
import threading
import time
from collections.abc import Callable, Iterator

import httpx
import psycopg
import pytest

from app.server import ports
from jobs.health_port import HealthPort
from jobs.vital_signs import FRESH, HANGS_AFTER, VitalSigns
from tests.support.free_ports import free_port
from tests.support.scraped_metrics import values
from tests.support.system import Database, Tenant, Worker
from tests.support.troubles import PROMOTING

pytestmark = pytest.mark.one_postgres

AGE = "ticket_inbox_worker_heartbeat_age_seconds"


@pytest.fixture
def signs() -> VitalSigns:
    """The signs of a worker that works."""
    made = VitalSigns(slots=2)
    made.fetched()
    return made


@pytest.fixture
def client(signs: VitalSigns) -> Iterator[httpx.Client]:
    port = HealthPort(ports.listen("127.0.0.1", 0), signs)
    thread = threading.Thread(target=port.serve_forever)
    thread.start()
    with httpx.Client(base_url=f"http://127.0.0.1:{port.server_port}") as client:
        yield client
    port.shutdown()
    thread.join()
    port.server_close()


def test_a_worker_that_works_is_live_and_ready(client: httpx.Client) -> None:
    for what in ("live", "ready"):
        answer = client.get(f"/health/{what}")
        assert (answer.status_code, answer.json()) == (200, {"status": what})
    assert client.get("/metrics").text.startswith("# HELP")
    assert client.get("/health/raedy").status_code == 404


@pytest.mark.parametrize("path", ["/health/live", "/health/ready", "/metrics", "/health/raedy"])
def test_head_answers_as_get_without_a_body(client: httpx.Client, path: str) -> None:
    got, asked = client.get(path), client.head(path)
    assert (asked.status_code, asked.headers["content-type"]) == (got.status_code, got.headers["content-type"])
    assert asked.content == b""


@pytest.mark.parametrize(
    ("what", "wrong", "why"),
    [
        ("ready", "heartbeat", "no heartbeat was written for 1"),
        ("ready", "fetch", "no fetch came back"),
        ("ready", "stopping", "is stopping"),
        ("live", "loop", "the event loop has stood still"),
    ],
)
def test_why_it_is_not(client: httpx.Client, signs: VitalSigns, what: str, wrong: str, why: str) -> None:
    if wrong == "heartbeat":
        signs.beat_at -= FRESH + 1
    elif wrong == "fetch":
        signs.fetched_at -= FRESH + 1
    elif wrong == "stopping":
        signs.is_stopping = True
    else:
        signs.turned_at -= HANGS_AFTER + 1
    answer = client.get(f"/health/{what}")
    assert answer.status_code == 503
    assert answer.headers["content-type"] == "application/problem+json"
    assert why in answer.json()["detail"]


@pytest.mark.skipif(not socket.has_dualstack_ipv6(), reason="there is no IPv6 here")
def test_ipv6s_any_address_takes_ipv4_too(signs: VitalSigns) -> None:
    port = HealthPort(ports.listen("::", 0), signs)
    thread = threading.Thread(target=port.serve_forever)
    thread.start()
    try:
        for address in ("127.0.0.1", "[::1]"):
            assert httpx.get(f"http://{address}:{port.server_port}/health/live").status_code == 200
    finally:
        port.shutdown()
        thread.join()
        port.server_close()


@pytest.mark.begins_early
def test_a_worker_with_a_job_in_every_slot_is_ready_and_a_stopping_one_is_not(
    database: Database, start_worker: Callable[..., Worker]
) -> None:
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    worker = start_worker(WORKER_METRICS_PORT=str(port), WORKER_CONCURRENCY="2")
    worker.wait_for_line("worker_started", within=30)
    with psycopg.connect(database.url) as holder:
        holder.execute("LOCK ticket_history IN ACCESS EXCLUSIVE MODE")
        for number in (1, 2):
            database.deliver(Tenant("acme", "secret").payload())
            database.wait_for(
                f"SELECT count(*) {PROMOTING}", number, within=10
            )  # before, its job would take the next one over
        time.sleep(FRESH + 2)  # it fetches nothing meanwhile
        answer = httpx.get(f"{url}/health/ready")
        assert answer.status_code == 200, answer.text
        assert values(httpx.get(f"{url}/metrics").text)[AGE, ()] < FRESH
        worker.process.terminate()
        deadline = time.monotonic() + 5
        while httpx.get(f"{url}/health/ready").status_code != 503:
            assert time.monotonic() < deadline
            time.sleep(0.05)
        assert httpx.get(f"{url}/health/live").status_code == 200
    assert worker.process.wait(20) == 0
