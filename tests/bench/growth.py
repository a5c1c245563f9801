"""What do the millions of rows cost that the tables already hold?"""

import statistics
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

from tests.bench import plots, table, workbench
from tests.bench.table import Row
from tests.support.system import Database

ROWS, JOBS = 5_000_000, 1_000_000
STEPS = (0, 1, 2, 5)  # fifths of the rows at which it measures
FILL = """
INSERT INTO inbox (tenant_id, ticket_id, correlation_id, traceparent, payload, signature, status, action, promoted_at)
SELECT 'acme', 'old-' || n, gen_random_uuid()::text, '00-' || md5(n::text) || '-0000000000000001-00',
       convert_to(repeat('x', 1400), 'UTF8'), repeat('a', 64), 'promoted', 'inserted', now()
FROM generate_series(1, %s) AS n
"""
FILL_JOBS = """
INSERT INTO procrastinate_jobs (queue_name, task_name, status, args)
SELECT 'promote', 'promote', 'succeeded', jsonb_build_object('inbox_ids', jsonb_build_array(n)) FROM generate_series(1, %s) AS n
"""


def accepted(rounds: int, seconds: float) -> Iterator[Row]:
    """Compare the webhooks accepted beside full tables and beside empty ones, each on its own Postgres."""
    rates: dict[int, tuple[float, float]] = {}
    with workbench.rig() as fresh, workbench.rig("max_wal_size=8GB", "checkpoint_timeout=30min") as old:
        with fresh.server() as one, old.server() as other:
            there = 0
            for step in STEPS:
                fill(old.database, step - there)
                there = step
                runs = table.in_turn({"empty": (one, fresh), "full": (other, old)}, rounds, lambda each: workbench.load(each[0], each[1].tenant, seconds)["per_second"])  # fmt: skip
                rates[step * ROWS // 5] = table.compared(runs, "full", "empty")[1], statistics.median(runs["full"])
        size = old.database.value("SELECT pg_size_pretty(pg_total_relation_size('inbox'))")
    plots.growth({rows: ratio for rows, (ratio, _) in rates.items()})
    ratio, rate = rates[ROWS]
    yield Row(
        f"accepted/s beside {ROWS / 1e6:g} million inbox rows ({size}) and {JOBS / 1e6:g} million finished jobs, beside empty tables",
        f"{rate:,.0f}", f"{ratio:.2f}", "0.95 / 0.85",
    )  # fmt: skip


def fill(database: Database, fifths: int) -> None:
    """Add this many fifths of the rows and of the jobs, in two sessions."""
    if fifths:
        with ThreadPoolExecutor(2) as pool:
            list(pool.map(lambda _: database.query(FILL, fifths * ROWS // 10), range(2)))
        database.query(FILL_JOBS, fifths * JOBS // 5)
        database.query("VACUUM ANALYZE inbox, procrastinate_jobs")
        database.query("CHECKPOINT")
