"""SIGNED_TIMESTAMP_SECONDS: the sender signs its time with the body; a wrong time is refused like a wrong signature."""

import time
from collections.abc import Callable

import pytest

from app.commands import send
from app.webhook import signature
from tests.support.commands_in_process import invoke
from tests.support.system import JSON, Database, Server, Tenant

pytestmark = pytest.mark.one_postgres

NAME = "X-ServiceDesk-Timestamp"


@pytest.fixture
def tenant(database: Database, secrets_key: str) -> Tenant:
    return database.add_tenant(secrets_key, "acme")


def timed(tenant: Tenant, body: bytes, timestamp: str) -> dict[str, str]:
    signed = signature.sign(tenant.secret.encode(), signature.timed(timestamp.encode(), body))
    return {**JSON, NAME: timestamp, signature.HEADER: signed}


def test_a_signed_timestamp_is_asked_for_and_checked(
    tenant: Tenant, database: Database, start_server: Callable[..., Server]
) -> None:
    server = start_server(SIGNED_TIMESTAMP_SECONDS="300")
    body, now = tenant.body(), int(time.time())
    for moment in (now, now - 200, now + 200):
        assert server.post(body, timed(tenant, body, str(moment))).status_code == 202
    unknown = Tenant("nobody", "a secret of nobody")
    wrong = [
        tenant.headers(body),  # signed without a time
        {**tenant.headers(body), NAME: str(now)},  # the signature does not cover it
        {**timed(tenant, body, str(now)), NAME: str(now - 1)},  # not the one that was signed
        *(timed(tenant, body, text) for text in (str(now - 400), str(now + 400), "", "now", f"{now}.0", f"-{now}", "9" * 40, f"+{now}")),
        timed(tenant, body, "1e9"),
        timed(unknown, body, str(now)),
    ]  # fmt: skip
    answers = [server.post(body, headers) for headers in wrong]
    assert [answer.status_code for answer in answers] == [401] * len(wrong)
    texts = {answer.text.replace(answer.headers["x-correlation-id"], "") for answer in answers}
    assert len(texts) == 1, "the same bytes, whatever is wrong"
    assert NAME in texts.pop()
    assert [row["signature"][:13] for row in database.query("SELECT signature FROM inbox ORDER BY id")] == [
        f"t={moment}," for moment in (now, now - 200, now + 200)
    ], "the row keeps what is needed to verify it again"
    # The reference sender reads the secret from the environment, which no list of processes shows.
    arguments = ["send", "--url", server.url, "--tenant", tenant.id]
    env = {"TICKET_INBOX_SECRET": tenant.secret}
    assert invoke(env, *arguments, "--timestamp").exit_code == 0
    refused = invoke(env, *arguments)
    assert refused.exit_code == 1
    assert NAME in refused.stderr


@pytest.mark.parametrize(("now", "fresh"), [(700, True), (1300, True), (699.9, False), (1300.1, False)])
def test_the_tolerance_is_to_the_second(now: float, *, fresh: bool) -> None:
    assert signature.is_fresh(b"1000", now, 300) is fresh


def test_what_the_sender_signs_is_the_time_a_full_stop_and_the_body() -> None:
    headers = send.signed("a secret", b"{}", 1769851800)
    assert headers == {NAME: "1769851800", signature.HEADER: signature.sign(b"a secret", b"1769851800.{}")}
