"""Limits of requests: how long they may take, how large they may be, on how many connections, and where one ends."""

import contextlib
import json
import signal
import time
from collections.abc import Callable, Iterator

import psycopg
import pytest

from app.webhook import PATH
from tests.conftest import clean_environment
from tests.support.raw_http import PROBLEM, Answer, Wire, chunked, head
from tests.support.system import Database, Server, Tenant, running_server

pytestmark = pytest.mark.one_postgres

LIMITS = {
    "REQUEST_TIMEOUT_SECONDS": "1",
    "IDLE_TIMEOUT_SECONDS": "1",
    "MAX_CONNECTIONS": "40",
    "SHUTDOWN_TIMEOUT_SECONDS": "4",
}
LIVE = b"GET /health/live HTTP/1.1\r\nHost: x\r\n\r\n"


@pytest.fixture(scope="module")
def strict(
    module_database: Database, tenants: Iterator[Tenant], secrets_key: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Server]:
    """A server with short time limits and few connections."""
    assert tenants
    env = clean_environment(DATABASE_URL=module_database.url, SECRETS_KEY=secrets_key, PORT="0", **LIMITS)
    with running_server(env, tmp_path_factory.mktemp("strict") / "log") as running:
        yield running


@pytest.fixture(autouse=True)
def nothing_unforeseen(server: Server, strict: Server) -> Iterator[None]:
    """Whatever a test sends, the log has no traceback, no status 500, and no line that is not ours."""
    yield
    for one in (server, strict):
        assert one.process.poll() is None
        lines = one.lines()
        assert not [line for line in lines if "traceback" in line or line.get("status") == 500]
        assert {line["event"] for line in lines} <= {
            "listening", "webhook_answered", "request_refused", "connections_dropped",
        }  # fmt: skip


def problem(answer: Answer, status: int) -> None:
    """Check that an answer is a problem, and the last on its connection."""
    assert (answer.status, answer.headers["content-type"]) == (status, PROBLEM), answer
    reported = json.loads(answer.body)
    assert (reported["status"], reported["correlation_id"]) == (status, answer.headers["x-correlation-id"])
    assert answer.headers["connection"] == "close"


def kept(database: Database, tenant: Tenant) -> int:
    return int(database.value("SELECT count(*) FROM inbox WHERE tenant_id = %s", tenant.id))


def test_half_a_head_is_closed_in_time(strict: Server) -> None:
    with Wire.to(strict) as wire:
        began = time.monotonic()
        with contextlib.suppress(ConnectionError):
            for byte in LIVE[:15]:  # sending byte by byte gains no time
                wire.send(bytes([byte]))
                time.sleep(0.1)
        assert wire.is_closed()
        assert time.monotonic() - began < 5
    assert strict.wait_for_line("connections_dropped")


def test_a_connection_that_says_nothing_or_line_ends_is_closed(strict: Server) -> None:
    with contextlib.ExitStack() as stack:
        wires = []
        for said in (b"", b"\r\n\r\n", LIVE, LIVE + b"\r\n"):
            wires.append(stack.enter_context(Wire.to(strict)))
            wires[-1].send(said)
        for wire in wires[2:]:
            assert wire.answer().status == 200
            wire.send(b"\r\n")
        assert all(wire.is_closed() for wire in wires)


def test_half_a_body_is_answered_408(strict: Server, tenant: Tenant) -> None:
    """The answer has the sender's correlation id, the log has its one line, and the server closes the connection."""
    body = tenant.body()
    with Wire.to(strict) as wire:
        wire.send(head(tenant, body, f"X-Correlation-ID: slow-{tenant.id}") + body[:-1])
        answer = wire.answer()
        problem(answer, 408)
        assert answer.headers["x-correlation-id"] == f"slow-{tenant.id}"
        wire.send(body[-1:] + LIVE)  # too late, and no next request either
        assert wire.is_closed()
    [line] = strict.wait_for_line("webhook_answered", correlation_id=f"slow-{tenant.id}")
    assert line["status"] == 408


