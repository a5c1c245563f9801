"""A peer that ends its side of the connection after its request gets its answer, then the connection ends."""

import socket
import time
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlsplit

import psycopg
import pytest

from tests.support.raw_http import PROBLEM, Wire, head
from tests.support.system import Database, Server, Tenant

pytestmark = pytest.mark.one_postgres

LIVE = b"GET /health/live HTTP/1.1\r\nHost: x\r\n\r\n"


@pytest.fixture(params=["uvloop", "asyncio"])
def either(
    request: pytest.FixtureRequest, start_server: Callable[..., Server], tmp_path: Path, tenant_of_both: Tenant
) -> Server:
    """A server on each of the loops that uvicorn takes: the second where uvloop is not installed."""
    (tmp_path / "uvloop.py").write_text("raise ImportError")
    server = start_server(**({"PYTHONPATH": str(tmp_path)} if request.param == "asyncio" else {}))
    server.wait_until_known(tenant_of_both)
    return server


@pytest.fixture
def tenant_of_both(database: Database, secrets_key: str) -> Tenant:
    return database.add_tenant(secrets_key)


def end(wire: Wire) -> None:
    wire.socket.shutdown(socket.SHUT_WR)


def kept_open(server: Server) -> int:
    """Return how many connections the server holds open although their peers have closed them."""
    port, close_wait = f":{urlsplit(server.url).port:04X}", "08"
    rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    return sum(1 for _, local, _, state, *_ in rows if local.endswith(port) and state == close_wait)


def test_whole_requests_are_answered_and_the_rest_is_refused(
    either: Server, tenant_of_both: Tenant, database: Database
) -> None:
    """One request, several at once, one that Postgres holds up, half a body, half a head, and nothing."""
    tenant, body = tenant_of_both, tenant_of_both.body()
    webhook = head(tenant, body) + body
    for sent, statuses in [
        (LIVE, [200]),
        (webhook, [202]),
        (webhook + LIVE + webhook + LIVE, [202, 200, 202, 200]),
        (LIVE.replace(b"GET", b"OPTIONS").replace(b"/health/live", b"/") + LIVE, [204, 200]),
        (webhook[:-1], [400]),
        (webhook + webhook[:-1], [202, 400]),
        (webhook + LIVE[:-2], [202, 400]),
        (webhook + b"NONSENSE\r\n\r\n", [202, 400]),
        (head(tenant, body, "Expect: 100-continue"), [400]),
        (LIVE + b"\r\n", [200]),
        (b"", []),
        (b"\r\n", []),
    ]:
        with Wire.to(either) as wire:
            wire.send(sent)
            end(wire)
            answers = [wire.answer() for _ in statuses]
            assert [one.status for one in answers] == statuses, sent
            assert all(one.headers["content-type"] == PROBLEM for one in answers if one.status == 400)
            assert wire.is_closed()
    with psycopg.connect(database.url) as holder, Wire.to(either) as wire:
        holder.execute("LOCK inbox IN ACCESS EXCLUSIVE MODE")
        wire.send(webhook + LIVE)
        end(wire)
        time.sleep(0.3)
        holder.rollback()
        assert [wire.answer().status, wire.answer().status] == [202, 200]
        assert wire.is_closed()
    deadline = time.monotonic() + 10
    while kept_open(either):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    assert not [line for line in either.lines() if "traceback" in line or line.get("status") == 500]


def test_the_end_may_come_later_than_the_answer_or_in_the_middle_of_it(either: Server, tenant_of_both: Tenant) -> None:
    with Wire.to(either) as idle, Wire.to(either) as slow:
        idle.send(LIVE)
        assert idle.answer().status == 200
        began = time.monotonic()
        end(idle)
        assert idle.is_closed()
        assert time.monotonic() - began < 5  # not the time that an idle connection has
        body = tenant_of_both.body()
        slow.send(head(tenant_of_both, body) + body[:9])
        time.sleep(0.2)
        slow.send(body[9:])
        end(slow)
        assert slow.answer().status == 202
        assert slow.is_closed()
    assert not [line for line in either.lines() if "traceback" in line]
