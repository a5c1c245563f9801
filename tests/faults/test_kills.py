"""Workers are killed at any moment: every event is stored, and no row is promoted twice."""

import collections
import itertools
import random
import time
from collections.abc import Callable

import pytest

from tests.support.system import Database, Tenant, Worker

pytestmark = pytest.mark.one_postgres

StartWorker = Callable[..., Worker]
ACME = Tenant("acme", "secret")
DELIVERIES = 5_000


@pytest.mark.begins_early
def test_kill_9_during_five_thousand_deliveries(database: Database, start_worker: StartWorker) -> None:
    """Three workers run; about every half second, while deliveries come, the test kills one and starts another."""
    rng = random.Random(20261124)
    running, dead = [start_worker() for _ in range(3)], []
    numbers = iter(range(DELIVERIES))
    next_kill = time.monotonic() + 2
    while batch := list(itertools.islice(numbers, rng.randint(1, 60))):
        database.deliver(*(ACME.payload(ticket_id=str(number)) for number in batch))
        if time.monotonic() > next_kill:
            victim = running.pop(0)
            victim.process.kill()
            dead.append(victim)
            running.append(start_worker())
            next_kill = time.monotonic() + rng.uniform(0.2, 0.8)
    assert len(dead) >= 5
    database.wait_for("SELECT count(*) FROM inbox WHERE status = 'promoted'", DELIVERIES, within=90)
    assert database.value("SELECT count(*) FROM ticket_history") == DELIVERIES
    assert database.value("SELECT count(*) FROM inbox WHERE action = 'inserted'") == DELIVERIES

    logged = collections.Counter(
        line["inbox_id"] for worker in running + dead for line in worker.lines("ticket_promoted")
    )
    assert set(logged.values()) <= {1}, "no row was promoted twice"
    # Every attempt of a row's job counts, also one that died before it had done anything.
    requeued = collections.Counter(line["job_id"] for worker in running + dead for line in worker.lines("job_requeued"))
    again = database.query("SELECT attempts, job_id FROM inbox WHERE attempts > 1")
    # On a busy machine two things are seen once in a hundred kills: a worker that is killed between requeueing a job and
    # logging it leaves no line, and one that is killed between storing rows and ending their job has it requeued in vain.
    odd = {row["job_id"] for row in again if row["attempts"] != 1 + requeued[row["job_id"]]}
    assert len(odd) <= len(dead) / 10