def test_chunks_without_end_are_answered_413(server: Server, tenant: Tenant) -> None:
    with Wire.to(server) as wire, contextlib.suppress(ConnectionError):
        wire.send(head(tenant, b"", "Transfer-Encoding: chunked", length=False))
        for _ in range(40):
            wire.send(b"10000\r\n" + 65536 * b" " + b"\r\n")
        problem(wire.answer(), 413)
        assert wire.is_closed()


def test_a_chunk_extension_or_a_trailer_without_end_is_answered(server: Server, tenant: Tenant) -> None:
    """They are not part of the body, so the body's limit does not stop them."""
    for begun in (b"1;", b"0\r\nX: "):
        with Wire.to(server) as wire:
            wire.send(head(tenant, b"", "Transfer-Encoding: chunked", length=False) + begun)
            with contextlib.suppress(ConnectionError):
                for _ in range(200):
                    wire.send(65536 * b"x")
            problem(wire.answer(), 413)


def test_a_head_is_431_from_its_limit_on(server: Server) -> None:
    """One long header, many short ones or a long path; whole, in parts or without end."""
    short = b"GET /health/live HTTP/1.1\r\nHost: x\r\n"
    many, one = b"".join(b"a%d: b\r\n" % number for number in range(10_000)), b"X: " + 70_000 * b"x" + b"\r\n"
    for sent in (short + one + b"\r\n", short + many + b"\r\n", b"GET /" + 70_000 * b"x" + b" HTTP/1.1\r\n\r\n",
                 short + 10 * one, short + b"X: " + 1024 * 1024 * b"x"):  # fmt: skip
        with Wire.to(server) as wire:
            with contextlib.suppress(ConnectionError):
                wire.send(sent[:1000])
                wire.send(sent[1000:])
            problem(wire.answer(), 431)
            assert wire.is_closed()
    with Wire.to(server) as wire:
        wire.send(short + b"X: " + 60_000 * b"x" + b"\r\n\r\n")
        assert wire.answer().status == 200


def test_pipelined_requests_are_answered_in_their_order(
    server: Server, tenant: Tenant, module_database: Database
) -> None:
    bodies = [tenant.body(ticket_id=f"pipelined-{number}") for number in range(30)]
    with Wire.to(server) as wire:
        wire.send(b"".join(head(tenant, body, f"X-Correlation-ID: {i}") + body + LIVE for i, body in enumerate(bodies)))
        for number in range(30):
            assert wire.answer().headers["x-correlation-id"] == str(number)
            assert wire.answer().status == 200
    assert kept(module_database, tenant) == 30


def test_what_is_no_http_does_not_take_the_answer_of_the_request_before_it(
    server: Server, tenant: Tenant, module_database: Database
) -> None:
    """The server used to write the 400 first, as if it answered the webhook that was still being kept."""
    body = tenant.body()
    with Wire.to(server) as wire:
        wire.send(head(tenant, body) + body + b"NONSENSE\r\n\r\n")
        assert wire.answer().status == 202
        problem(wire.answer(), 400)
        assert wire.is_closed()
    assert kept(module_database, tenant) == 1


@pytest.mark.parametrize(
    "lines",
    [
        ["Transfer-Encoding: chunked"],
        ["Content-Length: 4"],
        ["Content-Length: 0"],
        ["Transfer-Encoding: identity"],
        ["Transfer-Encoding: xchunked"],
        ["Transfer-Encoding: chunked, identity"],
        ["Transfer-Encoding : chunked"],
        ["Transfer-Encoding:\x0bchunked"],
        ["X: y\rTransfer-Encoding: chunked"],
        ["Content-Length : 3"],
        [" Content-Length: 3"],
    ],
    ids=repr,
)
def test_conflicting_lengths_are_400_and_smuggle_nothing(
    server: Server, tenant: Tenant, module_database: Database, lines: list[str]
) -> None:
    """If a proxy and we read different lengths, the rest of one sender's request becomes the start of another's."""
    body = tenant.body()
    smuggled = head(tenant, body) + body
    with Wire.to(server) as wire:
        wire.send(head(tenant, smuggled, *lines) + b"0\r\n\r\n" + smuggled)
        problem(wire.answer(), 400)
        assert wire.is_closed()
    assert kept(module_database, tenant) == 0


