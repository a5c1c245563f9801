"""Each kind of job has places of its own: while those of one are taken, the others are fetched."""

import asyncio

import pytest
from procrastinate import App
from procrastinate.testing import InMemoryConnector

from db.lost_answers import SessionsInUse
from jobs.job_recovery import JobsInHand
from jobs.slots import Slots
from jobs.vital_signs import VitalSigns

pytestmark = pytest.mark.one_postgres

OTHERS = ["reconcile"] * 2 + ["reprocess"] * 2 + ["sweep", "prune", "index"]


def test_no_kind_of_job_takes_another_ones_place() -> None:
    slots = Slots(2)
    assert slots.open_queues(None) is None
    for number, queue in enumerate(OTHERS):
        slots.take(number, queue)
    assert slots.open_queues(None) == ["promote"]
    slots.take(98, "promote")
    slots.take(99, "promote")
    assert slots.open_queues(None) == []
    assert len(OTHERS) + 2 == slots.total
    assert slots.give_back(0)
    assert slots.open_queues(None) == ["reconcile"]
    assert not slots.give_back(1), "no job waited for this place"
    slots.clear()
    assert slots.open_queues(["promote", "elsewhere"]) == ["promote", "elsewhere"]


def test_a_job_that_is_announced_while_the_worker_fetches_is_fetched_at_once() -> None:
    """Procrastinate forgets the wake-up, and the job waited for the next poll."""

    async def fetch() -> str | None:
        app = App(connector=InMemoryConnector())

        @app.task(name="promote", queue="promote")
        async def promote() -> None:
            """Do nothing."""

        slots = Slots(2)
        manager = JobsInHand(app.connector, VitalSigns(2), SessionsInUse(), slots)
        worker_id = await app.job_manager.register_worker()
        inner = app.connector.execute_query_one_async
        asked = 0

        async def slow(*given: object, **more: object) -> object:
            nonlocal asked
            asked += 1
            found = await inner(*given, **more)  # type: ignore[arg-type]
            if asked == 1:
                await promote.defer_async()
                slots.changes += 1
            return found

        app.connector.execute_query_one_async = slow  # type: ignore[method-assign, assignment]
        job = await manager.fetch_job(None, worker_id)
        return job.task_name if job else None

    assert asyncio.run(fetch()) == "promote"
