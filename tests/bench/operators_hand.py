"""`python -m tests.bench.operators_hand`: what do reprocess and prune cost, and do they slow new webhooks down?

Five minutes or so; `--rows` makes it shorter.
"""

import argparse
import asyncio
import threading
import time

from tests.bench import workbench
from tests.bench.workbench import Rig
from tests.support.system import Database, Server

RATE = 17  # webhooks a second: a thousand a minute


def main() -> None:
    """Print a line for each measurement."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000, help="old rows in the inbox (default: 1,000,000)")
    rows = parser.parse_args().rows
    with workbench.rig() as rig, rig.server() as server, rig.worker() as worker:
        print(workbench.machine(rig.database), f"{rows:,} old rows of {workbench.BODY} bytes", sep=", ")
        asyncio.run(workbench.steadily(server, rig.tenant, RATE, 3))
        alone = traffic(rig, server, lambda: time.sleep(20))
        print("fresh webhooks, alone:", alone)
        fill(rig.database, rows)
        idle = workbench.peak_mb(worker.process.pid)
        some = min(100_000, rows)
        print(f"fresh webhooks while {some:,} are reprocessed:", traffic(rig, server, lambda: reprocess(rig, some)))
        began = time.perf_counter()
        reprocess(rig, rows)
        took = time.perf_counter() - began
        print(f"reprocess of {rows:,}: {took:.0f} s, {rows / took:,.0f} rows/s, worker's memory at its highest "
              f"{workbench.peak_mb(worker.process.pid):.0f} MB after {idle:.0f} MB before")  # fmt: skip
        rig.database.query("UPDATE inbox SET received_at = now() - interval '91 days' WHERE correlation_id = 'old'")
        rig.database.query("VACUUM ANALYZE inbox")
        began = time.perf_counter()
        felt = traffic(rig, server, lambda: done(rig.database, rig.database.defer("prune")))
        print(f"prune of {rows:,}: {time.perf_counter() - began:.0f} s; fresh webhooks meanwhile:", felt)
        left = rig.database.value("SELECT count(*) FROM inbox WHERE correlation_id = 'old'")
        print(f"old rows left: {left}; what the worker had to say beside its promotions:")
        print(*(line for line in worker.text().splitlines() if "ticket_promoted" not in line), sep="\n")


def fill(database: Database, rows: int) -> None:
    """Write old rows, each for another ticket, that are promoted but not in ticket_history."""
    database.query(
        "INSERT INTO inbox (tenant_id, ticket_id, correlation_id, payload, signature, status, received_at) "
        "SELECT 'acme', 'old-' || n, 'old', convert_to(json_build_object('tenant_id', 'acme', 'ticket_id', 'old-' || n, "
        "  'subject', 'old', 'description', (SELECT string_agg(md5((n * 30 + k)::text), ' ') FROM generate_series(1, 36) AS k), "
        "  'resolution', 'restarted', 'resolved_date', '2026-01-31T09:30:00Z', 'priority', 'High')::text, 'UTF8'), 's', "
        "  'promoted', now() - interval '30 days' FROM generate_series(1, %s) AS n",
        rows,
    )
    database.query("VACUUM ANALYZE inbox")


def reprocess(rig: Rig, rows: int) -> None:
    """Reprocess the first `rows` of the old rows."""
    first = rig.database.value("SELECT min(id) FROM inbox WHERE correlation_id = 'old'")
    database = rig.database
    before = rig.database.value("SELECT received_at + interval '1 day' FROM inbox WHERE id = %s", first)
    rig.database.query("UPDATE inbox SET status = 'failed' WHERE id BETWEEN %s AND %s", first, first + rows - 1)
    done(database, database.defer("reprocess", status="failed", received_before=before.isoformat()))


def done(database: Database, job_id: int) -> None:
    """Wait until a job is deleted, which means that it succeeded."""
    database.wait_for(f"SELECT count(*) FROM procrastinate_jobs WHERE id = {job_id}", 0, within=1200)


def traffic(rig: Rig, server: Server, meanwhile: "object") -> str:
    """Send new webhooks while `meanwhile` runs, and return as text how long until they were accepted and stored."""
    after = rig.database.value("SELECT coalesce(max(id), 0) FROM inbox")
    accepted: list[float] = []
    ends = threading.Event()

    def send() -> None:
        while not ends.is_set():
            accepted.extend(asyncio.run(workbench.steadily(server, rig.tenant, RATE, 1)))

    sending = threading.Thread(target=send)
    sending.start()
    meanwhile()  # type: ignore[operator]
    ends.set()
    sending.join()
    rig.database.wait_for("SELECT count(*) FROM inbox WHERE status = 'pending'", 0, within=60)
    stored = rig.database.query(
        "SELECT extract(epoch FROM promoted_at - received_at)::float8 AS seconds FROM inbox "
        "WHERE id > %s AND correlation_id <> 'old'", after)  # fmt: skip
    return (f"accepted {workbench.percentiles(accepted)}, "
            f"stored {workbench.percentiles([row['seconds'] for row in stored])}, {len(stored)} webhooks")  # fmt: skip


if __name__ == "__main__":
    main()