def test_a_broken_chunk_is_400_under_the_senders_correlation_id(server: Server, tenant: Tenant) -> None:
    with Wire.to(server) as wire:
        wire.send(head(tenant, b"", "X-Correlation-ID: broken", "Transfer-Encoding: chunked", length=False) + b"zz\r\n")
        answer = wire.answer()
        problem(answer, 400)
        assert answer.headers["x-correlation-id"] == "broken"
        assert wire.is_closed()


@pytest.mark.parametrize("in_one", [True, False])
def test_a_field_after_the_body_is_no_header(
    server: Server,
    tenant: Tenant,
    in_one: bool,  # noqa: FBT001
) -> None:
    """Otherwise a signature there would count or not, depending on how the bytes arrive (RFC 9110, 6.5.1)."""
    body = tenant.body()
    signed = tenant.headers(body)["X-ServiceDesk-Signature"]
    parts = [
        f"POST {PATH} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n".encode(),
        chunked(body)[:-2] + f"X-ServiceDesk-Signature: {signed}\r\n\r\n".encode(),
    ]
    with Wire.to(server) as wire:
        for part in [b"".join(parts)] if in_one else parts:
            wire.send(part)
            time.sleep(0.05)
        assert wire.answer().status == 401


@pytest.mark.parametrize("offer", ["h2c", "websocket", "TLS/1.0"])
@pytest.mark.parametrize("length", [True, False], ids=["length", "chunked"])
def test_a_body_is_not_lost_when_another_protocol_is_offered(
    server: Server,
    tenant: Tenant,
    offer: str,
    length: bool,  # noqa: FBT001
) -> None:
    """Java's HttpClient offers h2c in its first request; the parser then takes the body for that protocol's data."""
    body = tenant.body()
    lines = [f"Upgrade: {offer}", "Connection: Upgrade, HTTP2-Settings", "HTTP2-Settings: AAEAAEAAAAIAAAABAAMAAABk"]
    whole = head(tenant, body, *lines, *([] if length else ["Transfer-Encoding: chunked"]), length=length)
    sent = body if length else chunked(body)
    with Wire.to(server) as wire:
        wire.send(whole + sent + LIVE + whole + sent)
        assert [wire.answer().status for _ in range(3)] == [202, 200, 202]
        wire.send(whole)
        time.sleep(0.05)
        wire.send(sent[:10])
        time.sleep(0.05)
        wire.send(sent[10:])
        assert wire.answer().status == 202


def test_many_offers_at_once_are_read_one_after_the_other(server: Server) -> None:
    """The server reads each in a loop, not by a call within the call for the one before."""
    one = b"GET /health/live HTTP/1.1\r\nHost: x\r\nUpgrade: h2c\r\nConnection: Upgrade\r\n\r\n"
    with Wire.to(server) as wire:
        wire.send(one * 2000)
        assert {wire.answer().status for _ in range(2000)} == {200}


