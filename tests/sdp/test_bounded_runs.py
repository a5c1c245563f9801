"""A run has an end, by its time and its rows; one that ends early loses nothing, and the next one goes on there."""

import itertools
import time
from collections.abc import Callable
from types import SimpleNamespace

import pytest

from app.sdp import tenant_run
from tests.support.fake_sdp import Asked
from tests.support.reconciled import Place, StartWorker, settled
from tests.support.system import Database, Tenant

pytestmark = pytest.mark.one_postgres

SECONDS = 25.0  # of a run in these tests; by their clock each request takes one, as at the default rate
ENDLESS = "the list has no end"


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch, module_place: Place) -> Callable[[], int]:
    """Let a second pass for each request, however long it really takes; return how many have passed."""
    module_place.clear()
    begun = time.monotonic()
    seconds = itertools.count()
    module_place.sdp.before_answer = lambda _asked: next(seconds)
    monkeypatch.setattr(tenant_run, "time", SimpleNamespace(monotonic=lambda: begun + len(module_place.sdp.asked)))
    return lambda: len(module_place.sdp.asked)


@pytest.mark.parametrize("apart", [0, 1])
def test_what_was_edited_at_once_is_caught_up_in_several_runs(
    module_place: Place, clock: Callable[[], int], apart: int
) -> None:
    """All of them are fetched once, although ticket_history has them as they were resolved, and each run reads them."""
    place, minutes = module_place, 60_000
    ids = place.sdp.add_resolved(80, at=place.sdp.now() - 60 * minutes, apart=0)
    place.store_all(ids)
    for number, ticket_id in enumerate(ids):
        place.sdp.edit(ticket_id, at=place.sdp.now() - 1 * minutes + number * apart, subject="Edited")
    taken = []
    for _ in range(6):
        before = clock()
        summary = place.run(seconds=SECONDS)
        taken.append(clock() - before)
        assert summary.error is None
        if summary.is_complete:
            break
    assert summary.is_complete
    assert max(taken) <= SECONDS + 2
    assert sorted(place.sdp.fetched()) == sorted(ids)
    [new] = place.sdp.add_resolved()
    assert place.run(seconds=SECONDS).appended == 1
    assert place.appended() == [new]


def test_a_list_that_takes_several_runs_is_gone_through(
    module_place: Place, clock: Callable[[], int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """More tickets lie within the last ten minutes than a run may list; what became visible meanwhile is found too."""
    del clock
    place = module_place
    monkeypatch.setattr(tenant_run, "MOST_ROWS", 100)
    now = place.sdp.now()
    opened = [place.sdp.add(at=now - 60_000 + number) for number in range(250)]
    runs, late = 0, list[str]()
    while not place.run(seconds=SECONDS).is_complete:
        runs += 1
        assert runs <= 6, "each run goes on where the one before it ended"
        if runs == 2:
            late = place.sdp.add_resolved(at=now - 60_001)  # before what two runs have read
    for _ in range(7):
        place.run(seconds=SECONDS)
    assert late
    assert place.appended() == late
    assert len(opened) == 250


def test_more_tickets_of_one_moment_than_a_run_may_list(
    module_place: Place, clock: Callable[[], int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It says so; a run by hand has no limit, and comes past them."""
    del clock
    place = module_place
    monkeypatch.setattr(tenant_run, "MOST_ROWS", 100)
    at = place.sdp.now() - 60_000
    for _ in range(150):
        place.sdp.add(at=at)
    place.run(seconds=SECONDS)
    [ticket_id] = place.sdp.add_resolved()
    assert "than a run has time to list" in (place.run(seconds=SECONDS).error or "")
    assert place.run().error is None
    assert place.appended() == [ticket_id]


def row(number: int, at: int) -> dict[str, object]:
    return {"id": str(number), "last_updated_time": {"value": str(at)}, "status": {"name": "Open"}}


@pytest.mark.parametrize("kind", ["the same page", "one moment", "a filter ignored"])
def test_a_list_without_end_ends_with_a_reason(module_place: Place, kind: str) -> None:
    """It says that there is more, for ever, wherever the run asks it to begin."""
    place = module_place
    place.clear()
    now = place.sdp.now()
    apart = 0 if kind == "one moment" else 1
    before = 86_400_000 * 30 if kind == "a filter ignored" else 0
    page = [row(number, now - before + number * apart) for number in range(100)]
    place.sdp.fail("wrong", times=10_000, body={"requests": page, "list_info": {"has_more_rows": True}})
    summary = place.run(seconds=200.0)
    assert not summary.is_complete
    assert ENDLESS in (summary.error or "") or "begins before" in (summary.error or "")
    assert len(place.sdp.asked) < 20


def test_a_list_that_grows_for_ever_ends_with_its_rows(module_place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    place = module_place
    place.clear()
    monkeypatch.setattr(tenant_run, "MOST_ROWS", 1000)
    numbers = itertools.count()
    now = place.sdp.now() - 60_000

    def grow(_asked: Asked) -> None:
        rows = [row(number, now + number) for number in itertools.islice(numbers, 100)]
        place.sdp.heal()
        place.sdp.before_answer = grow
        place.sdp.fail("wrong", body={"requests": rows, "list_info": {"has_more_rows": True}})

    place.sdp.before_answer = grow
    summary = place.run(seconds=200.0)
    assert (summary.is_complete, summary.listed) == (False, 1000)


def test_what_was_dealt_with_counts_only_as_long_as_it_is_there(module_place: Place) -> None:
    """The tenant was removed and is there again, or a part of a backup was restored: it is fetched and stored again."""
    place = module_place
    place.clear()
    [ticket_id] = place.sdp.add_resolved()
    place.sdp.edit(ticket_id, at=place.sdp.now() + 1000)
    resolved = int(place.sdp.ticket(ticket_id)["resolved_time"]["value"])
    assert place.counts() == {"seen": 1, "appended": 1}
    place.database.query("UPDATE inbox SET status = 'promoted', action = 'inserted'")
    place.store(ticket_id, resolved)
    assert place.counts() == {"seen": 1, "already_there": 1}
    assert len(place.sdp.fetched()) == 1
    place.database.query("DELETE FROM ticket_history")
    assert place.counts() == {"seen": 1, "appended": 1}, "although the inbox has its bytes"
    place.database.query("DELETE FROM inbox")
    assert place.counts() == {"seen": 1, "appended": 1}
    assert len(place.sdp.fetched()) == 3


def test_promotion_waits_behind_no_tenant_that_hangs(
    place: Place, database: Database, secrets_key: str, start_worker: StartWorker
) -> None:
    """Two reconciliations hang, which were both places of a worker; a webhook is promoted all the same."""
    other = settled(database, place.sdp, place.environment, secrets_key)
    place.sdp.fail("hang", times=10_000)
    worker = start_worker(WORKER_CONCURRENCY="2")
    worker.wait_for_line("worker_started", within=30)
    for one in (place, other):
        database.defer("reconcile", tenant_id=one.tenant.id)
    doing = "SELECT count(*) FROM procrastinate_jobs WHERE task_name = 'reconcile' AND status = 'doing'"
    database.wait_for(doing, 2, within=20)
    database.deliver(Tenant("quick", "secret").payload())
    database.wait_for("SELECT count(*) FROM ticket_history", 1, within=15)
    assert database.value(doing) == 2
    worker.process.kill()
