"""Statuses in another language count by their internal name; what is passed over is counted, printed and noted."""

import pytest

from tests.support.commands_in_process import invoke
from tests.support.fake_sdp import Asked
from tests.support.fake_sdp_ways import VENDORS_LIST
from tests.support.reconciled import Place

pytestmark = pytest.mark.one_postgres

CLOSED = {"id": "1", "name": "Cerrado", "internal_name": "Closed", "in_progress": False}
SENT = {"id": "2", "name": "Enviado", "internal_name": "Shipped", "in_progress": False}
OPEN = {"id": "3", "name": "Abierto", "internal_name": "Open", "in_progress": True}


def add(place: Place, count: int, status: dict[str, object]) -> None:
    for ticket_id in place.sdp.add_resolved(count):
        place.sdp.edit(ticket_id, status=status)


@pytest.mark.parametrize("lacks", [frozenset(), VENDORS_LIST], ids=["the list brings all", "the list brings little"])
def test_what_is_closed_in_another_language_is_appended(module_place: Place, lacks: frozenset[str]) -> None:
    place = module_place
    place.clear()
    place.sdp.ways.list_lacks = lacks
    add(place, 12, CLOSED)
    assert place.counts() == {"seen": 12, "appended": 12}


def test_what_is_passed_over_is_counted_and_what_is_done_is_noted(module_place: Place) -> None:
    place = module_place
    place.clear()
    add(place, 12, SENT)
    add(place, 3, OPEN)
    done = invoke(place.quick, "reconcile", "--tenant", place.tenant.id)
    assert done.exit_code == 0
    assert done.stdout.splitlines()[:2] == [
        "      15  listed: Enviado 12, Abierto 3, none resolved by RESOLVED_STATUSES",
        "       0  resolved tickets seen",
    ]
    assert "Note: passed over, although ServiceDesk Plus says that they are done: Enviado 12." in done.stderr
    found = invoke(
        place.quick, "doctor", "--tenant", place.tenant.id, "--url", "http://127.0.0.1:1"
    ).stdout.splitlines()
    assert "nothing is missing up to" in found[-3]
    assert found[-3].endswith("of the statuses that count as resolved (Resolved,Closed)")
    assert found[-2].startswith(
        "note  of the tickets that ServiceDesk Plus updated last, 15: Enviado 12, Abierto 3, none"
    )
    assert found[-1].startswith("note  passed over, although ServiceDesk Plus says that they are done: Enviado 12.")
    add(place, 1, CLOSED)
    done = invoke(place.quick, "reconcile", "--tenant", place.tenant.id)
    assert done.stdout.splitlines()[0] == "      16  listed: 1 resolved, Enviado 12, Abierto 3"
    again = invoke(
        {**place.quick, "RESOLVED_STATUSES": "Shipped,Closed"},
        "reconcile",
        "--tenant",
        place.tenant.id,
        "--since",
        "1y",
    )
    assert again.stdout.splitlines()[0] == "      16  listed: 13 resolved, Abierto 3"
    assert "\n      12  appended to the inbox" in again.stdout
    assert "Note: passed over" not in again.stderr


@pytest.mark.parametrize("lacks", [frozenset({"status"}), VENDORS_LIST], ids=["no status", "no name of it"])
def test_where_a_list_does_not_say_the_status_the_ticket_does(module_place: Place, lacks: frozenset[str]) -> None:
    """It was passed over as of a status without a name, and nothing said so."""
    place = module_place
    place.clear()
    place.sdp.ways.list_lacks = lacks
    [resolved], opened = place.sdp.add_resolved(), place.sdp.add()
    if "status" not in lacks:
        bring_ids_alone(place, [resolved, opened])
    found = invoke(place.quick, "doctor", "--tenant", place.tenant.id, "--url", "http://127.0.0.1:1")
    assert "passed over" not in found.output
    assert place.counts() == {"seen": 2, "appended": 1, "gone": 1}
    assert place.appended() == [resolved]


def bring_ids_alone(place: Place, ids: list[str]) -> None:
    """Let lists have a status as its id alone, and whole tickets all of it."""

    def disguise(asked: Asked) -> None:
        for ticket_id in ids:
            place.sdp.disguise(ticket_id, **({"status": b'{"id": "4"}'} if asked.list_info is not None else {}))

    place.sdp.before_answer = disguise
