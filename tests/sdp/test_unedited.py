"""A ticket that was created as Closed, and never edited, is in no list by the last update; it is stored all the same."""

from datetime import UTC, datetime, timedelta

import pytest

from tests.support.commands_in_process import invoke
from tests.support.fake_sdp_ways import VENDORS_LIST
from tests.support.reconciled import Place

pytestmark = pytest.mark.one_postgres

HOUR = 3_600_000
NEVER = [None, {"value": ""}, {"value": None}, {"value": "0"}, {"value": "-1"}]
MONTH = timedelta(days=30)


def walk_ins(place: Place, count: int, at: int, apart: int = 1, never: object = None) -> list[str]:
    """Add tickets that were created as Closed, and never edited."""
    ids = place.sdp.add_resolved(count, at, apart)
    for ticket_id in ids:
        place.sdp.edit(ticket_id, last_updated_time=never, created_time=place.sdp.ticket(ticket_id)["resolved_time"])
    return ids


@pytest.mark.parametrize("lacks", [frozenset(), VENDORS_LIST], ids=["the list brings all", "the list brings little"])
def test_it_is_appended_once(module_place: Place, lacks: frozenset[str]) -> None:
    place = module_place
    place.clear()
    place.sdp.ways.list_lacks = lacks
    now = place.sdp.now()
    ids = [one for number, never in enumerate(NEVER) for one in walk_ins(place, 1, now - HOUR + number, never=never)]
    [edited] = place.sdp.add_resolved(at=now - HOUR // 2)
    assert place.counts() == {"seen": len(ids) + 1, "appended": len(ids) + 1}
    assert sorted(place.appended()) == sorted([*ids, edited])
    assert place.position() == now - HOUR // 2
    place.sdp.asked.clear()
    assert place.counts() in ({"seen": 1, "already_there": 1}, {"seen": len(ids) + 1, "already_there": len(ids) + 1})
    assert len(place.appended()) == len(ids) + 1
    assert (len(place.sdp.lists()), len(place.sdp.lists(by="created_time"))) == (1, 1)


def test_many_of_them_among_many_others_in_both_lists_and_the_archive(module_place: Place) -> None:
    place = module_place
    place.clear()
    now = place.sdp.now()
    ids = walk_ins(place, 105, now - HOUR, apart=60_000) + place.sdp.add_resolved(102, now - 2 * HOUR, 90_000)
    old = walk_ins(place, 2, now - 4 * HOUR) + place.sdp.add_resolved(2, now - 4 * HOUR)
    place.sdp.archive(*old)
    summary = place.import_since(datetime.now(UTC) - MONTH)
    assert (summary.error, summary.adds_up, summary.archived) == (None, True, 4)
    assert sorted(place.appended()) == sorted([*ids, *old])
    summary = place.import_since(datetime.now(UTC) - MONTH)
    assert (summary.error, summary.appended, summary.adds_up) == (None, 0, True)


def test_one_that_is_created_while_a_run_reads_is_met_by_the_next(module_place: Place) -> None:
    place = module_place
    place.clear()
    place.sdp.add_resolved(110, apart=1000)
    late: list[str] = []

    def add(_asked: object) -> None:
        if len(place.sdp.lists()) == 2 and not late:
            late.extend(walk_ins(place, 1, place.sdp.now()))

    place.sdp.before_answer = add
    place.run()
    place.sdp.heal()
    place.run()
    assert late[0] in place.appended()


def test_runs_that_end_early_come_past_more_of_them_than_one_can_list(
    module_place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = module_place
    place.clear()
    monkeypatch.setattr("app.sdp.tenant_run.MOST_ROWS", 100)
    now = place.sdp.now()
    ids = walk_ins(place, 230, now - HOUR, apart=1000) + place.sdp.add_resolved(1, now - HOUR // 2)
    for _ in range(5):
        place.run(seconds=60)
    assert set(place.appended()) == set(ids)


def test_where_no_list_by_creation_can_be_had_the_run_goes_on_and_says_so(module_place: Place) -> None:
    place = module_place
    place.clear()
    [ticket_id] = place.sdp.add_resolved()
    place.sdp.before_answer = lambda asked: (
        place.sdp.fail("error", times=1, code=4001)
        if (asked.list_info or {}).get("sort_field") == "created_time"
        else None
    )
    summary = place.run()
    assert place.appended() == [ticket_id]
    assert summary.is_complete
    assert "never edited after their creation were not listed" in summary.remarks[0]
    found = invoke(place.quick, "doctor", "--tenant", place.tenant.id, "--url", "http://127.0.0.1:1").stdout
    [line] = [one for one in found.splitlines() if "nothing is missing" in one]
    assert line.startswith("note ")
    assert "but tickets that were never edited after their creation were not listed" in line
