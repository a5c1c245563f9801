"""ticket-inbox import of ServiceDesk Plus' own report, XLSX and CSV: from the file to ticket_history."""

import contextlib
import json
import os
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from app.event.rules import Rules
from app.importing import sources
from app.importing.display_ids import meant_by
from app.importing.survey import OptionNeededError
from app.importing.terms import Terms, Wanted
from app.importing.ticket_file import Line
from tests.importing.reports import HEADER, TITLES, TOTAL, ZONE, as_csv, dry_run, ticket
from tests.support import xlsx
from tests.support.commands_in_process import run_here
from tests.support.system import Database, Worker

pytestmark = pytest.mark.one_postgres

ID = "155000000123456789"


def test_a_report_becomes_rows_of_ticket_history(
    database: Database,
    secrets_key: str,
    environment: dict[str, str],
    start_worker: Callable[..., Worker],
    tmp_path: Path,
) -> None:
    """Of both forms: with titles above the header, headings, a totals line, dates as text and as dates, a bad line."""
    database.add_tenant(secrets_key, "acme")
    when = datetime(2023, 7, 15, 14, 30)  # noqa: DTZ001  (a cell has no zone)
    rows: list[Any] = [ticket(ID, when), ["Priority : High"], ticket(4711, when), ticket("1.55E+17", when)]
    book = xlsx.write(tmp_path / "f.xlsx", [*TITLES, HEADER, *rows, TOTAL], is_shared=True)
    (tmp_path / "f.csv").write_bytes(b"sep=;\r\n\r\n" + as_csv([ticket("4712"), ["Total", "1"]], ";"))
    start_worker()
    done = run_here(["import", "--tenant", "acme", "--file", str(book), *ZONE], environment)
    assert done.stdout == "3 lines read: 2 appended, 1 skipped\n"
    assert done.returncode == 1
    assert "line 8: Excel made the id a number such as 1.55E+17" in done.stderr
    assert "2 lines hold no ticket (titles, headings, totals), and were passed over\n" in done.stderr
    done = run_here(["import", "--tenant", "acme", "--file", "f.csv", *ZONE], environment, tmp_path)
    assert (done.returncode, done.stdout) == (0, "1 lines read: 1 appended, 0 skipped\n"), done.stderr
    database.wait_for("SELECT count(*) FROM inbox WHERE status = 'pending'", 0, within=20)
    found = database.query("SELECT * FROM ticket_history ORDER BY ticket_id")
    assert [row["ticket_id"] for row in found] == [ID, "4711", "4712"]
    assert {row["resolved_date"] for row in found} == {datetime(2023, 7, 15, 12, 30, tzinfo=UTC)}
    assert {row["source"] for row in found} == {"bulk_import"}
    assert found[0]["description"] == "VPN drops\n\nevery hour"
    assert (found[0]["resolution"], found[0]["priority"]) == ("new firmware", "High")
    again = run_here(["import", "--tenant", "acme", "--file", str(book), *ZONE], environment)
    assert again.stdout == "3 lines read: 2 there before, 0 appended, 1 skipped\n"


def test_a_dry_run_prints_the_mapping_and_the_first_three_tickets(tmp_path: Path) -> None:
    rows = [ticket(str(number), Resolution="<b>fixed</b>\x1b[31m" if number == 2 else "fixed") for number in range(1, 6)]  # fmt: skip
    done = dry_run(tmp_path / "f.csv", as_csv([*rows, ticket("6", "soon")]), *ZONE)
    assert "line 1 names the columns:\n  RequestID → ticket_id (in the cloud's edition" in done.stdout
    assert "\n  Resolved Time → resolved_date\n" in done.stdout
    assert "\n  not read: Technician\n" in done.stdout
    assert [line.split(",")[0] for line in done.stdout.splitlines() if line.startswith("ticket")] == ["ticket 1", "ticket 2", "ticket 3"]  # fmt: skip
    assert "ticket 1, resolved 2023-07-15T12:30:00+00:00, priority High\n  subject: VPN drops\n" in done.stdout
    assert "\x1b" not in done.stdout
    assert done.stdout.endswith("6 lines read: 5 good, 1 skipped\n")
    assert done.stderr.startswith("line 7: Resolved Time is no date in a form that is known: see --date-format\n")
    assert done.returncode == 1


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32"])
@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
def test_csv_in_any_usual_encoding_with_a_mark(encoding: str, delimiter: str, tmp_path: Path) -> None:
    rows: list[Any] = [*TITLES, HEADER, ticket("1", Subject='Zürich "x", y; z\n日本'), ticket("2")]
    content = as_csv(rows, delimiter, header=["A title"]).decode().encode(encoding)
    done = dry_run(tmp_path / "f.csv", content, *ZONE)
    assert (done.returncode, done.stderr) == (0, "")
    assert 'subject: Zürich "x", y; z 日本\n' in done.stdout
    assert done.stdout.endswith("2 lines read: 2 good, 0 skipped\n")


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_lines_may_end_with_a_carriage_return_alone(encoding: str, tmp_path: Path) -> None:
    """As Excel for Mac writes "CSV (Macintosh)"; Python's csv module asked for the "universal-newline mode"."""
    text = as_csv([*TITLES, HEADER, ticket("1", Subject="VPN\ndrops"), ticket("2")], header=["A title"]).decode()
    content = text.replace("\r\n", "\n").replace("\n", "\r").encode(encoding)
    done = dry_run(tmp_path / "f.csv", content, *ZONE)
    assert (done.returncode, done.stderr) == (0, "")
    assert "subject: VPN drops\n" in done.stdout
    assert done.stdout.endswith("2 lines read: 2 good, 0 skipped\n")
    own = b"ticket_id,subject,description,resolution,resolved_date,priority\r7,s,d,r,2026-01-02T03:04:05Z,p\r"
    assert dry_run(tmp_path / "own.csv", own).stdout.endswith("1 lines read: 1 good, 0 skipped\n")


