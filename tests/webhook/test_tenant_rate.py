"""A tenant that sends more than it may gets 429 with Retry-After, and other tenants notice nothing."""

from collections import Counter
from collections.abc import Callable

import pytest

from app.webhook.tenant_rate import BURST_SECONDS, TenantRate
from tests.support.system import JSON, Database, Server

pytestmark = pytest.mark.one_postgres

RATE = 0.5


def test_429_says_when_to_come_back_and_spends_no_other_tenants_rate(
    start_server: Callable[..., Server], database: Database, secrets_key: str
) -> None:
    noisy, quiet, probed = (database.add_tenant(secrets_key) for _ in range(3))
    server = start_server(TENANT_RATE=str(RATE))
    server.wait_until_known(probed)
    burst = int(RATE * BURST_SECONDS)
    for _ in range(10):
        body = noisy.body()
        assert server.post(body, {**JSON, "X-ServiceDesk-Signature": "nonsense"}).status_code == 401
    answers = [server.send(noisy) for _ in range(burst + 3)]
    assert [answer.status_code for answer in answers] == [202] * burst + [429] * 3
    refused = answers[-1]
    assert refused.headers["content-type"] == "application/problem+json"
    assert refused.json()["type"] == "urn:ticket-inbox:problem:rate-limit"
    assert refused.headers["retry-after"] in {"1", "2"}
    assert server.send(quiet).status_code == 202
    assert database.value("SELECT count(*) FROM inbox WHERE tenant_id = %s", noisy.id) == burst
    assert Counter(line["status"] for line in server.lines("webhook_answered") if line.get("tenant_id") == noisy.id) == {401: 10, 202: burst, 429: 3}  # fmt: skip
    counted = server.client.get("/metrics").text
    assert f'ticket_inbox_webhooks_total{{outcome="rate-limit",tenant_id="{noisy.id}"}} 3.0' in counted


@pytest.mark.parametrize("rate", [0.01, 1, 7, 1000])
def test_a_webhook_after_the_wait_is_taken_and_one_before_it_is_not(rate: float) -> None:
    limit = TenantRate(rate)
    taken = 0
    while not (wait := limit.spend("a", 100.0)):
        taken += 1
    assert taken == max(1, int(rate * BURST_SECONDS))
    assert limit.spend("b", 100.0) == 0
    assert limit.spend("a", 100.0 + wait * 0.9) > 0
    assert limit.spend("a", 100.0 + wait * 1.001) == 0
    assert limit.spend("a", 100.0 + wait * 1.001) > 0


def test_no_rate_is_no_limit() -> None:
    limit = TenantRate(0)
    assert not any(limit.spend("a", 0.0) for _ in range(100_000))
