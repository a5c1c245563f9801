"""A webhook that is held back while the server is crowded keeps every rule of HTTP that one let in at once keeps."""

import json
import socket
from collections.abc import Callable, Iterator

import pytest

from tests.server.test_overload import filled, held_up
from tests.support.raw_http import PROBLEM, Wire, head
from tests.support.system import Database, Server, Tenant

pytestmark = pytest.mark.one_postgres


@pytest.fixture
def noisy(database: Database, secrets_key: str) -> Tenant:
    return database.add_tenant(secrets_key)


@pytest.fixture
def crowded(start_server: Callable[..., Server], database: Database, noisy: Tenant) -> Iterator[Server]:
    """A server whose one place is taken."""
    server = start_server(APPEND_QUEUE="1", APPEND_TIMEOUT_SECONDS="20", REQUEST_TIMEOUT_SECONDS="2")
    server.wait_until_known(noisy)
    with held_up(database), filled(server, noisy, 1):
        yield server


def refused(wire: Wire, status: int) -> str:
    answer = wire.answer()
    assert (answer.status, answer.headers["content-type"]) == (status, PROBLEM)
    assert answer.headers["x-correlation-id"] == "mine"
    return str(json.loads(answer.body)["detail"])


def test_a_webhook_that_is_held_back_keeps_the_rules(crowded: Server, noisy: Tenant) -> None:
    body = noisy.body()
    webhook = head(noisy, body, "X-Correlation-ID: mine") + body
    for host in (b"", b"Host: x\r\nHost: x\r\n", b"Host: \r\n", b"Host: u@x\r\n"):
        with Wire.to(crowded) as wire:
            wire.send(webhook.replace(b"Host: x\r\n", host))
            assert "Host" in refused(wire, 400)
            assert wire.is_closed()
    with Wire.to(crowded) as wire:
        wire.send(head(noisy, body, "X-Correlation-ID: mine", "X: " + 70_000 * "x") + body)
        refused(wire, 431)
        assert wire.is_closed()
    with Wire.to(crowded) as wire:
        wire.send(2 * webhook)
        wire.socket.shutdown(socket.SHUT_WR)
        assert refused(wire, 503) == refused(wire, 503)
        assert wire.is_closed()


@pytest.mark.parametrize("ends", [True, False])
def test_a_webhook_that_is_held_back_and_never_whole_is_answered_and_recorded(
    crowded: Server,
    noisy: Tenant,
    ends: bool,  # noqa: FBT001
) -> None:
    """It used to be dropped without a word at REQUEST_TIMEOUT_SECONDS, or when its sender sent no more."""
    body, status = noisy.body(), 400 if ends else 408
    with Wire.to(crowded) as wire:
        wire.send(head(noisy, body, "X-Correlation-ID: mine") + body[:-1])
        if ends:
            wire.socket.shutdown(socket.SHUT_WR)
        refused(wire, status)
        assert wire.is_closed()
    [line] = crowded.wait_for_line("webhook_answered", correlation_id="mine")
    assert line["status"] == status