@pytest.mark.parametrize(
    "header",
    [
        ["Request ID", "SUBJECT", "description", "Resolution ", "Request Status", "priority", "Completed Time", "x"],
        ["request_id", "Subject", "Description", "RESOLUTION", "status", "Priority", "Resolved-Time", "y"],
    ],
)
def test_columns_are_known_by_the_names_that_reports_use(header: list[str], tmp_path: Path) -> None:
    done = dry_run(tmp_path / "f.csv", as_csv([ticket("1")], header=header), *ZONE)
    assert done.stdout.endswith("1 lines read: 1 good, 0 skipped\n"), done.stderr


def test_columns_of_other_names_are_mapped(tmp_path: Path) -> None:
    header = ["Nr.", "Betreff", "Beschreibung", "Lösung", "Status", "Priorität", "Gelöst am", "Schlagworte"]
    content = as_csv([[*ticket("1")[:7], "vpn, netz"]], header=header)
    done = dry_run(tmp_path / "f.csv", content)
    assert done.stderr.startswith("Error: the first line must name the columns, or one of the first 50: ")
    assert "--map COLUMN=MEMBER" in done.stderr
    members = ["ticket_id", "subject", "description", "resolution", "status", "priority", "resolved_date", "tags"]
    maps = [one for name, member in zip(header, members, strict=True) for one in ("--map", f"{name}={member}")]
    done = dry_run(tmp_path / "f.csv", None, *maps, *ZONE)
    assert "  tags: vpn, netz\n" in done.stdout
    assert done.stdout.endswith("1 lines read: 1 good, 0 skipped\n")
    wrong = {"Nr.=id": "MEMBER is one of ticket_id, display_id, ", "Nummer=ticket_id": "has none named nummer"}
    for given, words in wrong.items():
        assert words in dry_run(tmp_path / "f.csv", None, *maps[2:], "--map", given, *ZONE).stderr


def test_a_header_that_lacks_something_is_named(tmp_path: Path) -> None:
    done = dry_run(tmp_path / "f.csv", as_csv([], header=HEADER[:3]))
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    assert "line 1, which names the columns, lacks Resolution, Resolved Time (or Completed Time)" in done.stderr
    done = dry_run(tmp_path / "f.csv", as_csv([], header=[*HEADER, "subject"]))
    assert done.stderr == "Error: line 1 names a column twice: Subject\n"


def test_what_reports_show_for_nothing_is_empty(tmp_path: Path) -> None:
    for number, nothing in enumerate(["-", "--", "N/A", "not assigned", " - "]):
        row = ticket("1", Resolution=nothing, Description=nothing, Priority=nothing, Request_Status=nothing)
        done = dry_run(tmp_path / f"{number}.csv", as_csv([row]), *ZONE)
        assert ", priority (none)\n" in done.stdout, done.stderr
        assert "  description: (empty)\n  resolution: (empty)\n" in done.stdout
    done = dry_run(tmp_path / "f.csv", as_csv([ticket("1", Resolution="No resolution", Subject="No resolution")]), *ZONE)  # fmt: skip
    assert "subject: No resolution\n  description: every hour\n  resolution: (empty)\n" in done.stdout


def test_rows_that_hold_no_resolved_ticket_are_bad(tmp_path: Path) -> None:
    rows: list[list[Any]] = [
        ticket("1", "-"),
        ticket("2", Request_Status="Open"),
        ticket("-"),
        ticket("4", Resolution="#NAME?"),
        ["5", "short"],
        [*ticket("6"), "more"],
        ticket("7"),
        ticket("8", "31-02-2023 10:00"),
    ]
    done = dry_run(tmp_path / "f.csv", as_csv(rows), *ZONE)
    reasons = [
        "line 2: it has no date when it was resolved",
        "line 3: Request Status is none of Resolved, Closed (RESOLVED_STATUSES)",
        "line 4: it has no ticket's id",
        "line 5: Excel made an error such as #NAME? of the Resolution: ",
        "line 6: it has 2 values for 8 columns",
        "line 7: it has 9 values for 8 columns",
        "line 9: Resolved Time is no date in a form that is known",
    ]
    found = done.stderr.splitlines()
    assert all(line.startswith(words) for line, words in zip(found, reasons, strict=False)), found
    assert len(found) == len(reasons) + 1
    assert done.stdout.endswith("8 lines read: 1 good, 7 skipped\n")


