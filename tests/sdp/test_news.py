"""What was fetched and says another resolution, or another date, than what stands is appended, after all that came."""

import asyncio
import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from db import engine as engines
from jobs.promote import promote_batch
from tests.support.fake_sdp import Asked
from tests.support.fake_sdp_ways import VENDORS_LIST
from tests.support.reconciled import Place

pytestmark = pytest.mark.one_postgres

HOUR = 3_600_000
PENDING = "SELECT id FROM inbox WHERE status = 'pending' ORDER BY id"


@pytest.fixture(params=[frozenset(), VENDORS_LIST], ids=["the list brings all", "the list brings little"])
def place(module_place: Place, request: pytest.FixtureRequest) -> Iterator[Place]:
    module_place.clear()
    module_place.sdp.ways.list_lacks = request.param
    yield module_place
    module_place.sdp.heal()


def promote(place: Place) -> None:
    """Promote all pending rows in this process, one after the other."""

    async def all_of_them() -> None:
        engine = engines.create_engine(place.database.url, "test", 1, 30.0)
        try:
            for row in place.database.query(PENDING):
                await promote_batch(engine, [row["id"]])
        finally:
            await engine.dispose()

    asyncio.run(all_of_them())


def send(place: Place, ticket_id: str) -> None:
    """Deliver a ticket as it is now, as its webhook would."""
    body = json.dumps({"tenant_id": place.tenant.id, "request": place.sdp.ticket(ticket_id)}).encode()
    place.database.query(
        "INSERT INTO inbox (tenant_id, ticket_id, correlation_id, payload, signature) VALUES (%s, %s, 'c', %s, 's')",
        place.tenant.id, ticket_id, body,
    )  # fmt: skip


def resolved_without_words(place: Place) -> str:
    """Add a ticket whose status was set an hour ago, without a resolution."""
    ticket_id = place.sdp.add()
    place.sdp.resolve(ticket_id, place.sdp.now() - HOUR)
    place.sdp.edit(ticket_id, place.sdp.now() - HOUR, resolution=None)
    return ticket_id


def said(text: str) -> dict[str, str]:
    return {"content": f"<div>{text}</div>"}


def test_the_resolution_that_comes_after_the_status_is_stored(place: Place) -> None:
    """Its webhook never came; and the first, empty event, sent again after it, changes nothing."""
    ticket_id = resolved_without_words(place)
    send(place, ticket_id)
    promote(place)
    first = place.database.value("SELECT payload FROM inbox")
    place.sdp.edit(ticket_id, resolution=said("Rolled back."))
    assert place.counts() == {"seen": 1, "appended": 1}
    promote(place)
    assert place.history(ticket_id)["resolution"] == "Rolled back."
    place.database.query(
        "INSERT INTO inbox (tenant_id, ticket_id, correlation_id, payload, signature) VALUES (%s, %s, 'c', %s, 's')",
        place.tenant.id, ticket_id, first,
    )  # fmt: skip
    promote(place)
    assert place.history(ticket_id)["resolution"] == "Rolled back."
    assert place.counts() == {"seen": 1, "already_there": 1}


@pytest.mark.parametrize(
    ("members", "outcome"),
    [
        ({"resolution": said("Rolled back again.")}, "appended"),
        ({"resolution": said("Rolled\nback.")}, "already_there"),
        ({"resolution": None}, "already_there"),  # it would not stand: text beats none
        ({"subject": "Edited", "priority": {"name": "Low"}, "tags": ["new"], "description": "x"}, "already_there"),
        ({"resolved_time": {"value": "1604655594861"}, "resolution": said("Earlier")}, "already_there"),
        ({"resolved_time": None, "resolution": said("Rolled back again.")}, "rejected"),
    ],
    ids=repr,
)
def test_only_another_resolution_or_date_is_news(place: Place, members: dict[str, Any], outcome: str) -> None:
    [ticket_id] = place.sdp.add_resolved(at=place.sdp.now() - HOUR)
    place.store_all([ticket_id])
    place.sdp.edit(ticket_id, **members)
    assert place.counts() == {"seen": 1, outcome: 1}
    assert place.counts() == {"seen": 1, "already_there": 1}


