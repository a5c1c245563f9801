"""A ticket without a display id gets it from the next delivery that has one, whatever else that delivery does."""

import itertools

import pytest

from tests.jobs.test_promote import EARLY, LATE, LATEST, actions, deliver, promote, ticket
from tests.support.system import Database

SECOND = "2026-01-02T12:00:00Z"


def known_as(database: Database) -> str | None:
    return ticket(database)["display_id"]  # type: ignore[no-any-return]


def in_inbox(database: Database) -> list[str | None]:
    return [row["display_id"] for row in database.query("SELECT display_id FROM inbox ORDER BY id")]


@pytest.mark.parametrize("date", [EARLY, LATE, LATEST], ids=["stale", "equal", "newer"])
def test_a_row_without_one_gets_it_from_the_next_delivery(database: Database, date: str) -> None:
    """As one that an earlier version wrote; a delivery that is stale changes nothing else."""
    first = deliver(database, resolved_date=LATE)
    promote(database, [first])
    assert known_as(database) is None
    before = ticket(database)
    database.query("UPDATE ticket_history SET inbox_id = 1000")  # so that one of the same date is stale too
    promote(database, [deliver(database, resolved_date=date, resolution="another", display_id=4711)])
    after = ticket(database)
    assert after["display_id"] == "4711"
    is_newer = date == LATEST
    assert actions(database) == ["inserted", "updated" if is_newer else "stale"]
    kept = ("resolution", "resolved_date", "source", "description", "created_at", "id")
    changed = [name for name in kept if before[name] != after[name]]
    assert changed == (["resolution", "resolved_date"] if is_newer else [])
    assert after["inbox_id"] == (2 if is_newer else 1000)


def test_a_row_with_one_keeps_it(database: Database) -> None:
    for date, given in ((LATE, "4711"), (EARLY, "1"), (LATEST, None), (SECOND, "2"), (LATEST, "3")):
        promote(database, [deliver(database, resolved_date=date, display_id=given)])
        assert known_as(database) == "4711"
    assert in_inbox(database) == ["4711", "1", None, "2", "3"], "deliveries that an earlier version wrote are named too"


def test_in_a_batch_the_first_that_has_one_counts(database: Database) -> None:
    """As if they were promoted one by one, in whatever order their dates are."""
    for dates in itertools.permutations((EARLY, LATE, LATEST)):
        database.query("TRUNCATE inbox, ticket_history RESTART IDENTITY")
        ids = [
            deliver(database, resolved_date=date, display_id=display_id)
            for date, display_id in zip(dates, (None, "4711", "1"), strict=True)
        ]
        promote(database, ids)
        assert known_as(database) == "4711"
    other = [deliver(database, ticket_id="2", display_id=12), deliver(database, resolved_date=EARLY, display_id=4)]
    database.query("UPDATE ticket_history SET display_id = NULL, resolved_date = '2030-01-01', inbox_id = 1000")
    promote(database, other)
    assert (known_as(database), ticket(database, "2")["display_id"]) == ("4", "12"), "stale and new ones in one batch"


def test_a_row_that_fails_is_named_too(database: Database) -> None:
    promote(database, [deliver(database, display_id="1", priority=7)])
    assert in_inbox(database) == ["1"]
