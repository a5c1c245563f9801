"""The number that people know a ticket by: a list brings it to tickets that have none, and finds tickets by it."""

import asyncio

import pytest

from app.sdp import reconcile as runs
from app.sdp.errors import SdpError
from db import engine as engines
from tests.support.fake_sdp import FakeSdp
from tests.support.fake_sdp_ways import VENDORS_LIST
from tests.support.reconciled import Place

pytestmark = pytest.mark.one_postgres


def named(place: Place, *display_ids: str) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}

    async def ask() -> None:
        engine = engines.create_engine(place.database.url, "test", 1, 30.0)
        try:
            async with engines.connection(engine) as connection:
                await runs.find_named(connection, place.settings, place.tenant.id, display_ids, found)
        finally:
            await engine.dispose()

    asyncio.run(ask())
    return found


def test_what_is_appended_has_it_from_the_list_or_the_ticket(place: Place, sdp: FakeSdp) -> None:
    sdp.ways.list_lacks = frozenset()
    [number, text, without] = sdp.add_resolved(3)
    sdp.edit(number, display_id=4711)
    sdp.edit(text, display_id="4712")
    sdp.edit(without, display_id=None)
    assert place.counts() == {"seen": 3, "appended": 3}
    rows = place.database.query("SELECT ticket_id, display_id FROM inbox ORDER BY ticket_id")
    assert [row["display_id"] for row in rows] == ["4711", "4712", None]
    assert sdp.fetched() == []
    place.clear()
    sdp.ways.list_lacks = VENDORS_LIST
    [fetched] = sdp.add_resolved()
    sdp.edit(fetched, display_id="4713")
    assert place.counts() == {"seen": 1, "appended": 1}
    assert sdp.fetched() == [fetched]
    assert place.database.value("SELECT display_id FROM inbox") == "4713"


def test_a_ticket_that_is_held_without_one_gets_it_from_the_list(place: Place, sdp: FakeSdp) -> None:
    """Whatever its status is by now; and no ticket is fetched for it."""
    ids = sdp.add_resolved(4)
    place.store_all(ids)
    place.database.query("UPDATE ticket_history SET display_id = 'kept' WHERE ticket_id = %s", ids[0])
    place.database.query("UPDATE ticket_history SET tenant_id = 'another' WHERE ticket_id = %s", ids[1])
    sdp.edit(ids[2], status={"name": "Open"})
    sdp.edit(ids[3], display_id={"odd": 1})
    before = place.database.query("SELECT * FROM ticket_history ORDER BY ticket_id")
    assert place.run(is_dry=True).named == 0
    assert place.database.query("SELECT * FROM ticket_history ORDER BY ticket_id") == before
    summary = place.run()
    assert (summary.named, summary.adds_up, summary.error) == (1, True, None)
    after = place.database.query("SELECT * FROM ticket_history ORDER BY ticket_id")
    assert [row["display_id"] for row in after] == ["kept", None, sdp.ticket(ids[2])["display_id"], None]
    unchanged = [{name: one for name, one in row.items() if name not in ("display_id", "updated_at")} for row in after]
    assert unchanged == [{name: row[name] for name in unchanged[0]} for row in before]
    assert place.run().named == 0


def test_tickets_are_found_by_it_a_hundred_in_a_question(place: Place, sdp: FakeSdp) -> None:
    ids = sdp.add_resolved(103)
    by_display_id = {str(sdp.ticket(one)["display_id"]): one for one in ids}
    sdp.archive(ids[0])
    sdp.edit(ids[1], display_id=777_777)
    sdp.edit(ids[2], display_id="777777")
    wanted = [*list(by_display_id)[:1], *list(by_display_id)[3:], "777777", "999999", "999999"]
    found = named(place, *wanted)
    expected = {one: [by_display_id[one]] for one in by_display_id if by_display_id[one] not in ids[1:3]}
    assert found == {**expected, "777777": [ids[2], ids[1]]}
    lists = [one for one in sdp.asked if one.list_info]
    assert [(one.where, one.list_info["row_count"]) for one in lists if one.list_info] == [
        ("requests", 100), ("requests", 100), ("archive_requests", 100),
    ]  # fmt: skip
    assert named(place) == {}


def test_a_portal_that_cannot_say_so_is_not_believed(place: Place, sdp: FakeSdp) -> None:
    [ticket_id] = sdp.add_resolved()
    display_id = str(sdp.ticket(ticket_id)["display_id"])
    for ways in ("no archive", "forbidden", "bare 404"):
        sdp.ways.archive = ways
        assert named(place, display_id, "999999") == {display_id: [ticket_id]}, ways
    sdp.ways.ignores_criteria = True
    with pytest.raises(SdpError, match="asked for tickets by their display ids, and gave others"):
        named(place, "999999")
    sdp.ways.ignores_criteria, sdp.ways.list_lacks = False, {"display_id"}
    with pytest.raises(SdpError, match="asked for tickets by their display ids, and gave others"):
        named(place, display_id)
