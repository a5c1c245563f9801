"""What prune costs follows what there is to delete, and nothing that is kept ends its walk too early."""

import asyncio
from collections.abc import Iterator
from datetime import timedelta

import pytest
from sqlalchemy.ext.asyncio import AsyncConnection

from db import engine as engines
from db import retention
from jobs import housekeeping
from tests.support.system import Database

DAYS = 90
AGE = timedelta(days=DAYS)
JOB_AGE = timedelta(days=7)
BLOCKS = """
SELECT sum(heap_blks_read + heap_blks_hit + coalesce(idx_blks_read + idx_blks_hit, 0))
FROM pg_statio_user_tables WHERE relname IN ('inbox', 'procrastinate_jobs', 'procrastinate_events')
"""


@pytest.fixture(autouse=True)
def one_connection(database: Database) -> Iterator[None]:
    with database.on_one_connection():
        yield


def rows(database: Database, count: int, status: str = "promoted", days: float = 1) -> None:
    """Write `count` inbox rows that came so many days ago, or will come where that is negative."""
    database.query(
        "INSERT INTO inbox (tenant_id, correlation_id, payload, signature, status, received_at) "
        "SELECT 'acme', 'c', repeat('x', 200)::bytea, 's', %s, now() - %s * interval '1 day' "
        "FROM generate_series(1, %s)",
        status, days, count,
    )  # fmt: skip


def jobs(database: Database, count: int, status: str = "failed", days: float = 1) -> None:
    """Write `count` jobs that were made and, unless they wait, ended so many days ago, each with an event."""
    database.query(
        "WITH made AS (INSERT INTO procrastinate_jobs (queue_name, task_name, status) "
        "              SELECT 'elsewhere', 'a task', %s FROM generate_series(1, %s) RETURNING id) "
        "INSERT INTO procrastinate_events (job_id, at) SELECT id, now() - %s * interval '1 day' FROM made",
        status, count, days,
    )  # fmt: skip
    database.query("DELETE FROM procrastinate_events WHERE type = 'deferred'")  # what the trigger wrote


def skip_ids(database: Database, table: str, count: int) -> None:
    sequence = database.value("SELECT pg_get_serial_sequence(%s, 'id')", table)
    database.query("SELECT setval(%s, nextval(%s::text) + %s)", sequence, sequence, count)


def pruned(database: Database, monkeypatch: pytest.MonkeyPatch) -> tuple[int, int, int]:
    """Run what `prune` runs; return how many rows and jobs it deleted, and how many windows it looked at."""
    windows = 0

    async def next_window(
        connection: AsyncConnection, age: timedelta, after_id: int, count: int
    ) -> retention.Window | None:
        nonlocal windows
        windows += 1
        of = retention.next_jobs if age == JOB_AGE else retention.next_rows
        return await of(connection, age, after_id, count)

    async def prune() -> tuple[int, int]:
        engine = engines.create_engine(database.url, "test", 1, 30.0)
        monkeypatch.setattr(housekeeping, "engine", lambda: engine)
        try:
            of_inbox = await housekeeping.prune_old(DAYS, next_window, retention.delete_rows)
            return of_inbox, await housekeeping.prune_old(JOB_AGE.days, next_window, retention.delete_jobs)
        finally:
            await engine.dispose()

    return *asyncio.run(prune()), windows


@pytest.mark.parametrize("status", ["rejected", "failed", "pending"])
def test_old_rows_that_are_kept_do_not_end_the_walk(
    database: Database, monkeypatch: pytest.MonkeyPatch, status: str
) -> None:
    rows(database, 10_000, status, days=91)
    rows(database, 10_000, days=91)
    assert pruned(database, monkeypatch)[0] == 10_000
    assert database.value("SELECT count(*) FROM inbox WHERE status = %s", status) == 10_000
    assert database.value("SELECT count(*) FROM inbox") == 10_000


