"""What a server has verified for a tenant that is disabled just then is refused as any other, and not kept."""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import httpx
import psycopg
import pytest

from app.webhook.admission import Admission
from app.webhook.fair_share import FairShare
from app.webhook.group_commit import GroupCommit, NotEnabledError
from db import engine as engines
from db.inbox import Delivery
from otel import tracing
from tests.support.eventually import eventually
from tests.support.system import Database, Server, Tenant

pytestmark = pytest.mark.one_postgres
PLACE = tracing.position_of_request(None, "", {})


def test_a_webhook_that_was_verified_before_is_401(
    database: Database, secrets_key: str, start_server: Callable[..., Server]
) -> None:
    """Its append waits for a lock; when it gets that, it reads that the tenant is disabled, or gone."""
    acme, hooli = (database.add_tenant(secrets_key, one) for one in ("acme", "hooli"))
    server = start_server()
    with ThreadPoolExecutor() as pool, psycopg.connect(database.url) as holding:
        holding.execute("LOCK TABLE inbox IN EXCLUSIVE MODE")
        answers = [
            pool.submit(server.send, acme),
            pool.submit(server.send, acme, priority=None),
            pool.submit(server.send, hooli),
        ]
        eventually(lambda: database.value("SELECT count(*) FROM pg_locks WHERE NOT granted") > 0)
        database.query("UPDATE tenant_configs SET enabled = false WHERE tenant_id = 'acme'")
        database.query("DELETE FROM tenant_configs WHERE tenant_id = 'hooli'")
        holding.rollback()
        received = [one.result() for one in answers]
    received.append(server.send(Tenant("nobody", "secret")))
    assert [one.status_code for one in received] == [401] * 4
    assert len({without_correlation_id(one) for one in received}) == 1
    assert database.value("SELECT count(*) FROM inbox") == 0
    assert database.value("SELECT count(*) FROM procrastinate_jobs WHERE task_name = 'promote'") == 0


def without_correlation_id(answer: httpx.Response) -> str:
    return answer.text.replace(answer.headers["X-Correlation-ID"], "")


def test_the_others_in_its_commit_are_kept(database: Database) -> None:
    """Each of them gets the id of its own row."""
    for tenant_id, enabled in (("acme", True), ("globex", False)):
        database.query(
            "INSERT INTO tenant_configs (tenant_id, secret, enabled) VALUES (%s, 's', %s)", tenant_id, enabled
        )
    tenant_ids = ["globex", "acme", "nobody", "acme", "globex", "acme"]

    async def append() -> list[int | BaseException]:
        engine = engines.create_engine(database.url, "test", 4, 5.0)
        commits = GroupCommit(engine, FairShare(), Admission(100, 10_000), 5.0)
        try:
            futures = [commits.append(delivery(one, number), PLACE) for number, one in enumerate(tenant_ids)]
            return await asyncio.gather(*futures, return_exceptions=True)
        finally:
            await engine.dispose()

    found = asyncio.run(append())
    kept = {row["id"]: int(row["ticket_id"]) for row in database.query("SELECT id, ticket_id FROM inbox")}
    assert [kept[one] for one in found if isinstance(one, int)] == [1, 3, 5]
    assert [number for number, one in enumerate(found) if isinstance(one, NotEnabledError)] == [0, 2, 4]


def delivery(tenant_id: str, number: int) -> Delivery:
    return Delivery(
        tenant_id=tenant_id, ticket_id=str(number), correlation_id="c", traceparent=PLACE.traceparent, payload=b"{}", signature="s"
    )  # fmt: skip
