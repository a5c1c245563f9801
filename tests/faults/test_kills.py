"""Workers are killed at any moment: every event is stored, and no row is promoted twice."""

import collections
import itertools
import random
import time
from collections.abc import Callable
from typing import Any

import pytest

from tests.support.system import Database, Tenant, Worker

pytestmark = pytest.mark.one_postgres

StartWorker = Callable[..., Worker]
ACME = Tenant("acme", "secret")
DELIVERIES = 5_000
# In the transaction that requeues: a worker may be killed before it has logged it, and a job whose rows are stored may
# be requeued once more, since its worker was killed before it had ended it.
NOTE_REQUEUED = """
CREATE TABLE requeued (job_id bigint, pid integer, is_open boolean);
CREATE FUNCTION note_requeued() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  INSERT INTO requeued SELECT NEW.id, pg_backend_pid(), EXISTS (
    SELECT FROM inbox WHERE status = 'pending' AND id IN (
      SELECT CAST(number AS bigint) FROM jsonb_array_elements(NEW.args->'inbox_ids') AS number));
  RETURN NULL;
END $$;
CREATE TRIGGER note_requeued AFTER UPDATE ON procrastinate_jobs FOR EACH ROW
WHEN (OLD.status = 'doing' AND NEW.status = 'todo' AND NEW.task_name = 'promote') EXECUTE FUNCTION note_requeued()
"""
REQUEUED = "SELECT job_id FROM requeued"


@pytest.mark.begins_early
def test_kill_9_during_five_thousand_deliveries(database: Database, start_worker: StartWorker) -> None:
    """Three workers run; about every half second, while deliveries come, the test kills one and starts another."""
    database.query(NOTE_REQUEUED)
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
    requeued = collections.Counter(row["job_id"] for row in database.query(f"{REQUEUED} WHERE is_open"))
    for row in database.query("SELECT attempts, job_id FROM inbox WHERE attempts > 1"):
        assert row["attempts"] == 1 + requeued[row["job_id"]]
    _assert_all_were_logged(database, running, dead)


def _assert_all_were_logged(database: Database, running: list[Worker], dead: list[Worker]) -> None:
    """Each requeueing has its line, unless the worker was killed before it wrote it; and each line is true."""
    alive = f"{REQUEUED} WHERE pid IN (SELECT pid FROM pg_stat_activity)"
    by_the_living = collections.Counter(row["job_id"] for row in database.query(alive))
    assert [worker.stop() for worker in running] == [0, 0, 0]
    of_the_living, of_the_dead = (
        collections.Counter(line["job_id"] for worker in workers for line in _requeued(worker))
        for workers in (running, dead)
    )
    assert by_the_living <= of_the_living
    assert of_the_living + of_the_dead <= collections.Counter(row["job_id"] for row in database.query(REQUEUED))
    assert not [line for worker in running + dead for line in worker.lines("job_retried")]


def _requeued(worker: Worker) -> list[dict[str, Any]]:
    return [line for line in worker.lines("job_requeued") if line["task"] == "promote"]
