"""When was a ticket of a report resolved? Guessed only where all lines agree; a zone is never guessed."""

from datetime import datetime
from pathlib import Path

import pytest

from tests.importing.reports import ZONE, as_csv, dry_run, ticket

pytestmark = pytest.mark.one_postgres


def resolved(file: Path, dates: list[str], *more: str) -> tuple[list[str], str]:
    """Return the first three dates in UTC, and standard error."""
    done = dry_run(file, as_csv([ticket(str(at), date) for at, date in enumerate(dates, 1)]), *more)
    return [line.split(" ")[3].rstrip(",") for line in done.stdout.splitlines() if line.startswith("ticket ")], done.stderr  # fmt: skip


@pytest.mark.parametrize(
    ("dates", "first"),
    [
        (["05-07-2023 14:30", "25-07-2023 09:00"], "2023-07-05T12:30:00+00:00"),
        (["05/07/2023 02:30 PM", "07/25/2023 09:00 AM"], "2023-05-07T12:30:00+00:00"),
        (["5.7.2023 14:30:15", "25.7.2023 9:00:00"], "2023-07-05T12:30:15+00:00"),
        (["2023-07-05 14:30"], "2023-07-05T12:30:00+00:00"),
        (["Jul 5, 2023 02:30 PM"], "2023-07-05T12:30:00+00:00"),
        (["05 July 2023, 14:30"], "2023-07-05T12:30:00+00:00"),
        (["Jul 5, 2023, 2:30\u202fPM"], "2023-07-05T12:30:00+00:00"),
        (["25-07-2023\u00a0 14:30"], "2023-07-25T12:30:00+00:00"),
        (["05-Sept-2023 14:30", "05-Oct-2023 14:30"], "2023-09-05T12:30:00+00:00"),
        (["5 SEPT 2023, 14:30"], "2023-09-05T12:30:00+00:00"),
        (["05-07-23 14:30", "25-07-23 14:30", "31-12-69 00:00"], "2023-07-05T12:30:00+00:00"),
        (["05-05-2023 14:30", "06-06-2023 14:30"], "2023-05-05T12:30:00+00:00"),  # both readings are one
        (["15-12-2023 14:30", "5-1-2023 4:30"], "2023-12-15T13:30:00+00:00"),  # winter
        (["15-07-2023"], "2023-07-14T22:00:00+00:00"),
        (["2023-07-05T14:30:00+09:00"], "2023-07-05T05:30:00+00:00"),  # it has its own zone
    ],
)
def test_a_form_that_all_dates_agree_on_is_guessed(dates: list[str], first: str, tmp_path: Path) -> None:
    found, error = resolved(tmp_path / "f.csv", dates, *ZONE)
    assert error == ""
    assert found[0] == first


def test_a_day_that_may_be_a_month_is_asked_for_with_two_examples(tmp_path: Path) -> None:
    done = dry_run(tmp_path / "f.csv", as_csv([ticket("1", "05-07-2023 14:30"), ticket("2", "06-07-2023 14:30")]))
    assert done.returncode == 2
    assert (
        "Error: 05-07-2023 14:30 is 5 July 2023 by '%d-%m-%Y %H:%M' or 7 May 2023 by '%m-%d-%Y %H:%M': give the one "
        "that is right as --date-format; the dates have no time zone: give --time-zone, such as Europe/Berlin\n"
    ) in done.stderr
    found, _ = resolved(tmp_path / "f.csv", ["05-07-2023 14:30"], "--date-format", "%m-%d-%Y %H:%M", *ZONE)
    assert found == ["2023-05-07T12:30:00+00:00"]


def test_dates_of_two_forms_are_asked_for_and_both_are_taken(tmp_path: Path) -> None:
    dates = ["15-07-2023 14:30", "15-07-2023 14:30:10"]
    _, error = resolved(tmp_path / "f.csv", dates, *ZONE)
    assert "give --date-format for each, such as '%d-%m-%Y %H:%M' and '%d-%m-%Y %H:%M:%S'\n" in error
    forms = ["--date-format", "%d-%m-%Y %H:%M", "--date-format", "%d-%m-%Y %H:%M:%S"]
    found, error = resolved(tmp_path / "f.csv", dates, *forms, *ZONE)
    assert (found, error) == (["2023-07-15T12:30:00+00:00", "2023-07-15T12:30:10+00:00"], "")


def test_two_forms_are_asked_for_by_those_that_read_the_examples(tmp_path: Path) -> None:
    """The same one was named twice, which reads neither's other."""
    _, error = resolved(tmp_path / "f.csv", ["13/06/2026 10:00", "06/13/2026 10:00"], *ZONE)
    assert "give --date-format for each, such as '%d/%m/%Y %H:%M' and '%m/%d/%Y %H:%M'\n" in error


def test_a_format_with_a_zone_needs_no_other(tmp_path: Path) -> None:
    found, error = resolved(tmp_path / "f.csv", ["15-07-2023 14:30 +0300"], "--date-format", "%d-%m-%Y %H:%M %z")
    assert (found, error) == (["2023-07-15T11:30:00+00:00"], "")


def test_a_date_of_a_cell_needs_a_zone_too(tmp_path: Path) -> None:
    when = datetime(2023, 7, 15, 14, 30, 1)  # noqa: DTZ001  (a cell has no zone)
    done = dry_run(tmp_path / "f.xlsx", [ticket("1", when)])
    assert (done.returncode, "give --time-zone" in done.stderr) == (2, True)
    done = dry_run(tmp_path / "f.xlsx", None, *ZONE)
    assert "ticket 1, resolved 2023-07-15T12:30:01+00:00" in done.stdout


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--time-zone", "Mars/Base"], "there is no time zone Mars/Base on this machine"),
        (["--time-zone", "../etc/passwd"], "there is no time zone"),
        (["--date-format", "%H:%M"], "it must say day, month and year"),
        (["--date-format", "%Q"], "it must say day, month and year"),
    ],
)
def test_an_option_that_says_nothing_is_refused(options: list[str], words: str, tmp_path: Path) -> None:
    done = dry_run(tmp_path / "f.csv", as_csv([ticket("1")]), *options)
    assert done.returncode == 2
    assert words in done.stderr