def test_expect(server: Server, tenant: Tenant) -> None:
    """The server answers 100-continue, but not to HTTP/1.0; it ignores any other expectation, as RFC 9110 allows."""
    body = tenant.body()
    with Wire.to(server) as wire:
        wire.send(head(tenant, body, "Expect: 100-continue"))
        assert wire.socket.recv(4096) == b"HTTP/1.1 100 Continue\r\n\r\n"
        wire.send(body)
        assert wire.answer().status == 202
        wire.send(head(tenant, body, "Expect: 200-ok") + body)
        assert wire.answer().status == 202
        wire.send(head(tenant, body, "Expect: 100-continue").replace(b"application/json", b"text/plain"))
        answer = wire.answer()
        assert (answer.status, answer.headers["connection"]) == (415, "close"), "the sender need not send its body now"
    with Wire.to(server) as wire:
        wire.send(head(tenant, body, "Expect: 100-continue", version="1.0"))
        time.sleep(0.1)
        wire.send(body)
        assert wire.socket.recv(4096).startswith(b"HTTP/1.1 202 ")


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (b"GET http://x/health/live HTTP/1.1\r\nHost: x\r\n\r\n", 200),
        (b"GET /health/%6cive HTTP/1.1\r\nHost: x\r\n\r\n", 200),
        (b"GET /health/live HTTP/1.0\r\n\r\n", 200),
        (b"\r\nGET /health/live HTTP/1.1\r\nHost: x\r\n\r\n", 200),
        (b"GET /health/live\n\n", 400),
        (b"GET /health/live HTTP/1.1\nHost: x\n\n", 400),
        (b"GET http:// HTTP/1.1\r\nHost: x\r\n\r\n", 400),
        (b"GET http://x HTTP/1.1\r\nHost: x\r\n\r\n", 400),
        (b"GET /\xff HTTP/1.1\r\nHost: x\r\n\r\n", 400),
        (b"GET /%00%ff%zz HTTP/1.1\r\nHost: x\r\n\r\n", 404),
        (b"OPTIONS * HTTP/1.1\r\nHost: x\r\n\r\n", 204),
        (b"CONNECT x:80 HTTP/1.1\r\nHost: x\r\n\r\n", 400),
        (b"BREW /health/live HTTP/1.1\r\nHost: x\r\n\r\n", 400),
        (b"PURGE /health/live HTTP/1.1\r\nHost: x\r\n\r\n", 405),
        (b"GET /health/live HTTP/2.0\r\nHost: x\r\n\r\n", 200),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 400),
        (b"GET /health/live HTTP/1.1\r\nHost: x\r\nX: a\0b\r\n\r\n", 400),
    ],
    ids=repr,
)
def test_what_else_is_sent_to_web_servers(server: Server, sent: bytes, status: int) -> None:
    with Wire.to(server) as wire:
        wire.send(sent)
        answer = wire.answer()
        assert (answer.status, bool(answer.headers["x-correlation-id"])) == (status, True)
        assert status < 400 or answer.headers["content-type"] == PROBLEM


def test_hundreds_of_half_open_requests_keep_no_webhook_out(strict: Server, tenant: Tenant) -> None:
    """At the limit of connections, the server closes those that have kept it waiting longest."""
    body = tenant.body()
    with contextlib.ExitStack() as stack:
        for number in range(300):
            wire = stack.enter_context(Wire.to(strict))
            with contextlib.suppress(ConnectionError):
                wire.send((b"POST /", head(tenant, body) + b"{")[number % 2])
        began = time.monotonic()
        with Wire.to(strict) as good:
            good.send(head(tenant, body) + body)
            assert good.answer().status == 202
        assert time.monotonic() - began < 1


def test_when_all_connections_wait_for_us_one_more_is_503(
    strict: Server, tenant: Tenant, module_database: Database
) -> None:
    body = tenant.body()
    with contextlib.ExitStack() as stack:
        connection = stack.enter_context(psycopg.connect(module_database.url))
        connection.execute("LOCK TABLE inbox IN EXCLUSIVE MODE")
        waiting = [stack.enter_context(Wire.to(strict)) for _ in range(40)]
        for wire in waiting:
            wire.send(head(tenant, body) + body)
        time.sleep(0.5)
        with Wire.to(strict) as one_more:
            one_more.send(head(tenant, body) + body)
            answer = one_more.answer()
            problem(answer, 503)
            assert answer.headers["retry-after"]
        connection.rollback()
        assert [wire.answer().status for wire in waiting] == [202] * 40


def test_stopping_answers_a_sender_in_the_middle_of_a_request(
    start_server: Callable[..., Server], database: Database, secrets_key: str
) -> None:
    """A sender that never finishes used to get a plain 500, with a traceback in the log."""
    tenant = database.add_tenant(secrets_key)
    server = start_server(SHUTDOWN_TIMEOUT_SECONDS="2")
    body = tenant.body()
    with Wire.to(server) as slow, Wire.to(server) as half:
        slow.send(head(tenant, body) + body[:-1])
        half.send(LIVE[:9])
        time.sleep(0.2)
        server.process.send_signal(signal.SIGTERM)
        problem(slow.answer(), 408)
        assert half.is_closed()
    assert server.process.wait(10) == 0
    assert not [line for line in server.lines() if "traceback" in line]
