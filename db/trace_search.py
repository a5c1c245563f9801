"""Which deliveries does an operator look for, by a ticket's id or display id, a correlation id, or a trace's id?"""

import re
from collections import deque
from collections.abc import AsyncIterator, Callable, Sequence
from typing import NamedTuple

from db.statement import Session, Statement

# The id alone, or a whole traceparent (https://www.w3.org/TR/trace-context/), whose letters may be large ones.
TRACE_ID = re.compile(r"(?:[0-9a-f]{2}-)?([0-9a-f]{32})(?:-[0-9a-f]{16}-[0-9a-f]{2}(?:-.*)?)?", re.IGNORECASE)

WINDOW = 20_000  # ids that one statement looks through, as db/selection.py has it


class Found(NamedTuple):
    """The inbox ids of the newest deliveries that were looked for, and how many there are in all."""

    newest: Sequence[int]
    total: int


# A ticket that has the display id is meant with all its deliveries: also those that name none. Its row may be all that
# has it, since deliveries are pruned; the index of these begins with the tenant, hence the configs. OFFSET 0 has each
# of them found by its index, whatever the planner believes.
BY_ID = Statement(
    """
    WITH named AS MATERIALIZED (
      SELECT tenant_id, ticket_id FROM inbox
      WHERE display_id = :wanted AND (CAST(:tenant_id AS text) IS NULL OR tenant_id = :tenant_id)
      UNION
      SELECT tenant_id, ticket_id
      FROM tenant_configs,
           LATERAL (SELECT ticket_id FROM ticket_history AS one
                    WHERE one.tenant_id = tenant_configs.tenant_id AND one.display_id = :wanted OFFSET 0) AS history
      WHERE CAST(:tenant_id AS text) IS NULL OR tenant_id = :tenant_id
    ), found AS MATERIALIZED (
      SELECT id FROM inbox
      WHERE (ticket_id = :wanted OR correlation_id = :wanted OR display_id = :wanted)
        AND (CAST(:tenant_id AS text) IS NULL OR tenant_id = :tenant_id)
      UNION
      SELECT id
      FROM named, LATERAL (SELECT id, tenant_id FROM inbox WHERE inbox.ticket_id = named.ticket_id OFFSET 0) AS delivery
      WHERE delivery.tenant_id = named.tenant_id
    )
    SELECT (SELECT count(*) FROM found) AS total, ARRAY(SELECT id FROM found ORDER BY id DESC LIMIT :most) AS newest
    """
)

# No index has it: one more would cost every webhook, for what an operator seldom asks.
BY_TRACE_ID = Statement(
    """
    SELECT id FROM inbox
    WHERE id > :after_id AND id <= :until_id AND split_part(traceparent, '-', 2) = :trace_id
      AND (CAST(:tenant_id AS text) IS NULL OR tenant_id = :tenant_id)
    ORDER BY id
    """
)


# A window begins before the next id that exists: there may be gaps of millions.
NEXT = Statement("SELECT min(id) AS first, max(id) AS last FROM inbox WHERE id > :after_id")


async def find(
    session: Session, wanted: str, tenant_id: str | None, most: int, on_progress: Callable[[int], None]
) -> Found:
    """Return the newest `most` deliveries with the ticket id, display id, correlation id or trace id `wanted`.

    With `tenant_id` only that tenant's. A trace's id, alone or in a whole traceparent, is looked for where nothing has
    the others; that walks through the whole inbox, and calls `on_progress` with the share that is done, in percent.
    """
    found = await BY_ID.row(session, wanted=wanted, tenant_id=tenant_id, most=most)
    trace = TRACE_ID.fullmatch(wanted)
    if found["total"] or trace is None:
        return Found(found["newest"], found["total"])
    newest: deque[int] = deque(maxlen=most)
    total = 0
    async for within, share in _windows(session):
        ids = await BY_TRACE_ID.rows(session, **within, trace_id=trace[1].lower(), tenant_id=tenant_id)
        newest.extend(row["id"] for row in ids)
        total += len(ids)
        on_progress(int(100 * share))
    return Found(list(newest), total)


async def _windows(session: Session) -> AsyncIterator[tuple[dict[str, int], float]]:
    """Yield window after window of ids, none of which takes long, each with the share that is done after it."""
    found = await NEXT.row(session, after_id=0)
    begin, last = found["first"], found["last"]
    while found["first"] is not None and found["first"] <= last:
        until = min(found["first"] - 1 + WINDOW, last)
        yield {"after_id": found["first"] - 1, "until_id": until}, (until - begin + 1) / (last - begin + 1)
        found = await NEXT.row(session, after_id=until)
