"""One odd ticket is that ticket's fault: it is listed with its reason, and stops neither the others nor later runs."""

import contextlib
import json
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from app.sdp import answers, epoch, listed, tokens
from app.sdp.answers import Answer
from app.sdp.errors import SdpError, retry_after
from tests.support.commands_in_process import invoke
from tests.support.fake_sdp_ways import VENDORS_LIST
from tests.support.reconciled import Place

pytestmark = pytest.mark.one_postgres

DAY = 86_400_000
MEMBERS = ("id", "last_updated_time", "status", "resolved_time", "completed_time", "resolution", "tags", "subject")
RAW = [
    b"null", b"true", b"7", b"-1", b"1e400", b"NaN", b"-Infinity", b"9" * 5000, b'""', b'" "', b'"\\u0000"', b'"\\ud83d"',
    b'"\xff"', b'"a\x01b"', b'"\\x"', b'"../.."', b'"' + b"x" * 200_000 + b'"', b"[" * 3000 + b"]" * 3000, b"{}", b"[]",
    b'{"value": "999999999999999"}', b'{"value": 99999999999999999999}', b'{"value": -5}', b'{"value": ""}', b'{"value": null}',
    b'{"value": NaN}', b'{"value": "1e3"}', b'{"value": "4102444800000"}', b'{"name": {}}', b'{"name": "\\ud83d"}',
    b'"7", "id": "8"', b'7, "last_updated_time": {"value": "1"}', b'{"value": "1", "value": []}',
]  # fmt: skip
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["value", "name", "x"]), inner, max_size=3)
    ),
    max_leaves=5,
)
FRAMES = [
    b"@", b'{"response_status": @}', b'{"response_status": {"status_code": @, "messages": @}}',
    b'{"response_status": [{"status_code": 4000, "messages": [{"status_code": @, "message": @}]}]}',
    b'{"requests": @, "list_info": {"has_more_rows": false, "total_count": @}}', b'{"requests": [@, @], "list_info": @}',
    b'{"requests": [{"id": @, "last_updated_time": @, "status": @}], "list_info": {"has_more_rows": true}}',
    b'{"request": @}', b'{"request": {"id": "1", "status": @, "resolved_time": @, "completed_time": {"value": @}}}',
    b'{"access_token": @, "expires_in": @, "error": @}',
]  # fmt: skip
ODD = st.sampled_from(RAW) | JSON.map(lambda found: json.dumps(found).encode())


