"""A tenant that sends much more than the others waits behind them, but not for ever; a lone tenant never waits."""

import asyncio
from collections.abc import Callable

import psycopg

from app.webhook.admission import Admission
from app.webhook.fair_share import LEAST, FairShare
from app.webhook.group_commit import GroupCommit
from db import engine as engines
from db import queue
from db.inbox import Delivery
from jobs import promote
from otel import tracing
from tests.support.system import Database, Tenant, Worker

PLACE = tracing.position_of_request(None, "", {})
BACKLOG = 2000
JOBS = "SELECT priority, sum(jsonb_array_length(args->'inbox_ids')) AS rows FROM procrastinate_jobs WHERE task_name = 'promote' GROUP BY 1 ORDER BY 1"


def append(database: Database, *tenant_ids: str) -> None:
    """Append a webhook for each of the tenants, as one server does."""
    known = (
        "INSERT INTO tenant_configs (tenant_id, secret) SELECT DISTINCT unnest(%s::text[]), 's' ON CONFLICT DO NOTHING"
    )
    database.query(known, list(tenant_ids))
    deliveries = [
        Delivery(
            tenant_id=tenant_id, ticket_id=None, correlation_id="c", traceparent=PLACE.traceparent,
            payload=Tenant(tenant_id, "secret").body(), signature="s",
        )
        for tenant_id in tenant_ids
    ]  # fmt: skip

    async def run() -> None:
        engine = engines.create_engine(database.url, "test", 4, 30.0)
        try:
            commits = GroupCommit(engine, FairShare(), Admission(100_000, 10**9), 30)
            for start in range(0, len(deliveries), 100):
                await asyncio.gather(*(commits.append(one, PLACE) for one in deliveries[start : start + 100]))
        finally:
            await engine.dispose()

    asyncio.run(run())


def test_the_others_do_not_wait_behind_a_backlog(database: Database, start_worker: Callable[..., Worker]) -> None:
    append(database, *["noisy"] * BACKLOG, *(f"quiet-{number}" for number in range(10)))
    start_worker()
    database.wait_for("SELECT count(*) FROM inbox WHERE status = 'promoted'", BACKLOG + 10, within=30)
    before = database.value(
        "SELECT count(*) FROM inbox WHERE tenant_id = 'noisy' "
        "AND promoted_at <= (SELECT max(promoted_at) FROM inbox WHERE tenant_id <> 'noisy')"
    )
    # Its webhooks from before the server knew it as noisy, and those that two jobs held or had taken over by then.
    assert before <= LEAST + 100 + 2 * queue.JOB_ROWS < BACKLOG


def test_a_statement_makes_two_jobs_at_most(database: Database) -> None:
    append(database, *["noisy"] * LEAST, *(["a", "b"] * 20 + ["noisy"] * 60))
    assert database.query(JOBS) == [{"priority": -1, "rows": 160}, {"priority": 0, "rows": LEAST - 100 + 40}]
    assert database.value("SELECT count(*) FROM procrastinate_jobs") == 4


def test_tenants_that_send_alike_share_one_job(database: Database) -> None:
    append(database, *(f"tenant-{number % 4}" for number in range(8 * LEAST)))
    assert [row["priority"] for row in database.query(JOBS)] == [0]


def test_a_job_gives_way_to_one_of_a_higher_priority(database: Database) -> None:
    """It takes over waiting jobs of its priority, until a job of a higher priority waits."""
    append(database, *["noisy"] * (LEAST + 300))
    database.query("DELETE FROM procrastinate_jobs WHERE priority = 0")

    async def taken() -> int:
        engine = engines.create_engine(database.url, "test", 1, 5.0)
        cursor = queue.TakeOverCursor(0, queue.OVER_SHARE_PRIORITY)
        try:
            async with engines.transaction(engine) as connection:
                rows = len(await queue.take_over(connection, cursor, queue.JOB_ROWS))
                await connection.rollback()
            return rows
        finally:
            await engine.dispose()

    assert asyncio.run(taken()) == 400
    database.defer("promote", inbox_ids=[1])
    assert asyncio.run(taken()) == 0
    database.query("UPDATE procrastinate_jobs SET scheduled_at = now() + interval '1 hour' WHERE priority = 0")
    assert asyncio.run(taken()) == 400


def test_no_tenant_waits_for_ever(database: Database, start_worker: Callable[..., Worker]) -> None:
    """A sweep raises the priority of the noisy tenant's oldest jobs to that of the others."""
    for _ in range(queue.JOBS_AT_ONCE + 2):
        database.deliver(Tenant("noisy", "secret").payload())
    database.query(f"UPDATE procrastinate_jobs SET priority = {queue.OVER_SHARE_PRIORITY}")

    async def sweep() -> None:
        engine = engines.create_engine(database.url, "test", 1, 5.0)
        try:
            async with engines.transaction(engine) as connection:
                await queue.raise_waiting(connection)
        finally:
            await engine.dispose()

    asyncio.run(sweep())
    jobs = database.query("SELECT priority FROM procrastinate_jobs ORDER BY id")
    assert [job["priority"] for job in jobs] == [0] * queue.JOBS_AT_ONCE + [-1] * 2
    database.defer("sweep")
    with psycopg.connect(database.url) as connection:
        connection.execute("UPDATE procrastinate_jobs SET scheduled_at = now() + interval '1 hour' WHERE task_name = 'promote'")  # fmt: skip
    start_worker()
    database.wait_for("SELECT count(*) FROM procrastinate_jobs WHERE priority = -1", 0, within=10)


def test_a_tenant_that_made_a_backlog_is_known_as_long_as_it_waits() -> None:
    shares = FairShare()
    for _ in range(LEAST):
        shares.count("noisy")
    shares.count("quiet")
    for _ in range(5):
        shares.on_gauges({"oldest_pending_seconds": 60.0})
    assert shares.over(["noisy", "quiet", "unknown"]) == ["noisy"]
    shares.on_gauges({"oldest_pending_seconds": 0.1})
    assert shares.over(["noisy", "quiet"]) == []


def test_a_job_of_another_priority_is_left_alone(database: Database) -> None:
    """A promote job does not take it over."""
    [first] = database.deliver(Tenant("a", "s").payload())
    database.deliver(Tenant("a", "s").payload())
    database.query("UPDATE procrastinate_jobs SET priority = -1 WHERE id = (SELECT max(id) FROM procrastinate_jobs)")

    async def run() -> int:
        engine = engines.create_engine(database.url, "test", 1, 5.0)
        try:
            return len(await promote.promote_batch(engine, [first], cursor=queue.TakeOverCursor(0, 0)))
        finally:
            await engine.dispose()

    database.query("UPDATE procrastinate_jobs SET status = 'doing' WHERE priority = 0")
    assert asyncio.run(run()) == 1
