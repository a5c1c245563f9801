"""A list may leave out what is documented, and may not be the list that was asked for: neither goes unnoticed."""

from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest

from app.sdp import listed, order
from app.sdp.errors import SdpError
from tests.support.commands_in_process import invoke
from tests.support.fake_sdp_ways import LEFT_OUT
from tests.support.reconciled import Place

pytestmark = pytest.mark.one_postgres

YEAR = 365 * 86_400_000
NOT_FILTERED = "begins before the last_updated_time that was asked for"
LEAVING_OUT = [
    {"has_more_rows": LEFT_OUT},
    {"has_more_rows": "null"},
    {"has_more_rows": "true or false"},
    {"list_info": LEFT_OUT},
    {"list_info": "null"},
    {"list_info": []},
]


@pytest.mark.parametrize("ways", LEAVING_OUT, ids=str)
def test_a_list_need_not_say_whether_there_is_more(module_place: Place, ways: dict[str, Any]) -> None:
    """Fewer rows than were asked for are the end; so many rows are not."""
    place = module_place
    place.clear()
    for name, said in ways.items():
        setattr(place.sdp.ways, name, said)
    assert place.counts() == {}, "a quiet portal"
    ids = place.sdp.add_resolved(120)
    place.store_all(ids[:119])
    assert place.counts() == {"seen": 120, "already_there": 119, "appended": 1}


@pytest.mark.parametrize("said", [LEFT_OUT, "null"])
def test_a_quiet_portal_may_list_nothing_at_all(module_place: Place, said: str) -> None:
    place = module_place
    place.clear()
    place.sdp.ways.empty_list, place.sdp.ways.list_info = said, said
    assert place.counts() == {}


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"requests": [], "list_info": {"has_more_rows": False}},
        {"requests": None, "response_status": []},
        {"requests": [], "response_status": [{"status": "success"}]},
        {"message": "no Route matched with those values"},
        {"requests": [], "response_status": [{"status_code": 2000}, {"status_code": 3000}, {}], "list_info": 7},
    ],
    ids=str,
)
def test_a_gateways_answer_is_no_empty_portal(module_place: Place, body: dict[str, Any]) -> None:
    place = module_place
    place.clear()
    place.sdp.fail("wrong", times=100, body=body)
    summary = place.run()
    if "list_info" in body and body["list_info"] == 7:
        assert summary.error is None
    else:
        assert (summary.is_complete, summary.listed) == (False, 0)
        assert "answered with no list of tickets" in (summary.error or "")


def test_a_list_that_shows_none_of_its_tickets_is_noted(module_place: Place) -> None:
    """As where our key's technician may see none of them: run and doctor said that nothing was missing."""
    place = module_place
    place.clear()
    place.sdp.add_resolved()
    assert place.counts()["appended"] == 1
    success, info = [{"status_code": 2000}], {"has_more_rows": True, "total_count": 350}
    place.sdp.fail("wrong", times=100, body={"requests": [], "list_info": info, "response_status": success})
    noted = "ServiceDesk Plus says that there are tickets, and lists none of them"
    done = invoke(place.quick, "reconcile", "--tenant", place.tenant.id)
    assert (done.exit_code, f"Note: {noted}" in done.stderr) == (0, True)
    line = doctor(place)
    assert line.startswith("note ")
    assert noted in line


def test_set_takes_a_quiet_portal_too(module_place: Place) -> None:
    place = module_place
    place.clear()
    place.sdp.ways.empty_list, place.sdp.ways.list_info = LEFT_OUT, LEFT_OUT
    assert "which answered" in set_again(place).stdout
    place.sdp.fail("wrong", times=100, body={})
    assert "answered with no list of tickets" in set_again(place).stderr


