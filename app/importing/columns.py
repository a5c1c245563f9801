"""Which column of a report holds what? Reports name columns as ServiceDesk Plus does, or as the administrator did."""

import re
from collections.abc import Mapping, Sequence

import msgspec

from app.importing.display_ids import DISPLAY_ID, REQUEST_ID, TICKET_ID
from app.importing.table import Row
from app.importing.ticket_file import FileError

HEAD = 50  # rows at the top of a file, among which the header is looked for
COMPLETED = "completed_date"
TENANT_ID = "tenant_id"
# The names of each member's column, without case, blanks and signs; the first that a header has counts.
NAMES = {
    TICKET_ID: ["ticketid"],
    REQUEST_ID: ["requestid", "workorderid", "requestno", "requestnumber", "id"],
    DISPLAY_ID: ["displayid"],
    "subject": ["subject", "requestsubject", "title"],
    "description": ["description", "requestdescription"],
    "resolution": ["resolution", "requestresolution"],
    "resolved_date": ["resolvedtime", "resolveddate", "resolvedon"],
    COMPLETED: ["completedtime", "completeddate", "closedtime"],
    "priority": ["priority"],
    "status": ["requeststatus", "status"],
    "tags": ["tags"],
    TENANT_ID: ["tenantid"],
}
MEMBERS = [name for name in NAMES if name not in (REQUEST_ID, TENANT_ID)]
IDS = (TICKET_ID, REQUEST_ID, DISPLAY_ID)
DATES = ("resolved_date", COMPLETED)


class Columns(msgspec.Struct, frozen=True):
    """The column of each member, from 0, and the names of all columns of the header on line `number`."""

    number: int
    at: Mapping[str, int]
    names: Sequence[str]
    width: int | None = None  # of a row, in CSV

    @property
    def missing(self) -> list[str]:
        """What every ticket needs and no column holds, in words."""
        return [words for words, members in NEEDED.items() if not any(one in self.at for one in members)]

    @property
    def ignored(self) -> list[str]:
        """The names of the columns that hold nothing for us."""
        return [name for at, name in enumerate(self.names) if name and at not in self.at.values()]

    def name_of(self, member: str) -> str:
        """Return the name of a member's column, as the header has it."""
        return self.names[self.at[member]]


NEEDED = {
    "the ticket's id (RequestID)": IDS,
    "Subject": ("subject",),
    "Resolution": ("resolution",),
    "Resolved Time (or Completed Time)": DATES,
}


def plain(name: str) -> str:
    """Return a column's name without case, blanks and signs: `Request ID`, `RequestID` and `request_id` are one."""
    return re.sub(r"[\W_]+", "", name.casefold())


def find(head: Sequence[Row], mapped: Mapping[str, str]) -> Columns:
    """Return the columns of the first row that names all that is needed; `mapped` has the members of columns by name.

    Raises FileError, which names what is missing in the row that names most.
    """
    if not head:
        raise FileError("the first line must name the columns, but the file is empty")
    best: Columns | None = None
    for row in head:
        columns = of(row, mapped)
        if not columns.missing:
            _require_mapped(columns, mapped)
            _require_once(columns)
            return columns
        if best is None or len(columns.at) > len(best.at):
            best = columns
    if best is None or len(best.at) < 2:  # noqa: PLR2004  (a title may be “Resolution”, a header has more)
        if bad := next((row for row in head if row.error), None):
            raise FileError(f"no line names the columns, and line {bad.number} cannot be read: {bad.error}")
        raise FileError(
            f"the first line must name the columns, or one of the first {HEAD}: {', '.join(NEEDED)}; for other names "
            "give --map COLUMN=MEMBER"
        )
    _require_mapped(best, mapped)
    raise FileError(
        f"line {best.number}, which names the columns, lacks {', '.join(best.missing)}: add it to the report, "
        "or give --map COLUMN=MEMBER if it has another name"
    )


def of(row: Row, mapped: Mapping[str, str]) -> Columns:
    """Return the columns that a row names, if it is a header."""
    names = [row.cells[at].text.strip() if at in row.cells else "" for at in range(max(row.cells, default=-1) + 1)]
    plains = [plain(name) for name in names]
    given = {member: plains.index(name) for name, member in mapped.items() if name in plains}
    at = dict(given)
    for member, known in NAMES.items():
        found = next((plains.index(name) for name in known if name in plains), None)
        if found is not None and found not in given.values():
            at.setdefault(member, found)
    return Columns(row.number, at, names, row.width)


def _require_mapped(columns: Columns, mapped: Mapping[str, str]) -> None:
    plains = {plain(name) for name in columns.names}
    if unknown := [name for name in mapped if name not in plains]:
        raise FileError(f"--map: line {columns.number}, which names the columns, has none named {', '.join(unknown)}")


def _require_once(columns: Columns) -> None:
    plains = [plain(name) for name in columns.names]
    if twice := {columns.names[at] for at in columns.at.values() if plains.count(plains[at]) > 1}:
        raise FileError(f"line {columns.number} names a column twice: {', '.join(sorted(twice))}")
