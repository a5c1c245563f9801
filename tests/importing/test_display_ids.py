"""A file may carry the number that people know a ticket by: a member of its lines, or a column."""

import io
import json
from pathlib import Path

import pytest

from app.event.rules import Rules
from app.importing import append as appending
from app.importing import ticket_file
from app.importing.append import Tally
from tests.importing.reports import ZONE, as_csv, ticket
from tests.support.commands_in_process import run_here
from tests.support.system import Database

pytestmark = pytest.mark.one_postgres

REST = '"subject": "s", "description": "d", "resolution": "r", "resolved_date": "2026-01-31T09:30:00Z", "priority": "p"'
LINES = f"""{{"ticket_id": "1", "display_id": 4711, {REST}}}
{{"ticket_id": "2", {REST}}}
{{"ticket_id": "3", "display_id": [], {REST}}}
"""
TABLE = """display_id,ticket_id,subject,description,resolution,resolved_date,priority
4711,1,s,d,r,2026-01-31T09:30:00Z,p
,2,s,d,r,2026-01-31T09:30:00Z,p
  ,3,s,d,r,2026-01-31T09:30:00Z,p
"""


@pytest.mark.parametrize(("form", "content"), [("jsonl", LINES), ("csv", TABLE)])
def test_it_is_read_and_one_without_is_a_ticket(form: str, content: str) -> None:
    lines, bad = ticket_file.Lines(io.BufferedReader(io.BytesIO(content.encode())), 1_000_000), list[str]()
    given = appending.batches(
        ticket_file.payloads(lines, form, "acme", 1_000_000), appending.imported_file("acme", None), Tally(), Rules(10_000),
        lambda _line, error: bad.append(error),
    )  # fmt: skip
    assert [(one.ticket_id, one.display_id) for batch in given for one in batch] == [
        ("1", "4711"), ("2", None), ("3", None)
    ]  # fmt: skip
    assert bad == []


def test_a_report_names_known_tickets_by_their_numbers(
    database: Database, secrets_key: str, environment: dict[str, str], tmp_path: Path
) -> None:
    """Never a second row for a ticket; and a number that no ticket or several tickets have is a bad line."""
    database.add_tenant(secrets_key, "acme")
    known = [("155000000123456789", "4711"), ("155000000123456790", "4712"), ("155000000123456791", "4712")]
    for ticket_id, display_id in known:
        database.query(
            "INSERT INTO ticket_history (tenant_id, ticket_id, display_id, description, resolution, resolved_date,"
            " priority) VALUES ('acme', %s, %s, '', '', now(), '')", ticket_id, display_id,
        )  # fmt: skip
    (tmp_path / "f.csv").write_bytes(as_csv([ticket("4711"), ticket("4712"), ticket("4713")]))
    options = ["--map", "RequestID=display_id", *ZONE]
    done = run_here(["import", "--tenant", "acme", "--file", "f.csv", *options], environment, tmp_path)
    assert "line 3: several tickets are known by the number 4712: give a column of ticket_id\n" in done.stderr
    assert "line 4: no ticket is known by the number 4713, and" in done.stderr
    assert (done.returncode, done.stdout) == (1, "3 lines read: 1 appended, 2 skipped\n")
    [row] = database.query("SELECT ticket_id, payload FROM inbox")
    assert (row["ticket_id"], json.loads(row["payload"])["display_id"]) == ("155000000123456789", "4711")


def test_without_an_api_the_tickets_of_webhooks_say_that_a_request_id_is_a_number(
    database: Database, secrets_key: str, environment: dict[str, str], tmp_path: Path
) -> None:
    """Else the report would make a second row of a ticket that a webhook brought, in silence."""
    database.add_tenant(secrets_key, "acme")
    (tmp_path / "f.csv").write_bytes(as_csv([ticket("4711"), ticket("4712"), ticket("155000000123456790")]))
    command = ["import", "--tenant", "acme", "--file", "f.csv", "--again", *ZONE]
    done = run_here(command, environment, tmp_path)
    assert "\n2 numbers were taken as the tickets' ids, which they are on premises; " in done.stderr
    assert (done.returncode, done.stdout) == (0, "3 lines read: 3 appended, 0 skipped\n")
    database.query(
        "INSERT INTO ticket_history (tenant_id, ticket_id, display_id, description, resolution, resolved_date, priority)"
        " VALUES ('acme', '155000000123456789', '4711', '', '', now(), '')"
    )
    done = run_here(command, environment, tmp_path)
    assert "line 3: no ticket is known by the number 4712, and this tenant's numbers are not its" in done.stderr
    assert (done.returncode, done.stdout) == (1, "3 lines read: 2 appended, 1 skipped\n")
    rows = database.query("SELECT ticket_id, display_id FROM inbox ORDER BY id")
    assert [tuple(row.values()) for row in rows[3:]] == [
        ("155000000123456789", "4711"), ("155000000123456790", None)
    ]  # fmt: skip
