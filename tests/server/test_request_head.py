"""A request's Host and target are as RFC 9112 wants them; HEAD and OPTIONS are answered without a body."""

import json

import pytest

from app.webhook import PATH
from tests.support.raw_http import PROBLEM, Answer, Wire, head
from tests.support.system import Server, Tenant

pytestmark = pytest.mark.one_postgres

LIVE = b"GET /health/live HTTP/1.1\r\nHost: x\r\n\r\n"
READ = ["/health/live", "/health/ready", "/metrics", "/schema", "/schema/openapi.json"]


def refused(wire: Wire, status: int, method: str = "GET") -> Answer:
    """Check that the next answer is a problem under the sender's id, and the last on its connection."""
    answer = wire.answer(method)
    assert (answer.status, answer.headers["content-type"], answer.headers["connection"]) == (status, PROBLEM, "close")
    assert answer.headers["x-correlation-id"] == "mine"
    assert wire.is_closed()
    return answer


def request(method: str, target: str, *hosts: bytes, version: str = "1.1") -> bytes:
    lines = [f"{method} {target} HTTP/{version}".encode(), *(b"Host: " + one for one in hosts)]
    return b"\r\n".join([*lines, b"X-Correlation-ID: mine", b"", b""])


@pytest.mark.parametrize(
    ("hosts", "why"),
    [
        ([], "no Host header"),
        ([b""], "an empty Host"),
        ([b" \t "], "an empty Host"),
        ([b"x", b"x"], "2 Host headers"),
        ([b"x", b"y", b"z"], "3 Host headers"),
        ([b"", b""], "2 Host headers"),
        ([b"user@x"], "no host with"),
        ([b"user:pass@x:80"], "no host with"),
        ([b"x:http"], "no host with"),
        ([b"x:-1"], "no host with"),
        ([b"x:65536"], "no host with"),
        ([b"x:80:80"], "no host with"),
        ([b":80"], "no host with"),
        ([b"x y"], "no host with"),
        ([b"x, y"], "no host with"),
        ([b"x/y"], "no host with"),
        ([b"http://x"], "no host with"),
        ([b"x%zz"], "no host with"),
        ([b"\xc3\xa9.example"], "no host with"),
        ([b"::1"], "no host with"),
        ([b"[::1"], "no host with"),
        ([b"[::1]x"], "no host with"),
        ([b"<script>"], "no host with"),
    ],
    ids=repr,
)
def test_400_for_all_but_one_valid_host(server: Server, hosts: list[bytes], why: str) -> None:
    with Wire.to(server) as wire:
        wire.send(LIVE + request("GET", "/health/live", *hosts) + LIVE)
        assert wire.answer().status == 200
        detail = json.loads(refused(wire, 400).body)["detail"]
        assert why in detail
        assert "send one" in detail
    assert server.wait_for_line("request_refused", correlation_id="mine", error=detail)[-1]["status"] == 400


@pytest.mark.parametrize("host", [b"x", b"X.example.:8000", b"127.0.0.1:65535", b"[::1]", b"[::1]:8000", b"x:", b"a_b",
                                  b"x%41y", b"  x \t", b"-", b"x:00080"])  # fmt: skip
def test_200_for_a_host_of_any_valid_form(server: Server, host: bytes) -> None:
    with Wire.to(server) as wire:
        for _ in range(2):
            wire.send(request("GET", "/health/live", host))
            assert wire.answer().status == 200


@pytest.mark.parametrize(
    ("hosts", "status"), [([], 200), ([b"x"], 200), ([b"x", b"x"], 400), ([b"u@x"], 400), ([b""], 400)]
)
def test_http_1_0_may_leave_the_host_out_but_not_make_it_wrong(server: Server, hosts: list[bytes], status: int) -> None:
    with Wire.to(server) as wire:
        wire.send(request("GET", "/health/live", *hosts, version="1.0"))
        assert wire.answer().status == status
        assert wire.is_closed()


