"""What a list brings is not asked for again: a ticket is fetched only where something of it is missing."""

import json

import msgspec
import pytest

from app import event
from app import settings as environments
from app.event.rules import Rules
from app.sdp.client import FEW_FIELDS
from tests.support.fake_sdp import Asked
from tests.support.fake_sdp_ways import NO_DESCRIPTION, VENDORS_LIST
from tests.support.reconciled import Place

pytestmark = pytest.mark.one_postgres

COUNT = 30


@pytest.fixture
def place(module_place: Place) -> Place:
    module_place.clear()
    return module_place


@pytest.mark.parametrize(
    ("lacks", "new", "known"),
    [(frozenset(), 0, 0), (NO_DESCRIPTION, COUNT, 0), (VENDORS_LIST, COUNT, COUNT)],
    ids=["all of it", "no description", "neither resolution nor times"],
)
def test_how_many_questions_a_portal_costs(place: Place, lacks: frozenset[str], new: int, known: int) -> None:
    """New tickets, and then the same ones, edited since they were stored: in questions beside those for lists."""
    place.sdp.ways.list_lacks = lacks
    ids = place.sdp.add_resolved(COUNT, at=place.sdp.now() - 3_600_000)
    assert place.counts() == {"seen": COUNT, "appended": COUNT}
    assert (len(place.sdp.fetched()), len(place.sdp.lists())) == (new, 1)
    place.store_all(ids)
    for ticket_id in ids:
        place.sdp.edit(ticket_id, subject="Edited since")
    place.sdp.asked.clear()
    assert place.counts() == {"seen": COUNT, "already_there": COUNT}
    assert len(place.sdp.fetched()) == known


def test_what_a_list_brings_is_the_ticket_as_if_fetched(place: Place) -> None:
    """A ticket that breaks a rule as the list has it is fetched, and so is one that may have more than the list."""
    fetched, listed, cut = place.sdp.add_resolved(3, apart=0)
    for one in (fetched, listed):
        place.sdp.edit(one, subject="Twice", description="<p>Since Monday</p>", tags=[{"name": "vpn"}], site=None)
    place.sdp.edit(cut, subject="Printer \ud83d", tags=["größer"])
    place.sdp.ways.list_lacks = ()
    place.sdp.disguise(fetched, priority=b'["in words"]')
    place.sdp.before_answer = lambda asked: place.sdp.disguise(fetched) if asked.ticket_id else None
    assert place.counts() == {"seen": 3, "appended": 3}
    assert place.sdp.fetched() == [fetched]
    rows = place.database.query("SELECT ticket_id, payload, status FROM inbox")
    assert {row["status"] for row in rows} == {"pending"}
    tickets = {row["ticket_id"]: event.check(row["payload"], Rules()).ticket() for row in rows}
    assert tickets[listed] == msgspec.structs.replace(tickets[fetched], ticket_id=listed)
    assert tickets[cut].description.startswith("Printer ?")
    assert tickets[cut].tags == ["größer"]


@pytest.mark.parametrize(
    ("member", "raw"),
    [
        ("description", b"null"),
        ("resolution", b"null"),
        ("resolution", b'{"content": null}'),
        ("resolution", b'{"content": " "}'),
        ("resolved_time", b"null"),
        ("subject", b"null"),
    ],
)
def test_null_in_a_list_may_be_more_in_the_ticket(place: Place, member: str, raw: bytes) -> None:
    """What a list shows as null it may only not bring: no ticket is emptied by it."""
    place.sdp.ways.list_lacks = ()
    [ticket_id] = place.sdp.add_resolved()
    place.sdp.disguise(ticket_id, **{member: raw})
    place.sdp.before_answer = lambda asked: place.sdp.disguise(ticket_id) if asked.ticket_id else None
    assert place.counts() == {"seen": 1, "appended": 1}
    assert place.sdp.fetched() == [ticket_id]
    [row] = place.database.query("SELECT payload FROM inbox")
    assert json.loads(row["payload"])["request"][member]


def test_tags_that_no_ticket_has_are_not_asked_for(place: Place) -> None:
    """Where a list has no member `tags`, the first whole ticket shows whether the tickets have one."""
    place.sdp.ways.list_lacks = {"tags"}
    ids = place.sdp.add_resolved(5)
    assert place.counts()["appended"] == 5
    assert place.sdp.fetched() == ids, "whole tickets have tags"
    place.clear()
    ids = place.sdp.add_resolved(5)
    place.sdp.ways.list_lacks, place.sdp.ways.tickets_lack = (), {"tags"}
    assert place.counts()["appended"] == 5
    assert place.sdp.fetched() == ids[:1]


def break_full_lists(place: Place, kind: str) -> None:
    """Let each list fail that asks for more than a few fields."""

    def fail(asked: Asked) -> None:
        place.sdp.heal()
        if asked.list_info is not None and asked.list_info["fields_required"] != FEW_FIELDS:
            place.sdp.fail(kind)
        place.sdp.before_answer = fail

    place.sdp.before_answer = fail


@pytest.mark.parametrize("kind", ["a refused field", "500", "html", "too long"])
def test_a_list_that_cannot_be_had_is_asked_for_with_fewer_fields(
    place: Place, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One ticket's text must not hold up all that are listed beside it."""
    place.sdp.ways.list_lacks = ()
    [ticket_id] = place.sdp.add_resolved()
    if kind == "a refused field":
        place.sdp.ways.refuses_fields = {"resolution"}
    elif kind == "too long":
        place.sdp.edit(ticket_id, description="x" * 5000)
        place.sdp.add(description="y" * 5000)
        monkeypatch.setattr("app.sdp.transport.MOST_BYTES", 8000)
    else:
        break_full_lists(place, kind)
    assert place.counts() == {"seen": 1, "appended": 1}
    assert place.sdp.fetched() == [ticket_id]
    [*_, last] = place.sdp.lists()
    assert last["fields_required"] == FEW_FIELDS


def test_the_default_is_below_what_others_advise() -> None:
    assert environments.load({}).sdp_requests_per_minute == 25


@pytest.mark.parametrize("nothing", [" ", "<div><br></div>", "&nbsp;", "\u200b"])
def test_a_resolution_without_words_may_be_said_elsewhere_in_the_ticket(place: Place, nothing: str) -> None:
    """What an editor leaves of an empty resolution is no text: the list has no `closure_info`."""
    place.sdp.ways.list_lacks = ()
    [ticket_id] = place.sdp.add_resolved()
    place.sdp.edit(
        ticket_id, resolution={"content": nothing}, closure_info={"closure_comments": "Told her to restart."}
    )
    assert place.counts() == {"seen": 1, "appended": 1}
    assert place.sdp.fetched() == [ticket_id]
