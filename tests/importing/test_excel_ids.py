"""What Excel makes of ids and texts: a ticket is never mixed with another, or emptied, in silence."""

import json
from pathlib import Path

import pytest

from tests.importing.reports import HEADER, ZONE, as_csv, dry_run, ticket
from tests.support import xlsx

pytestmark = pytest.mark.one_postgres

LONG = "155000000123456789"
OWN = ["ticket_id", "subject", "description", "resolution", "resolved_date", "priority"]
CURE = "set the column to text before the ids come into it, or import the file as ServiceDesk Plus gave it, not saved again"
EXPONENTS = ["1.55E+17", "1,55E+17", "1.55e+17", "2E+17", "1.55E17"]
ERRORS = ["#NAME?", "#REF!", "#N/A", "#WERT!", "#DIV/0!", "######"]


def own(*ids: str, **changes: str) -> bytes:
    """Return CSV with our own columns, a ticket for each id."""
    row = ["VPN drops", "every hour", changes.get("resolution", "fixed"), "2023-07-15T12:30:00Z", "High"]
    return as_csv([[one, *row] for one in ids], header=OWN)


def stored_ids(file: Path, content: bytes, *more: str) -> tuple[list[str], str]:
    """Return the ids of the first tickets that a dry run prints, and its standard error."""
    done = dry_run(file, content, *more)
    return [line.split(",")[0][7:] for line in done.stdout.splitlines() if line.startswith("ticket ")], done.stderr


@pytest.mark.parametrize("id_", [*EXPONENTS, *ERRORS])
def test_an_id_that_excel_destroyed_is_a_bad_line_wherever_it_stands(id_: str, tmp_path: Path) -> None:
    line = json.dumps({"ticket_id": id_, **dict(zip(OWN[1:], ["s", "d", "r", "2023-07-15T12:30:00Z", "High"], strict=True))})  # fmt: skip
    files = {"r.csv": as_csv([ticket(id_), ticket("1")]), "o.csv": own(id_, "1"), "j.jsonl": f"{line}\n".encode()}
    for name, content in files.items():
        done = dry_run(tmp_path / name, content, *(ZONE if name == "r.csv" else []))
        number = 1 if name == "j.jsonl" else 2
        assert done.stderr.startswith(f"line {number}: Excel made "), done.stderr
        assert "not saved again by Excel" in done.stderr
        assert (done.returncode, "1 skipped" in done.stdout) == (1, True)


@pytest.mark.parametrize("written", [" 4711 ", "4711.0", "4711,0", '="4711"', "'4711", "\u00a04711\ufeff"])
def test_an_id_is_read_without_what_stands_around_it_and_said(written: str, tmp_path: Path) -> None:
    ids, error = stored_ids(tmp_path / "r.csv", as_csv([ticket(written)]), *ZONE)
    assert ids == ["4711"]
    assert error == "1 ids had blanks, quotes or .0 around them, and were taken without\n"
    done = dry_run(tmp_path / "o.csv", own(written))
    assert (done.stdout, done.stderr) == ("1 lines read: 1 good, 0 skipped\n", error)


@pytest.mark.parametrize("written", ["1,550,001", "1.550.001", "4,711", "1\u202f550\u202f001", "'1\u2019550\u2019001"])
def test_an_id_in_groups_of_thousands_is_a_bad_line(written: str, tmp_path: Path) -> None:
    """It was taken as it stood, as a ticket of its own beside 1550001."""
    ids, error = stored_ids(tmp_path / "r.csv", as_csv([ticket(written), ticket("4711")]), *ZONE)
    assert ids == ["4711"]
    assert error.startswith("line 2: the id is a number in groups of three digits, as Excel writes thousands: set the")


def test_lines_of_the_same_id_are_counted(tmp_path: Path) -> None:
    """Excel rounded the last digit of a library's 16-digit ids, and nothing said so."""
    content = as_csv([ticket("9912140633506420"), ticket("9912140633506420"), ticket("9912140633506410")])
    ids, error = stored_ids(tmp_path / "r.csv", content, *ZONE)
    assert len(ids) == 3
    assert error.startswith(
        "1 lines have the id of an earlier line: of a ticket's lines the one that was resolved later"
    )


