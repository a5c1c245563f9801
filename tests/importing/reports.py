"""Reports as ServiceDesk Plus' menu gives them, as far as anybody saw one; made up, and imported in this process."""

import csv
import io
import subprocess
from collections.abc import Sequence
from pathlib import Path

from tests.support import xlsx
from tests.support.commands_in_process import run_here

HEADER = ["RequestID", "Subject", "Description", "Resolution", "Request Status", "Priority", "Resolved Time", "Technician"]  # fmt: skip
TITLES = [["Resolved requests of the last year"], [], ["Created by", "Ann"]]
TOTAL = ["Total", "3"]
ZONE = ["--time-zone", "Europe/Berlin"]
Rows = Sequence[Sequence[xlsx.Cell]]


def ticket(id_: xlsx.Cell, resolved: xlsx.Cell = "15-07-2023 14:30", **changes: xlsx.Cell) -> list[xlsx.Cell]:
    """Return a ticket's row; `changes` are by the column's name, with `_` for a blank."""
    row = dict(zip(HEADER, [id_, "VPN drops", "every hour", "new firmware", "Resolved", "High", resolved, "Ann"], strict=True))  # fmt: skip
    row.update({name.replace("_", " "): value for name, value in changes.items()})
    return list(row.values())


def as_csv(rows: Rows, delimiter: str = ",", header: Sequence[str] = HEADER) -> bytes:
    """Return a file with these rows below the header."""
    text = io.StringIO()
    csv.writer(text, delimiter=delimiter).writerows([header, *rows])
    return text.getvalue().encode()


def dry_run(file: Path, content: bytes | Rows | None, *more: str) -> subprocess.CompletedProcess[str]:
    """Write a file, of rows below the header where it is XLSX, and import it without a database."""
    if isinstance(content, bytes):
        file.write_bytes(content)
    elif content is not None:
        xlsx.write(file, [HEADER, *content])
    return run_here(["import", "--tenant", "acme", *more, "--file", str(file), "--dry-run"], {})
