"""Which deliveries came in, and what was the outcome of each? Table `inbox`: one row per verified delivery."""

import functools
from collections.abc import Sequence
from datetime import datetime

import msgspec
import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import ARRAY, BYTEA, TIMESTAMP
from sqlalchemy.ext.asyncio import AsyncConnection

from db import leases, metadata, queue
from db.allowed import ENABLED, Allowed
from db.leases import Lease, LostError

WEBHOOK, API, BULK = SOURCES = ("webhook_resolved", "api_fallback", "bulk_import")  # how a delivery arrived

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
    sa.Column("job_id", sa.BigInteger),  # the last job that processed the row; a job that succeeds is deleted
    sa.Column("display_id", sa.Text),  # the number that people know the ticket by
    sa.CheckConstraint("source IN ('webhook_resolved', 'bulk_import', 'api_fallback')", name="source"),
    sa.CheckConstraint("status IN ('pending', 'promoted', 'failed', 'rejected')", name="status"),
    sa.CheckConstraint("action IN ('inserted', 'updated', 'stale')", name="action"),
    sa.Index("inbox_open_idx", "status", "id", postgresql_where=sa.text("status <> 'promoted'")),
    sa.Index("inbox_ticket_id_idx", "ticket_id"),
    sa.Index("inbox_correlation_id_idx", "correlation_id"),
    # The same small numbers are tickets of many tenants: with one, only its own are read.
    sa.Index("inbox_display_id_idx", "display_id", "tenant_id", postgresql_where=sa.text("display_id IS NOT NULL")),
)


class Delivery(msgspec.Struct, frozen=True, kw_only=True):
    """One verified arrival of an event, before it has a row; `error` says why it is `rejected`."""

    source: str = WEBHOOK
    tenant_id: str
    ticket_id: str | None
    display_id: str | None = None
    correlation_id: str
    traceparent: str
    payload: bytes
    signature: str
    status: str = "pending"
    error: str | None = None


class ClaimedRow(msgspec.Struct, frozen=True):
    """An inbox row to promote, locked by the transaction that read it."""

    id: int
    status: str
    source: str
    tenant_id: str
    ticket_id: str | None
    correlation_id: str
    traceparent: str | None
    payload: bytes
    received_at: datetime
    attempts: int


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """The outcome of promoting the inbox row `id`."""

    id: int
    status: str
    ticket_id: str | None = None
    display_id: str | None = None
    action: str | None = None
    error: str | None = None


# `= ANY (ARRAY(…))` is no join, which might change the order of the rows, and so which id is whose. Where all tenants
# are allowed, which they are is asked once.
APPEND = f"""
WITH {{fence}}appended AS (
  INSERT INTO inbox (source, tenant_id, ticket_id, display_id, correlation_id, traceparent, payload, signature, status,
                     error)
  SELECT *
  FROM unnest(CAST(:source AS text[]), CAST(:tenant_id AS text[]), CAST(:ticket_id AS text[]),
              CAST(:display_id AS text[]), CAST(:correlation_id AS text[]), CAST(:traceparent AS text[]),
              CAST(:payload AS bytea[]), CAST(:signature AS text[]), CAST(:status AS text[]), CAST(:error AS text[]))
    AS given (source, tenant_id)
  WHERE given.tenant_id = ANY (ARRAY({{allowed}})){{owner}}
  RETURNING id, status, tenant_id
), deferred AS ({queue.DEFER_PROMOTE})
SELECT array_agg(id ORDER BY id) AS ids, (SELECT job_ids FROM deferred) AS job_ids,
       CASE WHEN count(*) < cardinality(CAST(:tenant_id AS text[])) THEN ARRAY({{allowed}}) END AS allowed
FROM appended
"""  # noqa: S608  (composed of constants)

APPEND_SUMMARY = "INSERT inbox"  # the statement's name in spans and metrics

COLUMNS = [inbox.c[name] for name in ClaimedRow.__struct_fields__]

# One that is not promoted first: it needs no ticket in ticket_history to count.
HELD = (
    sa.select(inbox.c.status)
    .where(*(inbox.c[name] == sa.bindparam(name) for name in ("source", "tenant_id", "ticket_id", "payload")))
    .order_by(inbox.c.status == "promoted")
    .limit(1)
)

HAS_TICKET = sa.text("SELECT EXISTS (SELECT FROM inbox WHERE ticket_id = :ticket_id AND tenant_id = :tenant_id)")

# Ticket by ticket, and OFFSET 0 for the index of tickets alone: without statistics of ticket ids (decision 40) Postgres
# expects thousands of deliveries of each, and would read all open rows, or all rows.
OPEN_TICKETS = sa.text(
    """
    SELECT DISTINCT ticket_id FROM unnest(CAST(:ticket_ids AS text[])) AS wanted (ticket_id)
    WHERE EXISTS (SELECT FROM (SELECT tenant_id, status FROM inbox WHERE inbox.ticket_id = wanted.ticket_id OFFSET 0)
                    AS delivery WHERE tenant_id = :tenant_id AND status <> 'promoted')
    """
)

# By number, newest and sum: retention may delete one of them while another comes.
DELIVERIES = sa.text(
    "SELECT count(*), coalesce(max(id), 0), coalesce(sum(id), 0) FROM inbox "
    "WHERE ticket_id = :ticket_id AND tenant_id = :tenant_id"
)

CAME_LATELY = sa.text(
    """
    SELECT EXISTS (SELECT FROM inbox WHERE ticket_id = :ticket_id AND tenant_id = :tenant_id
                   AND received_at > clock_timestamp() - make_interval(secs => CAST(:seconds AS double precision)))
    """
)

