"""Webhooks that arrive together share a commit: none waits without need or fails for another; the queue is bounded."""

import asyncio
import time
from collections.abc import Awaitable, Callable

import psycopg
import pytest
from sqlalchemy.ext.asyncio import create_async_engine

from app.webhook.admission import Admission
from app.webhook.fair_share import FairShare
from app.webhook.group_commit import GroupCommit, QueueFullError
from db import engine as engines
from db import failures
from db.inbox import Delivery
from otel import tracing
from tests.support.system import Database

PLACE = tracing.position_of_request(None, "", {})


def delivery(number: int, status: str = "pending", payload: bytes = b"{}") -> Delivery:
    return Delivery(
        tenant_id="acme", ticket_id=str(number), correlation_id=f"c{number}", traceparent=PLACE.traceparent,
        payload=payload, signature="s", status=status,
    )  # fmt: skip


def run(database: Database, act: Callable[[GroupCommit], Awaitable[None]], **limits: float) -> None:
    """Run `act` with a group commit on the test's database, whose tenant is acme."""
    database.query("INSERT INTO tenant_configs (tenant_id, secret) VALUES ('acme', 's') ON CONFLICT DO NOTHING")

    async def on_engine() -> None:
        engine = engines.create_engine(database.url, "test", 4, 5.0)
        bounds = {"rows": 1000, "size": 1_000_000, "timeout": 5.0, **limits}
        admission = Admission(int(bounds["rows"]), int(bounds["size"]))
        commits = GroupCommit(engine, FairShare(), admission, bounds["timeout"])
        try:
            await act(commits)
            await commits.drained()
        finally:
            await engine.dispose()

    asyncio.run(on_engine())


def test_a_burst_shares_statements_and_jobs(database: Database) -> None:
    """Each webhook gets the id of its own row."""

    async def act(commits: GroupCommit) -> None:
        futures = [commits.append(delivery(number), PLACE) for number in range(600)]
        ids = await asyncio.gather(*futures)
        kept = {row["id"]: int(row["ticket_id"]) for row in database.query("SELECT id, ticket_id FROM inbox")}
        assert [kept[inbox_id] for inbox_id in ids] == list(range(600))

    run(database, act)
    jobs = database.query("SELECT jsonb_array_length(args->'inbox_ids') AS rows FROM procrastinate_jobs")
    assert sum(job["rows"] for job in jobs) == 600
    assert len(jobs) <= 4


def test_one_bad_row_does_not_fail_the_others(database: Database) -> None:
    async def act(commits: GroupCommit) -> None:
        statuses = ["pending", "pending", "nonsense", "pending"]
        futures = [commits.append(delivery(number, status), PLACE) for number, status in enumerate(statuses)]
        found = await asyncio.gather(*futures, return_exceptions=True)
        assert [isinstance(one, int) for one in found] == [True, True, False, True]
        assert isinstance(found[2], failures.DatabaseError)

    run(database, act)
    assert database.value("SELECT count(*) FROM inbox") == 3
    assert database.value("SELECT sum(jsonb_array_length(args->'inbox_ids')) FROM procrastinate_jobs") == 3


@pytest.mark.parametrize("limits", [{"rows": 3}, {"size": 3 * 100 + 50}])
def test_a_full_queue_says_so_at_once_and_empties(database: Database, limits: dict[str, float]) -> None:
    async def act(commits: GroupCommit) -> None:
        for _ in range(2):
            futures = [commits.append(delivery(number, payload=b"x" * 100), PLACE) for number in range(3)]
            with pytest.raises(QueueFullError):
                commits.append(delivery(3, payload=b"x" * 100), PLACE)
            await asyncio.gather(*futures)

    run(database, act, **limits)
    assert database.value("SELECT count(*) FROM inbox") == 6


def test_a_webhook_past_its_time_is_let_go_and_a_later_one_is_not(database: Database) -> None:
    """Behind a lock, two statements are under way and may be kept; the webhook that waits past its time is not kept."""

    async def act(commits: GroupCommit) -> None:
        with psycopg.connect(database.url) as holder:
            holder.execute("LOCK inbox IN ACCESS EXCLUSIVE MODE")
            first = commits.append(delivery(1), PLACE)
            await asyncio.sleep(0.1)
            second = commits.append(delivery(2), PLACE)
            await asyncio.sleep(0.1)
            third = commits.append(delivery(3), PLACE)
            began = time.monotonic()
            for future in (first, second, third):
                with pytest.raises(TimeoutError):
                    await future
            assert time.monotonic() - began < 2
            late = commits.append(delivery(4), PLACE)
        assert await late > 0

    run(database, act, timeout=0.5)
    assert {row["ticket_id"] for row in database.query("SELECT ticket_id FROM inbox")} == {"1", "2", "4"}


def test_a_sender_that_hangs_up_stops_nothing(database: Database) -> None:
    async def act(commits: GroupCommit) -> None:
        gone, there = commits.append(delivery(1), PLACE), commits.append(delivery(2), PLACE)
        await asyncio.sleep(0)
        gone.cancel()
        assert await there > 0

    run(database, act)
    assert database.value("SELECT count(*) FROM inbox WHERE ticket_id = '2'") == 1


def test_a_webhook_that_comes_as_two_statements_end_together_is_served(database: Database) -> None:
    """A slow loop reads both of Postgres' answers in one turn; a webhook that comes just then must not be forgotten."""

    async def slow_down() -> None:
        while True:
            time.sleep(0.01)  # noqa: ASYNC251  (the loop is to be held up)
            await asyncio.sleep(0)

    async def act(commits: GroupCommit) -> None:
        slow = asyncio.create_task(slow_down())
        for number in range(20):
            first = commits.append(delivery(number), PLACE)
            await asyncio.sleep(0)
            second = commits.append(delivery(number), PLACE)
            await first
            assert await commits.append(delivery(number), PLACE) > 0
            await second
        slow.cancel()

    run(database, act, timeout=2.0)
    assert database.value("SELECT count(*) FROM inbox") == 60


def test_an_unforeseen_error_reaches_every_waiting_webhook(database: Database) -> None:
    """Connecting raises an error that is none of Postgres' own."""

    async def act(_: GroupCommit) -> None:
        async def broken() -> object:
            raise ZeroDivisionError

        engine = create_async_engine("postgresql+asyncpg://", async_creator=broken)
        commits = GroupCommit(engine, FairShare(), Admission(10, 1000), 5.0)
        found = await asyncio.gather(*(commits.append(delivery(n), PLACE) for n in range(3)), return_exceptions=True)
        assert {type(one) for one in found} == {ZeroDivisionError}

    run(database, act)