def test_a_total_says_that_there_is_more() -> None:
    """Of a portal that gives fewer rows than are asked for, and does not say whether there is more."""
    rows = [{"id": str(number), "last_updated_time": {"value": "7"}} for number in range(20)]
    for info, more in (({"total_count": 50}, True), ({"total_count": 20}, False), ({"has_more_rows": "true"}, True)):
        page = listed.read_page(msgspec.json.encode({"requests": rows, "list_info": info}), 100)
        assert page.has_more_rows is more, info


@pytest.mark.parametrize("count", [1, 2, 350])
def test_a_list_that_ignores_the_criterion_ends_the_run(module_place: Place, count: int) -> None:
    """It appends nothing, and leaves the cursor where it is."""
    place = module_place
    place.clear()
    [new] = place.sdp.add_resolved()
    assert place.counts()["appended"] == 1
    reached = place.position()
    place.sdp.add_resolved(count, at=place.sdp.now() - 3 * YEAR)
    place.sdp.ways.ignores_criteria = True
    place.sdp.asked.clear()
    summary = place.run()
    assert NOT_FILTERED in (summary.error or "")
    assert (summary.is_complete, summary.listed, len(place.sdp.asked)) == (False, 0, 1)
    assert (place.appended(), place.position()) == ([new], reached)


def test_neither_is_a_year_of_tickets_taken_for_all(module_place: Place) -> None:
    place = module_place
    place.clear()
    place.sdp.add_resolved(2, at=place.sdp.now() - 3 * YEAR)
    place.sdp.ways.ignores_criteria = True
    since = datetime.now(UTC) - timedelta(days=365)
    for summary in (place.run(since=since), place.import_since(since)):
        assert NOT_FILTERED in (summary.error or "")
    assert place.appended() == []


def test_set_and_doctor_find_it_too(module_place: Place) -> None:
    place = module_place
    place.clear()
    place.sdp.add_resolved()
    place.sdp.ways.ignores_criteria = True
    refused = set_again(place)
    assert (refused.exit_code, len(refused.stderr.splitlines())) == (1, 2), "a warning of http, and the reason"
    assert NOT_FILTERED in refused.stderr
    line = doctor(place)
    assert line.startswith("wrong the API of ServiceDesk Plus: ")
    assert NOT_FILTERED in line
    place.sdp.ways.ignores_criteria = False
    assert set_again(place).exit_code == 0
    assert not doctor(place).startswith("wrong")


def test_a_row_of_its_own_time_is_still_that_tickets_fault() -> None:
    """One of many, and not the first."""
    rows = [{"id": str(number), "last_updated_time": {"value": str(10_000_000 + number)}} for number in range(30)]
    rows[7]["last_updated_time"] = {"value": "1"}
    page = listed.read_page(msgspec.json.encode({"requests": rows}), 100)
    assert [one.ticket_id for one in order.checked(page, 9_000_000).odd] == ["7"]
    rows[0]["last_updated_time"] = {"value": "1"}
    with pytest.raises(SdpError, match=NOT_FILTERED):
        order.checked(listed.read_page(msgspec.json.encode({"requests": rows}), 100), 9_000_000)


def set_again(place: Place) -> Any:  # noqa: ANN401
    credentials = msgspec.json.encode(place.sdp.given).decode()
    environment = place.quick | {"TICKET_INBOX_SDP_CREDENTIALS": credentials}
    return invoke(
        environment, "tenant", "sdp", "set", place.tenant.id, "--edition", place.sdp.edition, "--url", place.sdp.url
    )


def doctor(place: Place) -> str:
    """Return what doctor says of the API."""
    done = invoke(place.quick, "doctor", "--tenant", place.tenant.id, "--url", "http://127.0.0.1:1")
    return str(done.stdout.splitlines()[-1])


def test_a_full_page_is_not_the_end_of_a_list_that_counts_more(module_place: Place) -> None:
    """It says `has_more_rows: false` after 100 of 230: the others were missed, and nothing said so."""
    place = module_place
    place.clear()
    place.sdp.ways.has_more_rows = False
    place.store_all(place.sdp.add_resolved(230, apart=10))
    assert place.counts() == {"seen": 230, "already_there": 230}