# SKIP LOCKED: another worker is promoting a locked row already.
CLAIM = (
    sa.select(*COLUMNS)
    .where(inbox.c.id == sa.any_(sa.bindparam("ids", type_=ARRAY(sa.BigInteger))), inbox.c.status == "pending")
    .order_by(inbox.c.id)
    .with_for_update(skip_locked=True)
)

# An earlier version may have rejected a row without a readable ticket id, and wrote no display id; today's code may
# read them, hence coalesce.
MARK = sa.text(
    """
    UPDATE inbox
    SET status = outcome.status, ticket_id = coalesce(inbox.ticket_id, outcome.ticket_id),
        display_id = coalesce(inbox.display_id, outcome.display_id), action = outcome.action, error = outcome.error,
        attempts = attempts + :tries, job_id = :job_id,
        promoted_at = CASE outcome.status WHEN 'promoted' THEN clock_timestamp() END
    FROM unnest(CAST(:id AS bigint[]), CAST(:status AS text[]), CAST(:ticket_id AS text[]),
                CAST(:display_id AS text[]), CAST(:action AS text[]), CAST(:error AS text[]))
      AS outcome (id, status, ticket_id, display_id, action, error)
    WHERE inbox.id = outcome.id
    """
)


async def append(
    connection: AsyncConnection,
    deliveries: Sequence[Delivery],
    over_share: Sequence[str] = (),
    lease: Lease | None = None,
    *,
    allowed: Allowed = ENABLED,
) -> list[int | None]:
    """Write `deliveries` and the job that promotes the pending ones, in one statement.

    Deliveries of the tenants `over_share` get a job of their own, which runs when no other tenant's webhooks wait; the
    jobs of a bulk import run after both. Returns the inbox ids, in the order of `deliveries`: None, and no row, for
    those of a tenant that is not `allowed` any more.
    With a `lease`, raises LostError if another process has it by now; then nothing is written.
    """
    tenants = list({one.tenant_id for one in deliveries})
    is_bulk = all(one.source == BULK for one in deliveries)
    given = {"over_share": over_share, "is_bulk": is_bulk, "tenants": tenants, **allowed.values}
    fence = {"lease": lease.name, "owner": lease.owner} if lease else {}
    statement = append_if(allowed.query, is_fenced=lease is not None)
    done = (await connection.execute(statement, {**_columns(deliveries, Delivery), **given, **fence})).one()
    if done.allowed is None:
        return list(done.ids or ())
    if done.allowed and not done.ids:
        raise LostError
    ids, known = iter(done.ids or ()), set(done.allowed)
    return [next(ids) if one.tenant_id in known else None for one in deliveries]


@functools.cache
def append_if(query: str, *, is_fenced: bool = False) -> sa.TextClause:
    """Return the statement that appends the deliveries of the tenants that `query`, an Allowed's, selects.

    If it `is_fenced`, only the owner of a lease may append; the lease cannot change hands before the commit.
    """
    fence = f"fence AS ({leases.FENCE}), " if is_fenced else ""
    owner = " AND EXISTS (SELECT FROM fence)" if is_fenced else ""
    return sa.text(APPEND.format(fence=fence, allowed=query, owner=owner))


async def held(connection: AsyncConnection, delivery: Delivery) -> str | None:
    """Return the status of a row by which its source delivered this ticket with this very payload; None without one."""
    known = {name: getattr(delivery, name) for name in ("source", "tenant_id", "ticket_id", "payload")}
    found: str | None = await connection.scalar(HELD, known)
    return found


async def open_tickets(connection: AsyncConnection, tenant_id: str, ticket_ids: Sequence[str]) -> set[str]:
    """Return those of a tenant's tickets that have a row which is not promoted: pending, failed or rejected."""
    found = await connection.execute(OPEN_TICKETS, {"tenant_id": tenant_id, "ticket_ids": ticket_ids})
    return {row.ticket_id for row in found}


async def has_ticket(connection: AsyncConnection, tenant_id: str, ticket_id: str) -> bool:
    """Return True if there is any delivery of a tenant's ticket."""
    return bool(await connection.scalar(HAS_TICKET, {"tenant_id": tenant_id, "ticket_id": ticket_id}))


async def deliveries_of(connection: AsyncConnection, tenant_id: str, ticket_id: str) -> tuple[int, ...]:
    """Return what changes with each delivery of a ticket that comes, whatever its status."""
    return tuple((await connection.execute(DELIVERIES, {"tenant_id": tenant_id, "ticket_id": ticket_id})).one())


async def came_lately(connection: AsyncConnection, tenant_id: str, ticket_id: str, seconds: float) -> bool:
    """Return True if a delivery of a ticket came within the last `seconds`, whatever its status."""
    asked = {"tenant_id": tenant_id, "ticket_id": ticket_id, "seconds": seconds}
    return bool(await connection.scalar(CAME_LATELY, asked))


async def claim(connection: AsyncConnection, ids: Sequence[int]) -> list[ClaimedRow]:
    """Lock and return those of the rows `ids` that are pending and that no other worker has locked, in order of id."""
    return [ClaimedRow(*row) for row in await connection.execute(CLAIM, {"ids": ids})]


async def mark(connection: AsyncConnection, outcomes: Sequence[Outcome], job_id: int | None, tries: int) -> None:
    """Write the outcomes of the job `job_id` into its rows, and add `tries` to their attempts."""
    await connection.execute(MARK, {**_columns(outcomes, Outcome), "job_id": job_id, "tries": tries})


def _columns(rows: Sequence[msgspec.Struct], kind: type[msgspec.Struct]) -> dict[str, list[object]]:
    return {name: [getattr(row, name) for row in rows] for name in kind.__struct_fields__}
