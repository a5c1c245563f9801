"""The number that people know a ticket by: read from either form, and never a reason to lose the ticket."""

import json
from typing import Any

import pytest

from app import event
from app.event import Event, flat, native
from app.event.rules import Rules

pytestmark = pytest.mark.one_postgres

RULES = Rules(10_000, ("Resolved", "Closed"))
FORMS = ("flat", "native")


def example(form: str) -> dict[str, Any]:
    """Return the members of a ticket that has no display id."""
    members: Any = flat.EXAMPLE if form == "flat" else native.EXAMPLE["request"]
    return {name: value for name, value in members.items() if name != "display_id"}


def check(form: str, display_id: str, **members: object) -> Event:
    """Return the event of a payload of the form, whose `display_id` is this JSON."""
    given = {**example(form), **members}
    whole = json.dumps(given)[:-1] + f', "display_id": {display_id}}}'
    body = whole if form == "flat" else f'{{"tenant_id": "acme", "request": {whole}}}'
    return event.check(body.encode(), RULES)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(
    ("written", "read"),
    [
        ('"4711"', "4711"), ("4711", "4711"), ("4711.0", "4711"), ('" 4711 "', "4711"), ('"INC-0042"', "INC-0042"),
        ("155000000123456789", "155000000123456789"), (f'"{"9" * 100}"', "9" * 100),
    ],
)  # fmt: skip
def test_a_string_or_whole_number_is_text(form: str, written: str, read: str) -> None:
    found = check(form, written)
    assert (found.display_id, found.error) == (read, None)
    assert found.ticket().ticket_id == found.ticket_id


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(
    "written",
    [
        "null", "true", "47.5", "1e300", "{}", '{"value": "4711"}', "[4711]", '""', '"  "', '"a\\u0000b"',
        f'"{"9" * 101}"', "9" * 5000, "1e400",
    ],
)  # fmt: skip
def test_anything_else_is_ignored_and_the_ticket_is_not(form: str, written: str) -> None:
    found = check(form, written)
    assert (found.display_id, found.error) == (None, None)
    assert found.ticket().resolution == "Rolled the gateway's firmware back to 9.1.4."


@pytest.mark.parametrize("form", FORMS)
def test_a_ticket_without_one_is_a_ticket(form: str) -> None:
    body = example(form) if form == "flat" else {"tenant_id": "acme", "request": example(form)}
    found = event.check(json.dumps(body).encode(), RULES)
    assert (found.display_id, found.error) == (None, None)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(
    "broken", [{"subject": 7, "id": 7, "ticket_id": 7}, {"resolution": [7], "status": {"name": "Open"}}]
)
def test_a_rejected_delivery_is_found_by_it_too(form: str, broken: dict[str, object]) -> None:
    found = check(form, "4711", **broken)
    assert found.broken
    assert found.display_id == "4711"
    assert "display_id" not in str(found.error)