def test_numbers_in_cells_are_ids_up_to_fifteen_digits(tmp_path: Path) -> None:
    rows = [
        ticket(4711), ticket(4711.0), ticket(999_999_999_999_999), ticket(155000000123456789), ticket(1.55e17), ticket(1.5),
        ticket(b'<c r="@" t="e"><v>#NAME?</v></c>'), ticket(b'<c r="@" s="1"><v>45122.5</v></c>'), ticket(LONG),
    ]  # fmt: skip
    done = dry_run(tmp_path / "f.xlsx", rows, *ZONE, "--date-format", "%d-%m-%Y %H:%M")
    reasons = ["line 5: the id is a number of more than 15 digits, of which Excel keeps 15", "line 6: the id is a number of",
               "line 7: the id is a number with a fraction", "line 8: Excel made an error such as #NAME? of the id",
               "line 9: Excel made a date of the id"]  # fmt: skip
    assert all(line.startswith(words) for line, words in zip(done.stderr.splitlines(), reasons, strict=False)), done
    assert [line for line in done.stdout.splitlines() if line.startswith("ticket ")][2].startswith("ticket 999999999999999,")  # fmt: skip
    assert done.stdout.endswith("9 lines read: 4 good, 5 skipped\n")


ZEROED = "155000000123456000"
OTHERS = ["155000000123456001", "155000000123456002", "155000000123456003"]


@pytest.mark.parametrize(
    ("ids", "bad", "is_warned"),
    [
        ([ZEROED, *OTHERS], 0, True),  # a single one may be chance
        ([ZEROED], 0, True),
        ([ZEROED, ZEROED, *OTHERS, *OTHERS], 2, False),  # two lines share one
        ([ZEROED, "155000000123457000", OTHERS[0]], 2, False),  # half of the long ones
        ([ZEROED, "155000000123457000", *OTHERS], 0, True),
        ([*OTHERS, "4000", "4711", "155000000123456700"], 0, False),  # short ones, and two zeros
        ([ZEROED, "4000", "4711", "4712", "4713", "155000000123457000"], 2, False),  # only long ones count
    ],
)
def test_ids_that_end_in_zeros_as_excel_leaves_them(ids: list[str], bad: int, is_warned: bool, tmp_path: Path) -> None:  # noqa: FBT001
    for name, content in {"r.csv": as_csv([ticket(one) for one in ids]), "o.csv": own(*ids)}.items():
        done = dry_run(tmp_path / name, content, *(ZONE if name == "r.csv" else []))
        assert done.stdout.endswith(f"{len(ids)} lines read: {len(ids) - bad} good, {bad} skipped\n")
        assert done.stderr.count("the digits of the id past the 15th are zeros, as Excel leaves them: set the column") == bad  # fmt: skip
        assert ("ids end in zeros past the 15th digit" in done.stderr) == is_warned


def test_what_csv_of_ours_shows_for_nothing_is_empty(tmp_path: Path) -> None:
    from app.importing import ticket_file  # noqa: PLC0415

    (tmp_path / "f.csv").write_bytes(
        own("1", resolution="No resolution") + own("2", resolution="--").split(b"\n", 1)[1]
    )
    with (tmp_path / "f.csv").open("rb") as file:
        lines = list(ticket_file.payloads(ticket_file.Lines(file, 10_000), "csv", "acme", 10_000))
    assert [json.loads(line.payload)["resolution"] for line in lines] == ["", ""]


def test_a_text_that_excel_made_an_error_is_a_bad_line(tmp_path: Path) -> None:
    error = b'<c r="@" t="e"><v>#NAME?</v></c>'
    rows = [ticket("1", Resolution=error), ticket("2", Subject=error), ticket("3", Priority=error), ticket("4", Resolution="#REF!")]  # fmt: skip
    file = xlsx.write(tmp_path / "f.xlsx", [HEADER, *rows])
    done = dry_run(file, None, *ZONE)
    assert [line.split(":")[0] for line in done.stderr.splitlines()[:-1]] == ["line 2", "line 3", "line 5"]
    assert "Excel made an error such as #NAME? of the Subject" in done.stderr
    assert done.stdout.endswith("4 lines read: 1 good, 3 skipped\n")
