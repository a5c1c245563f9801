"""What came in, and what became of it? Table `inbox`: one row per verified delivery."""

from collections.abc import Sequence
from datetime import datetime

import msgspec
import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import BYTEA, TIMESTAMP
from sqlalchemy.ext.asyncio import AsyncConnection

from db import metadata, queue

inbox = sa.Table(
    "inbox",
    metadata,
    sa.Column("id", sa.BigInteger, sa.Identity(always=True), primary_key=True),
    sa.Column("source", sa.Text, nullable=False, server_default="webhook_resolved"),
    sa.Column("tenant_id", sa.Text, nullable=False),
    sa.Column("ticket_id", sa.Text),
    sa.Column("correlation_id", sa.Text, nullable=False),
    sa.Column("traceparent", sa.Text),
    sa.Column("payload", BYTEA, nullable=False),
    sa.Column("signature", sa.Text, nullable=False),
    sa.Column("received_at", TIMESTAMP(timezone=True), nullable=False, server_default=sa.func.now()),
    sa.Column("status", sa.Text, nullable=False, server_default="pending"),
    sa.Column("action", sa.Text),
    sa.Column("attempts", sa.Integer, nullable=False, server_default="0"),
    sa.Column("error", sa.Text),
    sa.Column("promoted_at", TIMESTAMP(timezone=True)),
    sa.CheckConstraint("source IN ('webhook_resolved', 'bulk_import', 'api_fallback')", name="source"),
    sa.CheckConstraint("status IN ('pending', 'promoted', 'failed', 'rejected')", name="status"),
    sa.CheckConstraint("action IN ('inserted', 'updated', 'stale')", name="action"),
)


class Delivery(msgspec.Struct, frozen=True, kw_only=True):
    """One verified arrival of an event, before it has a row; `error` says why it is `rejected`."""

    tenant_id: str
    ticket_id: str | None
    correlation_id: str
    traceparent: str
    payload: bytes
    signature: str
    status: str = "pending"
    error: str | None = None


class PendingRow(msgspec.Struct, frozen=True):
    """An inbox row that waits to be promoted, claimed by the transaction that read it."""

    id: int
    source: str
    tenant_id: str
    correlation_id: str
    traceparent: str | None
    payload: bytes
    received_at: datetime


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """What promotion made of the inbox row `id`."""

    id: int
    status: str
    action: str | None = None
    error: str | None = None


APPEND = sa.text(
    f"""
    WITH appended AS (
      INSERT INTO inbox (tenant_id, ticket_id, correlation_id, traceparent, payload, signature, status, error)
      SELECT * FROM unnest(CAST(:tenant_id AS text[]), CAST(:ticket_id AS text[]), CAST(:correlation_id AS text[]),
                           CAST(:traceparent AS text[]), CAST(:payload AS bytea[]), CAST(:signature AS text[]),
                           CAST(:status AS text[]), CAST(:error AS text[]))
      RETURNING id, status
    ), deferred AS ({queue.DEFER_PROMOTE})
    SELECT array_agg(id ORDER BY id) AS ids, (SELECT job_ids FROM deferred) AS job_ids FROM appended
    """  # noqa: S608  (composed of constants)
)

# SKIP LOCKED: a row that another worker has in hand needs no second one.
CLAIM = sa.text(
    """
    SELECT id, source, tenant_id, correlation_id, traceparent, payload, received_at
    FROM inbox
    WHERE id = ANY(CAST(:ids AS bigint[])) AND status = 'pending'
    ORDER BY id
    FOR UPDATE SKIP LOCKED
    """
)

MARK = sa.text(
    """
    UPDATE inbox
    SET status = outcome.status, action = outcome.action, error = outcome.error, attempts = attempts + 1,
        promoted_at = CASE outcome.status WHEN 'promoted' THEN clock_timestamp() END
    FROM unnest(CAST(:id AS bigint[]), CAST(:status AS text[]), CAST(:action AS text[]), CAST(:error AS text[]))
      AS outcome (id, status, action, error)
    WHERE inbox.id = outcome.id
    """
)


async def append(connection: AsyncConnection, deliveries: Sequence[Delivery]) -> list[int]:
    """Write `deliveries` and the job that promotes the pending ones, in one statement.

    Gives their inbox ids, in the order of `deliveries`.
    """
    row = (await connection.execute(APPEND, _columns(deliveries, Delivery))).one()
    return list(row.ids)


async def claim(connection: AsyncConnection, ids: Sequence[int]) -> list[PendingRow]:
    """Lock and read those of the rows `ids` that are pending and in nobody else's hand, in order of id."""
    found = await connection.execute(CLAIM, {"ids": ids})
    return [PendingRow(*row) for row in found]


async def mark(connection: AsyncConnection, outcomes: Sequence[Outcome]) -> None:
    """Write what promotion made of its rows, and count the attempt."""
    await connection.execute(MARK, _columns(outcomes, Outcome))


def _columns(rows: Sequence[msgspec.Struct], kind: type[msgspec.Struct]) -> dict[str, list[object]]:
    return {name: [getattr(row, name) for row in rows] for name in kind.__struct_fields__}
