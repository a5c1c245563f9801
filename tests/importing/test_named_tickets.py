"""A report of ServiceDesk Plus in the cloud names tickets by the numbers that people use: its API says which they are."""

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.importing.reports import TOTAL, ZONE, as_csv, ticket
from tests.support.commands_in_process import run_here
from tests.support.fake_sdp import running_sdp
from tests.support.reconciled import Place, settled
from tests.support.system import Database

pytestmark = pytest.mark.one_postgres

ID = "155000000123456789"  # 18 digits, so that it is no number that people use


@pytest.fixture
def place(database: Database, environment: dict[str, str], secrets_key: str) -> Iterator[Place]:
    with running_sdp("cloud") as sdp:
        yield settled(database, sdp, environment, secrets_key)


def imported(place: Place, folder: Path, *given: str) -> subprocess.CompletedProcess[str]:
    (folder / "f.csv").write_bytes(as_csv([*[ticket(one) for one in given], TOTAL]))
    return run_here(["import", "--tenant", place.tenant.id, "--file", "f.csv", *ZONE], place.quick, folder)


def appended(place: Place) -> dict[str, str | None]:
    """Return the tickets in the inbox, each with the display id that its payload has."""
    rows = place.database.query("SELECT ticket_id, payload FROM inbox ORDER BY id")
    return {row["ticket_id"]: json.loads(row["payload"]).get("display_id") for row in rows}


def test_what_is_not_known_here_is_found_by_the_api_a_hundred_in_a_question(place: Place, tmp_path: Path) -> None:
    """Archived tickets too; a number that no ticket has is a bad line, and the rest goes in."""
    known, *others = place.sdp.add_resolved(104)
    numbers = {one: str(place.sdp.ticket(one)["display_id"]) for one in (known, *others)}
    place.sdp.archive(others[0])
    place.store(known, 1_700_000_000_000, display_id=numbers[known])
    done = imported(place, tmp_path, *numbers.values(), "999999", ID)
    assert (
        "asking ServiceDesk Plus which tickets have 104 display ids that are not known here: 2 or more" in done.stderr
    )
    assert "line 106: no ticket is known by the number 999999, neither here nor in ServiceDesk Plus\n" in done.stderr
    assert (done.returncode, done.stdout) == (1, "106 lines read: 105 appended, 1 skipped\n")
    assert appended(place) == {**numbers, ID: None}
    asked = [one.list_info["row_count"] for one in place.sdp.asked if one.list_info]
    assert asked == [100, 100, 100]  # two of tickets, and one of the archive for the two that were missing
    again = imported(place, tmp_path, ID)
    assert "asking" not in again.stderr


def test_a_portal_that_does_not_answer_costs_the_lines_that_need_it(place: Place, tmp_path: Path) -> None:
    """And these go in when the same command is run again."""
    [one] = place.sdp.add_resolved()
    number = str(place.sdp.ticket(one)["display_id"])
    place.sdp.fail("401", times=9)
    done = imported(place, tmp_path, number, ID)
    line = f"line 2: no ticket is known here by the number {number}, and ServiceDesk Plus did not say which it is: "
    assert line in done.stderr
    assert (done.returncode, done.stdout) == (1, "2 lines read: 1 appended, 1 skipped\n")
    place.sdp.heal()
    assert imported(place, tmp_path, number, ID).returncode == 0
    assert appended(place) == {ID: None, one: number}


def test_without_the_key_of_its_credentials_that_is_said(place: Place, tmp_path: Path) -> None:
    del place.quick["SECRETS_KEY"]
    done = imported(place, tmp_path, "4711", ID)
    assert done.stdout.startswith("ticket-inbox: SECRETS_KEY is not set")
    assert (done.returncode, appended(place)) == (1, {})
    assert imported(place, tmp_path, ID).returncode == 0  # which needs none