def test_a_text_that_is_too_long_is_cut_with_a_mark(tmp_path: Path) -> None:
    done = dry_run(tmp_path / "f.csv", as_csv([ticket("1", Description="<p>" + "long " * 3000 + "</p>")]), *ZONE)
    assert done.stdout.endswith("1 lines read: 1 good, 0 skipped\n")
    assert done.stderr == "1 subjects or descriptions were longer than a ticket's may be, and were cut with a mark\n"


def test_a_pipe_needs_the_dates_format() -> None:
    content = as_csv([ticket("1")])
    with pytest.raises(OptionNeededError, match="the dates of a file from a pipe need --date-format"):
        lines_of_pipe(content, Wanted(zone=ZoneInfo("UTC")))
    [line] = lines_of_pipe(content, Wanted(date_formats=["%d-%m-%Y %H:%M"], zone=ZoneInfo("UTC")))
    assert json.loads(line.payload)["resolved_date"] == "2023-07-15T14:30:00+00:00"


def lines_of_pipe(content: bytes, wanted: Wanted) -> list[Line]:
    """Return the lines of a report that comes from a pipe."""
    reading, writing = os.pipe()
    os.write(writing, content)
    os.close(writing)
    terms = Terms("acme", 1024, Rules(), wanted, lambda _words: None)
    with os.fdopen(reading, "rb") as file, contextlib.ExitStack() as stack:
        return list(sources.open_(stack, file, "csv", terms).lines())


def test_a_display_id_without_a_known_ticket_is_taken_as_the_id_and_said(
    database: Database, secrets_key: str, environment: dict[str, str], tmp_path: Path
) -> None:
    """Without ServiceDesk Plus' API; a dry run says only that the import looks it up."""
    database.add_tenant(secrets_key, "acme")
    options = ["--map", "RequestID=display_id", *ZONE]
    dry = dry_run(tmp_path / "f.csv", as_csv([ticket("4711")]), *options)
    assert "RequestID → display_id\n" in dry.stdout
    assert dry.stderr == "1 display ids: the import looks up which tickets have them\n"
    assert dry.stdout.endswith("1 lines read: 1 good, 0 skipped\n")
    done = run_here(["import", "--tenant", "acme", "--file", "f.csv", *options], environment, tmp_path)
    assert done.stderr.endswith("\n1 display ids are of no ticket that is known, and were taken as the tickets' ids\n")
    assert (done.returncode, done.stdout) == (0, "1 lines read: 1 appended, 0 skipped\n")
    [payload] = [json.loads(row["payload"]) for row in database.query("SELECT payload FROM inbox")]
    assert (payload["ticket_id"], payload["display_id"]) == ("4711", "4711")


@pytest.mark.parametrize(
    ("value", "member", "edition", "meaning"),
    [
        ("4711", "request_id", None, "ticket_id"),
        ("4711", "request_id", "on_premises", "ticket_id"),
        ("4711", "request_id", "cloud", "display_id"),
        ("1" * 15, "request_id", "cloud", "display_id"),
        ("1" * 16, "request_id", "cloud", "ticket_id"),
        ("4711", "ticket_id", "cloud", "ticket_id"),
        (ID, "display_id", None, "display_id"),
    ],
)
def test_what_a_request_id_means(value: str, member: str, edition: str | None, meaning: str) -> None:
    assert meant_by(value, member, edition) == meaning


def test_columns_of_our_own_names_may_have_dates_of_another_form(tmp_path: Path) -> None:
    """A line that names another tenant is bad, as in any file."""
    header = ["ticket_id", "subject", "description", "resolution", "resolved_date", "priority", "tags", "tenant_id"]
    row = ["1", "s", "d", "r", "15.07.2023 14:30", "High", '["a;b"]']
    done = dry_run(tmp_path / "f.csv", as_csv([[*row, ""], [*row, "other"]], header=header), *ZONE)
    assert done.stderr.startswith("line 3: tenant_id must be 'acme', not 'other'\n")
    assert "resolved 2023-07-15T12:30:00+00:00, priority High\n  tags: a;b\n" in done.stdout
    assert done.stdout.endswith("2 lines read: 1 good, 1 skipped\n")


def test_a_delimiter_after_the_last_column_is_no_column(tmp_path: Path) -> None:
    lines = as_csv([ticket("1"), ticket("2")], ";").splitlines()
    content = b";\n".join([lines[0], lines[1], b""]) + lines[2]
    assert dry_run(tmp_path / "f.csv", content, *ZONE).stdout.endswith("2 lines read: 2 good, 0 skipped\n")


@pytest.mark.parametrize("option", [["--map", "a=ticket_id"], ["--date-format", "%d.%m.%Y"], ZONE])
def test_options_of_a_report_are_none_of_json_lines(option: list[str], tmp_path: Path) -> None:
    done = dry_run(tmp_path / "f.jsonl", b"{}", *option)
    assert done.returncode == 2
    assert "are for reports in CSV or XLSX" in done.stderr
