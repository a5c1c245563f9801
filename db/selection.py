"""Which inbox rows does an operator mean, and how are they gone through? Window by window, none of which takes long."""

from collections.abc import AsyncIterator, Callable, Sequence
from datetime import datetime
from typing import Any, NamedTuple

import msgspec
import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.ext.asyncio import AsyncConnection

from db import queue
from db.inbox import COLUMNS, ClaimedRow, inbox

WINDOW = 20_000  # ids that one statement looks through, so that none takes long, however few rows match
STATUSES = PENDING, PROMOTED, FAILED, REJECTED = ("pending", "promoted", "failed", "rejected")


class Selection(msgspec.Struct, frozen=True, kw_only=True):
    """Selects the inbox rows that match all given fields; `received_after` is inclusive, `received_before` is not.

    `inbox_ids` are in order. `ticket_id`, which needs the tenant's, may also be the display id of tickets.
    """

    inbox_ids: Sequence[int] | None = None
    status: str | None = None
    tenant_id: str | None = None
    ticket_id: str | None = None
    received_after: datetime | None = None
    received_before: datetime | None = None


class Window(NamedTuple):
    """The ids after `after_id`, up to `until_id`."""

    after_id: int
    until_id: int


NEXT_ID = sa.select(sa.func.min(inbox.c.id)).where(inbox.c.id > sa.bindparam("after_id"))

# The status stands in the statement: only then does the planner know that the index of open rows has all of them.
NEXT_OPEN = {
    status: NEXT_ID.where(inbox.c.status == sa.literal_column(f"'{status}'"))
    for status in STATUSES
    if status != PROMOTED
}

# A ticket's deliveries are few: found by indexes, whatever the planner believes, which has no statistics of ticket ids
# (decision 40) and else might walk through all ids to the first that fits; hence OFFSET 0. A ticket with this display
# id is meant with all its deliveries: also those that name none.
IDS = """
    SELECT delivery.id
    FROM (SELECT CAST(:ticket_id AS text) AS ticket_id
          UNION SELECT ticket_id FROM inbox WHERE display_id = :ticket_id AND tenant_id = :tenant_id
          UNION SELECT ticket_id FROM ticket_history WHERE tenant_id = :tenant_id AND display_id = :ticket_id) AS named,
         LATERAL (SELECT id, tenant_id FROM inbox WHERE inbox.ticket_id = named.ticket_id OFFSET 0) AS delivery
    WHERE delivery.tenant_id = :tenant_id
    UNION SELECT id FROM inbox WHERE display_id = :ticket_id AND tenant_id = :tenant_id
"""
NEXT_OF_TICKET = sa.text(f"SELECT min(id) FROM ({IDS}) AS of_ticket WHERE id > :after_id")  # noqa: S608  (a constant)
# The array is made first.
OF_TICKET = f"inbox.id = ANY(ARRAY({IDS}))"


async def bounds(connection: AsyncConnection, selection: Selection) -> Window:
    """Return the window of all ids that the selection can be in; with no row, an empty one."""
    row = (await connection.execute(sa.select(sa.func.min(inbox.c.id), sa.func.max(inbox.c.id)))).one()
    lowest, highest = row[0] or 0, row[1] or 0
    if ids := selection.inbox_ids:
        lowest, highest = max(lowest, ids[0]), min(highest, ids[-1])
    return Window(lowest - 1, highest)


async def window(connection: AsyncConnection, selection: Selection, after_id: int, last_id: int) -> Window:
    """Return what the next statement looks at, after `after_id`: WINDOW ids, or JOB_ROWS of the ids that were given.

    It begins before the next id that exists and, as far as an index says, matches; past `last_id` nothing does.
    """
    if selection.inbox_ids is not None:
        left = [one for one in selection.inbox_ids if one > after_id][: queue.JOB_ROWS]
        return Window(after_id, min(left[-1], last_id) if left else last_id)
    first = await _next_id(connection, selection, after_id)
    if first is None or first > last_id:
        return Window(last_id, last_id)
    return Window(first - 1, min(first - 1 + WINDOW, last_id))


