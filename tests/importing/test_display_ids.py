"""A file may carry the number that people know a ticket by: a member of its lines, or a column."""

import io

import pytest

from app.event.rules import Rules
from app.importing import append as appending
from app.importing import ticket_file
from app.importing.append import Tally

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