@pytest.mark.parametrize(
    ("stored", "is_pruned", "outcome"),
    [
        ("See [gateway] (https://it.example/kb) first", False, "already_there"),
        ("See gateway https://it.example/kb", True, "already_there"),
        ("See it.", True, "appended"),
        ("", False, "appended"),  # that an empty text stands is no matter of how HTML is read
    ],
)
def test_what_an_earlier_version_made_of_the_same_html_is_no_news(
    place: Place, stored: str, outcome: str, *, is_pruned: bool
) -> None:
    """The standing delivery is read anew; where it is pruned, the letters and digits are compared."""
    [ticket_id] = place.sdp.add_resolved(at=place.sdp.now() - HOUR)
    place.sdp.edit(ticket_id, resolution=said('See <a href="https://it.example/kb">gateway</a>'))
    send(place, ticket_id)
    promote(place)
    place.database.query("UPDATE ticket_history SET resolution = %s", stored)
    place.sdp.edit(ticket_id, subject="Edited")
    if is_pruned:
        place.database.query("DELETE FROM inbox")
    assert place.counts() == {"seen": 1, outcome: 1}


def test_what_was_said_on_closing_comes_too_although_nothing_was_edited_since(place: Place) -> None:
    """An earlier version stored it empty: that it was not edited since is no reason to leave it so."""
    ticket_id = resolved_without_words(place)
    place.store(ticket_id, int(place.sdp.ticket(ticket_id)["resolved_time"]["value"]), resolution=" ")
    at = int(place.sdp.ticket(ticket_id)["last_updated_time"]["value"])
    place.sdp.edit(ticket_id, at, closure_info={"closure_comments": "Told her to restart."})
    assert place.counts() == {"seen": 1, "appended": 1}
    promote(place)
    assert place.history(ticket_id)["resolution"] == "Told her to restart."
    place.sdp.asked.clear()
    assert place.counts() == {"seen": 1, "already_there": 1}
    assert place.sdp.fetched() == []


@pytest.mark.parametrize("is_promoted", [True, False], ids=["promoted", "pending"])
def test_a_webhook_between_fetch_and_append(place: Place, *, is_promoted: bool) -> None:
    """It is of a later state of the same date: what was read before it must not be appended after it."""
    ticket_id = resolved_without_words(place)
    place.store(ticket_id, int(place.sdp.ticket(ticket_id)["resolved_time"]["value"]), resolution="")
    place.sdp.edit(ticket_id, resolution=said("First words."))
    place.sdp.before_sending = once_read(place, ticket_id, lambda: later(place, ticket_id, is_promoted=is_promoted))
    place.run()
    promote(place)
    assert place.history(ticket_id)["resolution"] == "Last words."


def later(place: Place, ticket_id: str, *, is_promoted: bool) -> None:
    """Edit the resolution, and send the webhook."""
    place.sdp.edit(ticket_id, resolution=said("Last words."))
    send(place, ticket_id)
    if is_promoted:
        promote(place)


def once_read(place: Place, ticket_id: str, act: Callable[[], None]) -> Callable[[Asked], None]:
    """Return a hook that acts when the first answer with the ticket's words, as they were, is on its way."""
    acted = list[Asked]()
    is_listed = not place.sdp.ways.list_lacks

    def hook(asked: Asked) -> None:
        brings = asked.list_info is not None if is_listed else asked.ticket_id == ticket_id
        if brings and not acted:
            acted.append(asked)
            act()

    return hook


def test_a_ticket_whose_deliveries_never_cease_is_left_to_the_next_run(place: Place) -> None:
    [ticket_id, other] = place.sdp.add_resolved(2, at=place.sdp.now() - HOUR)
    place.sdp.ways.list_lacks = VENDORS_LIST
    place.sdp.before_answer = lambda asked: send(place, ticket_id) if asked.ticket_id == ticket_id else None
    summary = place.run()
    assert (summary.appended, summary.failed, summary.adds_up) == (1, 1, True)
    assert "other deliveries of it came" in str(summary.error)
    assert other in place.appended()
    place.sdp.before_answer = lambda _asked: None
    assert place.run().error is None