async def windows(connection: AsyncConnection, selection: Selection) -> AsyncIterator[tuple[Window, float]]:
    """Yield window after window, each with the share of all ids that is done after it."""
    begin, last_id = await bounds(connection, selection)
    after_id = begin
    while after_id < last_id:
        found = await window(connection, selection, after_id, last_id)
        after_id = found.until_id
        yield found, (after_id - begin) / (last_id - begin)


async def claim(
    connection: AsyncConnection, selection: Selection, within: Window, rows: int, payload_bytes: int
) -> list[ClaimedRow]:
    """Lock and return the selected rows `within` a window that no other worker has locked.

    Returns the first `rows` of them in order of id, and stops earlier once their payloads reach `payload_bytes`.
    """
    found = await connection.execute(claimed(selection, within, rows, payload_bytes))
    return [ClaimedRow(*row) for row in found]


def claimed(selection: Selection, within: Window, rows: int, payload_bytes: int) -> sa.Select[Any]:
    """Return the statement of `claim`. Rows are joined with nothing but their payloads: how many is a guess."""
    head = [column for column in COLUMNS if column is not inbox.c.payload]
    locked = (
        sa.select(*head, sa.func.octet_length(inbox.c.payload).label("size"))
        .where(*_conditions(selection, within))
        .order_by(inbox.c.id)
        .limit(rows)
        .with_for_update(skip_locked=True)
        .cte("locked")
    )
    before = sa.func.sum(locked.c.size).over(order_by=locked.c.id) - locked.c.size
    sized = sa.select(locked, before.label("before")).cte("sized")
    return (
        sa.select(*[inbox.c.payload if column is inbox.c.payload else sized.c[column.name] for column in COLUMNS])
        .join(inbox, inbox.c.id == sized.c.id)
        .where(sized.c.before < payload_bytes)
        .order_by(sized.c.id)
    )


async def count(connection: AsyncConnection, selection: Selection, within: Window) -> dict[str, int]:
    """Return the number of selected rows `within` a window by their status; reads no ticket's text."""
    return {row.status: row.rows for row in await connection.execute(counted(selection, within))}


def counted(selection: Selection, within: Window) -> sa.Select[Any]:
    """Return the statement of `count`."""
    rows = sa.func.count().label("rows")
    return sa.select(inbox.c.status, rows).where(*_conditions(selection, within)).group_by(inbox.c.status)


async def _next_id(connection: AsyncConnection, selection: Selection, after_id: int) -> int | None:
    given: dict[str, object] = {"after_id": after_id}
    statement: sa.Select[Any] | sa.TextClause = NEXT_OPEN.get(selection.status or "", NEXT_ID)
    if selection.ticket_id is not None:
        statement = NEXT_OF_TICKET
        given |= {"ticket_id": selection.ticket_id, "tenant_id": selection.tenant_id}
    found: int | None = await connection.scalar(statement, given)
    return found


def _conditions(selection: Selection, within: Window) -> list[sa.ColumnExpressionArgument[bool]]:
    given: list[tuple[object, Callable[[Any], sa.ColumnExpressionArgument[bool]]]] = [
        (selection.inbox_ids, lambda ids: inbox.c.id == sa.any_(sa.literal(ids, ARRAY(sa.BigInteger)))),
        (selection.status, inbox.c.status.__eq__),
        (selection.tenant_id, inbox.c.tenant_id.__eq__),
        (selection.ticket_id, lambda one: _of_ticket(selection.tenant_id, one)),
        (selection.received_after, inbox.c.received_at.__ge__),
        (selection.received_before, inbox.c.received_at.__lt__),
    ]
    matched = [condition(value) for value, condition in given if value is not None]
    return [inbox.c.id > within.after_id, inbox.c.id <= within.until_id, *matched]


def _of_ticket(tenant_id: str | None, ticket_id: str) -> sa.TextClause:
    return sa.text(OF_TICKET).bindparams(tenant_id=tenant_id, ticket_id=ticket_id)
