"""Which deliveries does an operator look for, by a ticket's id, a correlation id, or the id of a trace?"""

import re
from collections import deque
from collections.abc import Callable, Sequence
from typing import NamedTuple

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from db import selection

# The id alone, or a whole traceparent (https://www.w3.org/TR/trace-context/), whose letters may be large ones.
TRACE_ID = re.compile(r"(?:[0-9a-f]{2}-)?([0-9a-f]{32})(?:-[0-9a-f]{16}-[0-9a-f]{2}(?:-.*)?)?", re.IGNORECASE)


class Found(NamedTuple):
    """The inbox ids of the newest deliveries that were looked for, and how many there are in all."""

    newest: Sequence[int]
    total: int


BY_ID = sa.text(
    """
    WITH found AS MATERIALIZED (
      SELECT id FROM inbox
      WHERE (ticket_id = :wanted OR correlation_id = :wanted)
        AND (CAST(:tenant_id AS text) IS NULL OR tenant_id = :tenant_id)
    )
    SELECT (SELECT count(*) FROM found) AS total, ARRAY(SELECT id FROM found ORDER BY id DESC LIMIT :most) AS newest
    """
)

# No index has it: one more would cost every webhook, for what an operator seldom asks.
BY_TRACE_ID = sa.text(
    """
    SELECT id FROM inbox
    WHERE id > :after_id AND id <= :until_id AND split_part(traceparent, '-', 2) = :trace_id
      AND (CAST(:tenant_id AS text) IS NULL OR tenant_id = :tenant_id)
    ORDER BY id
    """
)


async def find(
    connection: AsyncConnection, wanted: str, tenant_id: str | None, most: int, on_progress: Callable[[int], None]
) -> Found:
    """Return the newest `most` deliveries with the ticket id, correlation id or trace id `wanted`.

    With `tenant_id` only that tenant's. A trace's id, alone or in a whole traceparent, is looked for where nothing has
    the first two; that walks through the whole inbox, and calls `on_progress` with the share that is done, in percent.
    """
    found = (await connection.execute(BY_ID, {"wanted": wanted, "tenant_id": tenant_id, "most": most})).one()
    trace = TRACE_ID.fullmatch(wanted)
    if found.total or trace is None:
        return Found(found.newest, found.total)
    newest: deque[int] = deque(maxlen=most)
    total = 0
    async for within, share in selection.windows(connection, selection.Selection()):
        looked = {**within._asdict(), "trace_id": trace[1].lower(), "tenant_id": tenant_id}
        ids = (await connection.scalars(BY_TRACE_ID, looked)).all()
        newest.extend(ids)
        total += len(ids)
        on_progress(int(100 * share))
    return Found(list(newest), total)
