"""`python -m tests.bench.ten_minutes`: is it as fast as before after minutes of full load, and of an open transaction?

Half an hour; `--minutes` makes it shorter. While a transaction is open, Postgres cannot remove deleted rows, so that a
queue in a table has to step over more and more dead rows.
"""

import argparse
import contextlib
import statistics
from collections.abc import Iterator

import psycopg

from tests.bench import storing, workbench
from tests.bench.workbench import Rig

RATE = 1000.0  # webhooks a second
SECONDS = 20.0  # at full load, before and after


def main() -> None:
    """Print a line for each minute."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=int, default=10)
    minutes = parser.parse_args().minutes
    with workbench.rig() as rig:
        print(workbench.machine(rig.database))
        beside_open_transaction(rig, minutes)
        workbench.empty(rig.database)
        at_full_load(rig, minutes)


def beside_open_transaction(rig: Rig, minutes: int) -> None:
    """Compare the rate at full load before and after `minutes` at RATE beside an open transaction."""
    with rig.server() as server, rig.worker():
        workbench.received_and_stored(rig, server, 5)
        with left_open(rig):
            before = workbench.received_and_stored(rig, server, SECONDS)
            for minute in range(minutes):
                accepted, lags = storing.at_rate(rig, server, RATE, 60)
                dead = rig.database.value(
                    "SELECT n_dead_tup FROM pg_stat_user_tables WHERE relname = 'procrastinate_jobs'"
                )
                print(f"minute {minute + 1} at {RATE:,.0f}/s beside an open transaction: accepted p99 {accepted['p99_ms']:.0f} ms, "
                      f"receipt to stored {workbench.percentiles(lags)}, {dead:,} dead jobs", flush=True)  # fmt: skip
            after = workbench.received_and_stored(rig, server, SECONDS)
    print(f"received and stored/s at full load beside it: {after:,.0f} after {minutes} minutes, {before:,.0f} before, "
          f"{after / before:.2f}")  # fmt: skip


@contextlib.contextmanager
def left_open(rig: Rig) -> Iterator[None]:
    """Hold a transaction that has written and read, so that Postgres removes no row that dies from now on."""
    with psycopg.connect(rig.database.url) as connection:
        connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        connection.execute("UPDATE tenant_configs SET updated_at = now() WHERE tenant_id = 'nobody'")
        connection.execute("SELECT count(*) FROM inbox")
        yield
        connection.rollback()


def at_full_load(rig: Rig, minutes: int) -> None:
    """Print the memory of both processes, a line a minute."""
    rates = []
    with rig.server() as server, rig.worker() as worker:
        for minute in range(minutes):
            rates.append(workbench.load(server, rig.tenant, 60)["per_second"])
            held = [workbench.memory_mb(process.process.pid) for process in (server, worker)]
            pending = rig.database.value(storing.PENDING)
            print(f"minute {minute + 1} at full load: server {held[0]:.0f} MB, worker {held[1]:.0f} MB, "
                  f"{rates[-1]:,.0f} accepted/s, {pending:,} pending", flush=True)  # fmt: skip
    print(f"accepted/s at full load: {statistics.median(rates):,.0f}")


if __name__ == "__main__":
    main()