def test_what_it_reads_does_not_grow_with_what_it_keeps(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ten times as many recent rows and jobs: not a block more."""
    rows(database, 5_000)
    jobs(database, 5_000)
    few = blocks_read(database, monkeypatch)
    rows(database, 45_000)
    jobs(database, 45_000)
    assert blocks_read(database, monkeypatch) == few < 50_000


def blocks_read(database: Database, monkeypatch: pytest.MonkeyPatch) -> int:
    """Prune, which deletes nothing here, and return how many blocks of the tables and their indexes were read."""
    database.query("VACUUM ANALYZE inbox")
    database.query("VACUUM ANALYZE procrastinate_jobs")
    database.query("VACUUM ANALYZE procrastinate_events")
    pruned(database, monkeypatch)  # the first reads of a table set hint bits
    database.query("SELECT pg_stat_force_next_flush()")
    before = database.value(BLOCKS)
    assert pruned(database, monkeypatch) == (0, 0, 2)
    database.query("SELECT pg_stat_clear_snapshot()")
    return int(database.value(BLOCKS) - before)


def test_a_gap_of_100_million_ids_is_stepped_over(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    for table, add, old in (("inbox", rows, 91), ("procrastinate_jobs", jobs, 8)):
        add(database, 1, days=old)
        skip_ids(database, table, 100_000_000)
        add(database, 1, days=old)
        add(database, 1, days=1)
    assert pruned(database, monkeypatch)[:2] == (2, 2)
    assert pruned(database, monkeypatch) == (0, 0, 2)


def test_ids_far_apart_share_a_window(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """A window is so many rows, not so many ids: else each of these had one of its own."""
    for _ in range(20):
        rows(database, 1, "rejected", days=91)
        skip_ids(database, "inbox", 1_000_000)
    assert pruned(database, monkeypatch) == (0, 0, 3)


@pytest.mark.parametrize("status", ["todo", "doing"])
def test_one_old_job_that_waits_neither_ends_the_walk_nor_keeps_it_going(
    database: Database, monkeypatch: pytest.MonkeyPatch, status: str
) -> None:
    jobs(database, 1, status, days=30)
    jobs(database, 3_000, days=8)
    jobs(database, 10_000, days=1)
    assert pruned(database, monkeypatch)[:2] == (0, 3_000)
    assert pruned(database, monkeypatch) == (0, 0, 3), "a window with the old job in it, and a recent one"
    assert database.value("SELECT count(*) FROM procrastinate_jobs") == 10_001


def test_an_old_job_that_failed_just_now_is_kept(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """It waited for long: its first event is old, its last is not."""
    jobs(database, 2, days=8)
    database.query("INSERT INTO procrastinate_events (job_id, type) SELECT max(id), 'failed' FROM procrastinate_jobs")
    assert pruned(database, monkeypatch)[1] == 1


def test_a_job_cancelled_long_before_it_was_due_is_deleted(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    jobs(database, 1, "cancelled", days=8)
    database.query(
        "INSERT INTO procrastinate_events (job_id, type, at) "
        "SELECT max(id), 'scheduled', now() + interval '99 years' FROM procrastinate_jobs"
    )
    assert pruned(database, monkeypatch)[1] == 1


def test_rows_out_of_order_are_deleted_once_the_window_before_them_is_old(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Clocks differ: at first they are kept, and for no longer than the rows before them."""
    rows(database, 2_000, days=89)
    rows(database, 10, days=91)
    assert pruned(database, monkeypatch)[0] == 0
    database.query("UPDATE inbox SET received_at = received_at - interval '2 days'")
    assert pruned(database, monkeypatch)[0] == 2_010


def test_rows_of_a_clock_that_was_ahead_do_not_end_the_walk(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else nothing behind them would be deleted until their time has come."""
    rows(database, 2_000, days=-3650)
    rows(database, 10, days=91)
    assert pruned(database, monkeypatch)[0] == 10