@settings(max_examples=5, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@example({"last_updated_time": b'{"value": "999999999999999"}'})
@example({"last_updated_time": b'{"value": "4102444800000"}'})
@example({"id": b"NaN"})
@example({"status": b"[" * 3000 + b"]" * 3000})
@given(st.dictionaries(st.sampled_from(MEMBERS), ODD, min_size=1, max_size=3))
def test_whatever_a_ticket_holds_the_others_are_appended(module_place: Place, members: dict[str, bytes]) -> None:
    place = module_place
    place.clear()
    first, odd, second = place.sdp.add_resolved(3)
    place.sdp.disguise(odd, **members)
    place.run()
    assert {first, second} <= set(place.appended())
    assert place.position() <= place.sdp.now() + DAY
    [later] = place.sdp.add_resolved(at=place.sdp.now() + 1)
    summary = place.run()
    appended = place.appended()
    assert sorted(one for one in appended if one in (first, second, later)) == sorted([first, second, later])
    assert len(summary.error or "") < 1000


@given(
    st.sampled_from(RAW) | st.binary(max_size=50) | JSON.map(lambda found: json.dumps(found).encode()),
    st.sampled_from(FRAMES),
)
def test_whatever_answer_comes_only_our_own_errors_are_raised(raw: bytes, frame: bytes) -> None:
    """One of our errors is one line without a traceback, whatever the answer says, and to whichever question."""
    for status in (200, 302, 400, 404):
        answer = Answer(
            status, {"location": raw.decode("latin-1"), "content-type": raw.decode("latin-1")}, frame.replace(b"@", raw)
        )
        for reader in (
            lambda body: listed.read_page(body, 100),
            lambda body: answers.read(tokens.Granted, body),
            whole,
        ):
            with contextlib.suppress(SdpError):
                reader(answers.judge(answer))
    clock = epoch.Clock()
    clock.read({"date": raw.decode("latin-1")})
    retry_after({"retry-after": raw.decode("latin-1"), "date": raw.decode("latin-1")})


def whole(body: bytes) -> int | None:
    """Read the answer to the question for one ticket."""
    return answers.read(answers.Times, answers.read(answers.Whole, body).ticket).resolved


@pytest.mark.parametrize(
    ("members", "words"),
    [
        ({"last_updated_time": b'{"value": "999999999999999"}'}, "999999999999999 ms) lies more than a day ahead"),
        ({"last_updated_time": b'{"value": "4102444800000"}'}, "(2100-01-01 00:00) lies more than a day ahead"),
        ({"last_updated_time": b'{"value": "soon"}'}, "in the list its `last_updated_time` is no object"),
        ({"status": b'"Resolved"', "subject": b"NaN"}, "in the list its `status` is neither null nor an object"),
        ({"id": b"155000000000000007"}, "in the list its `id` is no string of 1 to 100 characters"),
    ],
)
def test_it_is_listed_with_its_reason(module_place: Place, members: dict[str, bytes], words: str) -> None:
    place = module_place
    place.clear()
    good, odd = place.sdp.add_resolved(2)
    place.sdp.disguise(odd, **members)
    for _ in range(2):
        summary = place.run()
        assert summary.is_complete
        assert words in (summary.error or "")
    shown = invoke(place.environment, "tenant", "sdp", "show", place.tenant.id).stdout
    assert f"ticket {'(no id)' if 'id' in members else odd}: " in shown
    assert words in shown.splitlines()[-1]
    assert good in place.appended()
    rejected = place.database.query("SELECT ticket_id FROM inbox WHERE status = 'rejected'")
    assert [row["ticket_id"] for row in rejected] == ([odd] if "status" in members else [])
    place.sdp.disguise(odd)
    assert place.run().error is None
    assert set(place.appended()) == {good, odd}
    assert "ticket " not in invoke(place.environment, "tenant", "sdp", "show", place.tenant.id).stdout


def test_a_time_that_is_to_come_is_appended_and_moves_no_cursor(module_place: Place) -> None:
    """A ticket that is resolved is resolved, whatever its update time says."""
    place = module_place
    place.clear()
    good, odd = place.sdp.add_resolved(2)
    place.sdp.edit(odd, at=4_102_444_800_000)
    summary = place.run()
    assert (summary.appended, summary.is_complete) == (2, True)
    assert place.position() == int(place.sdp.ticket(good)["last_updated_time"]["value"])
    assert [place.run().already_there, len(place.sdp.fetched())] == [2, 2], "it is fetched once"


def test_a_cursor_that_an_earlier_version_moved_there_begins_again(module_place: Place) -> None:
    place = module_place
    place.clear()
    place.run()
    place.database.query("UPDATE sdp_cursors SET position = '2100-01-01'")
    [ticket_id] = place.sdp.add_resolved()
    assert place.counts() == {"seen": 1, "appended": 1}
    assert place.appended() == [ticket_id]
    assert place.position() <= place.sdp.now()


@pytest.mark.parametrize("to", ["http://[", "http://[::1", "//", "http://\x1b[31m", "x" * 5000, "http://me:hush@sdp/"])
def test_a_ticket_that_leads_elsewhere(module_place: Place, to: str) -> None:
    place = module_place
    place.clear()
    odd, good = place.sdp.add_resolved(2)
    place.sdp.fail("redirect", times=1000, on=f"requests/{odd}", to=to)
    summary = place.run()
    assert place.appended() == [good]
    assert summary.is_complete
    assert "points to" in (summary.error or "")
    assert "hush" not in (summary.error or "")
    assert (summary.error or "").isprintable()


@pytest.mark.parametrize(
    ("lacks", "members"),
    [
        (VENDORS_LIST, {"status": "Resolved"}),
        (frozenset(), {"resolved_time": {"value": "soon"}, "completed_time": {"value": ""}}),
    ],
    ids=["the vendor's list", "a full list"],  # a set's own text differs from process to process
)
def test_any_number_of_tickets_that_break_a_rule_is_rejected_and_holds_up_nothing(
    module_place: Place, lacks: frozenset[str], members: dict[str, Any]
) -> None:
    """The 101st used to stop its tenant's runs for good."""
    place = module_place
    place.clear()
    place.sdp.ways.list_lacks = lacks
    odd, good = place.sdp.add_resolved(103), place.sdp.add_resolved(3)
    for ticket_id in odd:
        place.sdp.edit(ticket_id, int(place.sdp.ticket(ticket_id)["resolved_time"]["value"]), **members)
    summary = place.run()
    assert (summary.is_complete, summary.rejected, summary.appended, summary.adds_up) == (True, 103, 3, True)
    assert place.position() == int(place.sdp.ticket(good[-1])["last_updated_time"]["value"])
    assert place.database.value("SELECT count(*) FROM inbox WHERE status = 'rejected' AND error IS NOT NULL") == 103
    summary = place.run()
    assert (summary.rejected, summary.appended, summary.adds_up) == (0, 0, True)


def test_more_odd_tickets_than_can_be_their_own_fault_end_the_run(module_place: Place) -> None:
    place = module_place
    place.clear()
    [good] = place.sdp.add_resolved(at=place.sdp.now() - 3_600_000)
    for ticket_id in place.sdp.add_resolved(101, at=place.sdp.now() + 3 * DAY):
        place.sdp.edit(ticket_id, at=place.sdp.now() + 3 * DAY, status={"id": "2", "name": "Open"})
    summary = place.run()
    assert not summary.is_complete
    assert "and 100 before it are odd too" in (summary.error or "")
    assert place.appended() == [good]
    assert datetime.fromtimestamp(place.position() / 1000, UTC) < datetime.now(UTC)


def test_an_id_that_is_a_number_is_rejected_and_not_lost(module_place: Place) -> None:
    """Of so few digits nothing is lost in a number: its ticket can be fetched, and kept with what is wrong with it."""
    place = module_place
    place.clear()
    ticket_id = place.sdp.add(id="4711")
    place.sdp.resolve(ticket_id)
    place.sdp.disguise(ticket_id, id=b"4711")
    assert place.counts() == {"seen": 1, "rejected": 1}
    [row] = place.database.query("SELECT ticket_id, error FROM inbox")
    assert (row["ticket_id"], "request.id must be a string" in row["error"]) == (ticket_id, True)
    assert place.counts() == {"seen": 1, "already_there": 1}
