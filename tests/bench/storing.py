"""How many webhooks a second are received and stored, how long does that take, and what does each cost?"""

import contextlib
import time
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from tests.bench import designs, plots, workbench
from tests.bench.accepting import PEERS
from tests.bench.designs import Redis
from tests.bench.table import Row
from tests.bench.workbench import Rig
from tests.support.system import Server

LAGS = """
SELECT floor(extract(epoch FROM received_at - min(received_at) OVER ()))::int AS second,
       extract(epoch FROM promoted_at - received_at)::float8 AS lag
FROM inbox WHERE id > %s
"""
DISK = """
SELECT pg_total_relation_size('inbox') / rows AS inbox, pg_total_relation_size('ticket_history') / rows AS tickets,
       pg_wal_lsn_diff(pg_current_wal_lsn(), %s::pg_lsn) / (rows - %s) AS wal
FROM (SELECT count(*) AS rows FROM inbox) AS counted
"""
PENDING = "SELECT count(*) FROM inbox WHERE status = 'pending'"


class Stored(NamedTuple):
    """The webhooks that a run stored a second, and the µs of processor time of each: our processes', and Postgres'."""

    per_second: float
    ours: float
    postgres: float


def at_full_load(rig: Rig, redis: Redis | None, seconds: float) -> Iterator[Row]:
    """Receive and store at full load for `seconds`, with the no-op handler measured before and after."""
    before = noop_rate(rig)
    celery = by_celery(rig, redis, seconds / 3) if redis else None
    workbench.empty(rig.database)
    with rig.server() as server, rig.worker() as worker:
        workbench.load(server, rig.tenant, 2)
        rig.database.wait_for(PENDING, 0, within=60)
        after = rig.database.value("SELECT max(id) FROM inbox")
        known = rig.database.value("SELECT count(*) FROM inbox")
        wal = rig.database.value("SELECT pg_current_wal_lsn()::text")
        pids = [server.process.pid, worker.process.pid]
        ours = spent(rig, pids, lambda: workbench.received_and_stored(rig, server, seconds), lambda: rig.database.value("SELECT count(*) FROM inbox WHERE id > %s", after))  # fmt: skip
    disk = rig.database.query(DISK, wal, known)[0]
    noop = (before + noop_rate(rig)) / 2
    yield Row(
        f"received and stored/s, {seconds:.0f} s at full load, beside the no-op handler",
        f"{ours.per_second:,.0f} beside {noop:,.0f}", f"{ours.per_second / noop:.2f}", "0.55 / 0.35",
    )  # fmt: skip
    if celery:
        yield Row(
            f"received and stored/s beside {PEERS['celery']} that upserts",
            f"{ours.per_second:,.0f} beside {celery.per_second:,.0f}", f"{ours.per_second / celery.per_second:.1f} x", "18 x / 10 x",
        )  # fmt: skip
    lags = rig.database.query(LAGS, after)
    yield Row(
        "receipt to stored at that load", workbench.percentiles([row["lag"] for row in lags]), "", "p99 250 ms / 1 s"
    )
    plots.lag(lags)
    yield Row(
        "disk of a stored webhook of 1.4 KB: inbox, ticket_history, each with its indexes; WAL",
        f"{disk['inbox']:,} and {disk['tickets']:,} bytes; {disk['wal']:,.0f} bytes",
    )
    yield Row("CPU of a stored webhook: server and worker, and Postgres", f"{ours.ours:.0f} and {ours.postgres:.0f} µs")
    if celery:
        yield Row(
            f"… of {PEERS['celery']}: all but Postgres, and Postgres", f"{celery.ours:.0f} and {celery.postgres:.0f} µs"
        )


def noop_rate(rig: Rig) -> float:
    with designs.noop() as server:
        return float(workbench.load_port(server.port, rig.tenant, 5)["per_second"])


def by_celery(rig: Rig, redis: Redis, seconds: float) -> Stored:
    """Count the events that Celery has stored when the load ends: draining its queue would take minutes."""
    rig.database.query("TRUNCATE peer_ticket")
    with (
        designs.celery_workers(rig, redis.url) as workers,
        designs.peer(rig, "fastapi_celery", REDIS_URL=redis.url) as server,
    ):

        def run() -> float:
            began = time.perf_counter()
            workbench.load_port(server.port, rig.tenant, seconds)
            return count() / (time.perf_counter() - began)

        def count() -> int:
            return int(rig.database.value("SELECT count(*) FROM peer_ticket"))

        return spent(rig, [workers, server.process_id, redis.process_id], run, count)


def spent(rig: Rig, process_ids: list[int], run: Callable[[], float], count: Callable[[], int]) -> Stored:
    """Run, and divide the processor time by the number of webhooks stored."""
    known = count()
    before, postgres = sum(map(workbench.cpu_seconds, process_ids)), workbench.cpu_seconds(rig.postgres)
    per_second = run()
    stored = count() - known
    after = sum(map(workbench.cpu_seconds, process_ids))
    return Stored(
        per_second, (after - before) / stored * 1e6, (workbench.cpu_seconds(rig.postgres) - postgres) / stored * 1e6
    )


def steadily(rig: Rig, seconds: float, rate: float = 17) -> Iterator[Row]:
    """Measure the latencies at a thousand webhooks a minute, open loop."""
    workbench.empty(rig.database)
    with rig.server() as server, rig.worker():
        accepted, lags = at_rate(rig, server, rate, seconds)
    yield Row(
        f"{rate:g} webhooks/s: accepted, median / p99 / longest",
        f"{accepted['p50_ms']:.1f} / {accepted['p99_ms']:.1f} / {accepted['longest_ms']:.1f} ms", "", "p99 5 ms / 50 ms",
    )  # fmt: skip
    yield Row(f"{rate:g} webhooks/s: receipt to stored", workbench.percentiles(lags), "", "p99 50 ms / 1 s")


def at_rate(rig: Rig, server: Server, rate: float, seconds: float) -> tuple[dict[str, Any], list[float]]:
    """Send at a rate, after a warm-up of three seconds; return the sender's figures, and the lags in seconds."""
    workbench.load(server, rig.tenant, 3, rate)
    after = rig.database.value("SELECT max(id) FROM inbox")
    accepted = workbench.load(server, rig.tenant, seconds, rate)
    rig.database.wait_for(PENDING, 0, within=60)
    return accepted, [row["lag"] for row in rig.database.query(LAGS, after)]


def by_processes(rig: Rig, seconds: float) -> Iterator[Row]:
    """Compare two and four server processes and workers with one of each."""
    rates = {}
    for count in (1, 2, 4):
        workbench.empty(rig.database)
        with rig.server(processes=count) as server, contextlib.ExitStack() as stack:
            for _ in range(count):
                stack.enter_context(rig.worker())
            workbench.load(server, rig.tenant, 2)
            rates[count] = workbench.received_and_stored(rig, server, seconds)
    one = rates.pop(1)
    for count, rate in rates.items():
        yield Row(
            f"received and stored/s by {count} servers and {count} workers beside one of each",
            f"{rate:,.0f} beside {one:,.0f}",
            f"{rate / one:.2f}",
        )