@pytest.mark.parametrize(
    ("method", "target", "status"),
    [
        ("GET", "http://x/health/live", 200),
        ("GET", "HTTPS://other:443/health/live?a=b", 200),  # the Host beside it says nothing (RFC 9112, 3.2.2)
        ("GET", "http://[::1]:8000/health/live", 200),
        ("GET", "http://user@x/health/live", 400),
        ("GET", "http://user:secret@x/health/live", 400),
        ("GET", "http:///health/live", 400),
        ("GET", "http://x:port/health/live", 400),
        ("GET", "http://x:65536/health/live", 400),
        ("GET", "ftp://x/health/live", 400),
        ("GET", "*", 400),
        ("HEAD", "*", 400),
        ("POST", "*", 400),
        ("GET", "*/health/live", 400),
        ("OPTIONS", "*?a", 400),
        ("OPTIONS", "*", 204),
        ("OPTIONS", "/", 204),
        ("OPTIONS", "/?a", 204),
        ("OPTIONS", "/nothing", 404),
        ("GET", "/", 404),
        ("HEAD", "/", 404),
        ("POST", "/", 404),
    ],
)
def test_targets(server: Server, method: str, target: str, status: int) -> None:
    """Whatever is answered, what follows on the connection is read from where the request ends, or not at all."""
    with Wire.to(server) as wire:
        wire.send(request(method, target, b"x") + LIVE)
        if status == 400:
            answer = refused(wire, 400, method)
            assert (answer.body == b"") == (method == "HEAD")
            return
        answer = wire.answer(method)
        assert (answer.status, answer.headers["x-correlation-id"]) == (status, "mine")
        assert answer.body == b"" or method != "HEAD"
        assert wire.answer().status == 200


def test_an_absolute_target_needs_its_host_header_all_the_same(server: Server) -> None:
    for hosts in ([], [b"x", b"x"], [b"u@x"]):
        with Wire.to(server) as wire:
            wire.send(request("GET", "http://x/health/live", *hosts))
            refused(wire, 400)


@pytest.mark.parametrize("path", READ)
def test_head_answers_as_get_without_a_body(server: Server, path: str) -> None:
    with Wire.to(server) as wire:
        wire.send(request("GET", path, b"x") + 2 * request("HEAD", path, b"x") + LIVE)
        whole, *bare = wire.answer(), wire.answer("HEAD"), wire.answer("HEAD")
        assert wire.answer().status == 200
    for one in bare:
        assert (one.status, one.body) == (whole.status, b"")
        assert set(one.headers) == set(whole.headers)
        assert one.headers["content-type"] == whole.headers["content-type"]
        assert int(one.headers["content-length"]) > 0


@pytest.mark.parametrize("path", READ)
def test_options_says_what_is_allowed(server: Server, path: str) -> None:
    answer = server.client.options(path)
    assert (answer.status_code, answer.headers["allow"]) == (204, "GET, HEAD, OPTIONS")
    assert answer.headers["x-correlation-id"]
    assert "content-length" not in answer.headers


def test_the_webhooks_options_is_answered_and_is_no_webhook(server: Server, tenant: Tenant) -> None:
    """It leaves no line and no count, and the next request on the connection is read."""
    body, before = tenant.body(), len(server.lines("webhook_answered"))
    with Wire.to(server) as wire:
        wire.send(request("OPTIONS", PATH, b"x") + head(tenant, body) + body)
        answer = wire.answer()
        assert (answer.status, answer.headers["allow"], answer.headers["x-correlation-id"]) == (
            204,
            "OPTIONS, POST",
            "mine",
        )
        assert wire.answer().status == 202
    server.wait_for_line("webhook_answered", before + 1)
    assert len(server.lines("webhook_answered")) == before + 1


def test_head_of_a_webhook_is_405_without_a_body(server: Server) -> None:
    with Wire.to(server) as wire:
        wire.send(request("HEAD", PATH, b"x") + LIVE)
        answer = wire.answer("HEAD")
        assert (answer.status, answer.headers["allow"], answer.body) == (405, "OPTIONS, POST", b"")
        assert wire.answer().status == 200


def test_a_refusal_has_a_body_unless_it_answers_a_head(server: Server) -> None:
    """A HEAD before it on the connection does not take its body."""
    for sent, is_bare in [(request("HEAD", "/health/live"), True), (b"NONSENSE\r\n\r\n", False),
                          (request("HEAD", "/health/live", b"x")[:-4] + b"\r\nX: " + 70_000 * b"x" + b"\r\n\r\n", True)]:  # fmt: skip
        with Wire.to(server) as wire:
            wire.send(request("HEAD", "/health/live", b"x") + sent)
            assert wire.answer("HEAD").status == 200
            answer = wire.answer("HEAD" if is_bare else "GET")
            assert (answer.status >= 400, answer.body == b"") == (True, is_bare)
            assert wire.is_closed()


def test_schema_names_neither_head_nor_options(server: Server) -> None:
    document = server.client.get("/schema").json()
    assert {path: set(methods) for path, methods in document["paths"].items() if not path.startswith("/webhook/")} == {
        **{path: {"get"} for path in READ[:3]}, "/tickets/similar": {"post"},
    }  # fmt: skip
