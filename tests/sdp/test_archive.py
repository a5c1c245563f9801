"""What ServiceDesk Plus has archived is read too, where a run looks back; where it cannot be, the run goes on and says so."""

from datetime import UTC, datetime, timedelta

import pytest

from tests.support.commands_in_process import invoke
from tests.support.fake_sdp import Asked
from tests.support.fake_sdp_ways import NO_ARCHIVE, VENDORS_LIST
from tests.support.reconciled import Place

pytestmark = pytest.mark.one_postgres

DAY = 86_400_000
SINCE = datetime.now(UTC) - timedelta(days=5 * 365)


@pytest.fixture
def place(module_place: Place) -> Place:
    module_place.clear()
    return module_place


def archived(place: Place, count: int = 3) -> list[str]:
    ids = place.sdp.add_resolved(count, at=place.sdp.now() - 400 * DAY, apart=DAY)
    place.sdp.archive(*ids)
    return ids


@pytest.mark.parametrize("lacks", [frozenset(), VENDORS_LIST], ids=["full lists", "the vendor's lists"])
@pytest.mark.parametrize("names", ["archive_", ""], ids=["its own names", "the names of requests"])
def test_an_import_reads_the_archive(place: Place, names: str, lacks: frozenset[str]) -> None:
    place.sdp.ways.list_lacks, place.sdp.ways.archive = lacks, names
    old = archived(place)
    [new] = place.sdp.add_resolved()
    summary = place.import_since(SINCE)
    assert (summary.appended, summary.archived, summary.error, summary.remarks) == (4, 3, None, [])
    assert (summary.is_complete, summary.adds_up) == (True, True)
    assert place.appended() == [new, *old]
    place.store_all([*old, new])
    again = place.import_since(SINCE + timedelta(seconds=5))
    assert (again.appended, again.archived) == (0, 0)


def test_it_goes_on_where_it_was_interrupted(place: Place) -> None:
    old = archived(place, 5)
    place.sdp.go_away_at(old[3])
    assert place.import_since(SINCE).archived == 3
    place.sdp.heal()
    place.sdp.asked.clear()
    summary = place.import_since(SINCE + timedelta(seconds=5))
    assert (summary.archived, summary.already_there, summary.is_complete) == (2, 1, True)
    assert place.sdp.fetched() == old[2:], "but for the last one before it, all are passed"
    assert place.appended() == old
    older = place.sdp.add_resolved(at=place.sdp.now() - 3 * 365 * DAY)
    place.sdp.archive(*older)
    assert place.import_since(SINCE - timedelta(days=400)).archived == 1, "an earlier --since begins again"


def test_so_does_a_run_that_looks_back_and_no_other(place: Place) -> None:
    old = archived(place)
    assert place.counts() == {}
    assert place.sdp.lists("archive_requests") == []
    assert place.counts(since=SINCE) == {"seen": 3, "appended": 3}
    assert place.appended() == old


@pytest.mark.parametrize("kind", NO_ARCHIVE)
def test_without_an_archive_it_goes_on_and_says_so_once(place: Place, kind: str) -> None:
    place.sdp.ways.archive = kind
    ids = place.sdp.add_resolved(2)
    done = invoke(place.quick, "import", "--tenant", place.tenant.id, "--since", "5y")
    assert done.exit_code == 0, done.output
    [line] = done.stderr.splitlines()
    assert line.startswith("Note: archived tickets were not read: ServiceDesk Plus ")
    assert str(NO_ARCHIVE[kind][0]) in line
    assert place.appended() == ids


def test_an_archive_that_is_away_is_not_missing(place: Place) -> None:
    """The run ends with the reason, and the next one reads it."""
    archived(place)
    place.sdp.fail("500", times=100, on="archive_requests")
    summary = place.import_since(SINCE)
    assert (summary.is_complete, summary.remarks) == (False, [])
    assert "500" in (summary.error or "")
    place.sdp.heal()
    assert place.import_since(SINCE).archived == 3


def test_a_ticket_that_was_archived_meanwhile_is_not_gone(place: Place) -> None:
    """Between the list and its question; what is deleted, and in no archive, still is."""
    moved, deleted = place.sdp.add_resolved(2)

    def move(asked: Asked) -> None:
        if asked.ticket_id == moved and asked.where == "requests":
            place.sdp.archive(moved)
        place.sdp.delete(deleted)

    place.sdp.before_answer = lambda asked: move(asked) if asked.ticket_id else None
    done = invoke(place.quick, "reconcile", "--tenant", place.tenant.id)
    lines = done.stdout.splitlines()
    assert "       1  appended to the inbox" in lines
    assert "       1  deleted, or opened again, meanwhile" in lines
    assert lines[-1] == "       1  of those that were appended come from the archive"
    assert place.appended() == [moved]


def test_an_archive_that_may_not_be_read_is_asked_once(place: Place) -> None:
    place.sdp.ways.archive = "forbidden"
    ids = place.sdp.add_resolved(3)

    def delete(asked: Asked) -> None:
        for ticket_id in ids if asked.ticket_id else ():
            place.sdp.delete(ticket_id)

    place.sdp.before_answer = delete
    assert place.counts() == {"seen": 3, "gone": 3}
    assert [one.where for one in place.sdp.asked if one.ticket_id].count("archive_requests") == 1


def test_an_archive_that_ignores_the_criterion_ends_the_run(place: Place) -> None:
    place.sdp.archive(*place.sdp.add_resolved(2, at=place.sdp.now() - 3000 * DAY))
    place.sdp.ways.ignores_criteria = True
    summary = place.import_since(SINCE)
    assert "begins before the last_updated_time" in (summary.error or "")
    assert place.appended() == []


def test_an_archive_that_is_closed_in_mid_list_was_read_in_part(place: Place) -> None:
    place.store_all(archived(place, 120))

    def close(_asked: Asked) -> None:
        if place.sdp.lists("archive_requests"):
            place.sdp.ways.archive = "forbidden"

    place.sdp.before_sending = close
    summary = place.import_since(SINCE)
    assert (summary.already_there, summary.adds_up) == (100, True)
    assert summary.remarks[0].startswith("not all archived tickets were read: ")
