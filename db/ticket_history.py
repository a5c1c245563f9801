"""What is stored of a resolved ticket? Table `ticket_history`: one row per tenant and ticket."""

from collections.abc import Collection, Sequence
from datetime import datetime
from typing import NamedTuple

import msgspec
import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import ARRAY, TIMESTAMP
from sqlalchemy.ext.asyncio import AsyncConnection

from db import metadata

ticket_history = sa.Table(
    "ticket_history",
    metadata,
    sa.Column("id", sa.BigInteger, sa.Identity(always=True), primary_key=True),
    sa.Column("tenant_id", sa.Text, nullable=False),
    sa.Column("ticket_id", sa.Text, nullable=False),
    sa.Column("description", sa.Text, nullable=False),
    sa.Column("resolution", sa.Text, nullable=False),
    sa.Column("resolved_date", TIMESTAMP(timezone=True), nullable=False),
    sa.Column("priority", sa.Text, nullable=False),
    sa.Column("tags", ARRAY(sa.Text), nullable=False, server_default="{}"),
    sa.Column("source", sa.Text, nullable=False, server_default="webhook_resolved"),
    sa.Column("inbox_id", sa.BigInteger),
    sa.Column("ingested_at", TIMESTAMP(timezone=True), nullable=False, server_default=sa.func.now()),
    sa.Column("created_at", TIMESTAMP(timezone=True), nullable=False, server_default=sa.func.now()),
    sa.Column("updated_at", TIMESTAMP(timezone=True), nullable=False, server_default=sa.func.now()),
    sa.UniqueConstraint("tenant_id", "ticket_id"),
    sa.CheckConstraint("source IN ('webhook_resolved', 'bulk_import', 'api_fallback')", name="source"),
    sa.Index(
        "ticket_history_description_idx",
        sa.func.to_tsvector(sa.literal_column("'english'"), sa.Column("description")),
        postgresql_using="gin",
        # The statement that fills the index's pending list has to merge it. With an index of 3.6 GB the longest took
        # 0.4 s with a list of 1 MB, 1.5 s with the default 4 MB, 3.8 s with 16 MB; all together took the same time.
        postgresql_with={"gin_pending_list_limit": 1024},
    ),
    # An update that finds room on its row's page leaves the full-text index alone: 70 µs, not 103, in one run each.
    postgresql_with={"fillfactor": 85},
)

Key = tuple[str, str]  # tenant_id, ticket_id

# A resolution of these alone has no text: white space, and what has no width. Python and Postgres are both given this
# list: what either calls white space depends on its version or its locale, and the order has to be the same in both.
BLANK = "".join(
    [
        *"\t\n\v\f\r\x1c\x1d\x1e\x1f \x85\xa0\u1680\u2028\u2029\u202f\u205f\u3000",
        *map(chr, range(0x2000, 0x2010)),
        *"\xad\u2060\ufeff",
    ]
)


def has_text(resolution: str) -> bool:
    """Return True if a resolution says something."""
    return bool(resolution.strip(BLANK))


class Standing(NamedTuple):
    """The delivery whose values stand for a ticket; of two, the larger tuple is the newer delivery.

    On equal dates one whose resolution has text is newer than one whose has none: ServiceDesk Plus often gets the
    resolution after the status, and the first event may be sent again after the second.
    """

    resolved_date: datetime
    has_text: bool
    inbox_id: int  # 0 for none


class Stored(NamedTuple):
    """What is stored of how a ticket was resolved, and when."""

    resolved_date: datetime
    resolution: str
    inbox_id: int | None = None


class Winner(msgspec.Struct, frozen=True, kw_only=True):
    """What a batch would store for one ticket.

    `description`, `priority` and `tags` come from the ticket's first event in the batch, the rest from its newest.
    """

    tenant_id: str
    ticket_id: str
    description: str
    priority: str
    tags: list[str]
    resolution: str
    resolved_date: datetime
    source: str
    inbox_id: int


# Nearly every text says something early on; a long one is looked through only where its beginning says nothing.
HAS_TEXT = "(btrim(left({0}, 50), CAST(:blank AS text)) <> '' OR btrim({0}, CAST(:blank AS text)) <> '')"

# If the delivery that stands is itself in this batch, the batch's newest overwrites the row, whatever the row says:
# that is how reprocessing repairs a damaged row. Tags are sent as JSON, because arrays of arrays cannot be ragged.
# Dates are sent as text, because asyncpg sends Python's first and last moment as -infinity and infinity.
# The rows' comparison is Standing's; Postgres looks at the texts only where the dates are equal.
# Rows are sorted by key, so that two workers that upsert the same tickets wait for each other and never deadlock.
UPSERT = sa.text(
    f"""
    INSERT INTO ticket_history AS known (tenant_id, ticket_id, description, priority, tags, resolution, resolved_date,
                                         source, inbox_id)
    SELECT tenant_id, ticket_id, description, priority,
           ARRAY(SELECT jsonb_array_elements_text(CAST(tags AS jsonb))), resolution, resolved_date, source, inbox_id
    FROM unnest(CAST(:tenant_id AS text[]), CAST(:ticket_id AS text[]), CAST(:description AS text[]),
                CAST(:priority AS text[]), CAST(:tags AS text[]), CAST(:resolution AS text[]),
                CAST(CAST(:resolved_date AS text[]) AS timestamptz[]), CAST(:source AS text[]),
                CAST(:inbox_id AS bigint[]))
      AS winner (tenant_id, ticket_id, description, priority, tags, resolution, resolved_date, source, inbox_id)
    ORDER BY tenant_id, ticket_id
    ON CONFLICT (tenant_id, ticket_id) DO UPDATE
    SET resolution = excluded.resolution, resolved_date = excluded.resolved_date, source = excluded.source,
        inbox_id = excluded.inbox_id, ingested_at = now(), updated_at = now()
    WHERE known.inbox_id = ANY(CAST(:batch AS bigint[]))
       OR (excluded.resolved_date, {HAS_TEXT.format("excluded.resolution")}, excluded.inbox_id)
        > (known.resolved_date, {HAS_TEXT.format("known.resolution")}, coalesce(known.inbox_id, 0))
    RETURNING tenant_id, ticket_id, xmax = 0 AS inserted
    """  # noqa: S608  (composed of constants)
)

STANDING = sa.text(
    f"""
    SELECT tenant_id, ticket_id, resolved_date, {HAS_TEXT.format("resolution")} AS has_text,
           coalesce(inbox_id, 0) AS inbox_id
    FROM ticket_history
    JOIN unnest(CAST(:tenant_ids AS text[]), CAST(:ticket_ids AS text[])) AS wanted (tenant_id, ticket_id)
      USING (tenant_id, ticket_id)
    """  # noqa: S608  (composed of constants)
)


STORED = sa.text(
    """
    SELECT resolved_date, resolution, inbox_id FROM ticket_history
    WHERE tenant_id = :tenant_id AND ticket_id = :ticket_id
    """
)

# The duration comes from the inbox, which has both times by the database's clock.
READ = sa.text(
    """
    SELECT ticket_history.*, inbox.action,
           extract(epoch FROM inbox.promoted_at - inbox.received_at) * 1000 AS milliseconds
    FROM ticket_history
    JOIN inbox ON inbox.id = ticket_history.inbox_id
    WHERE ticket_history.tenant_id = :tenant_id AND ticket_history.ticket_id = :ticket_id
    """
)


async def upsert(connection: AsyncConnection, winners: Sequence[Winner], batch: Sequence[int]) -> dict[Key, str]:
    """Store each of `winners` that is newer than what stands for its ticket.

    `batch` holds the inbox ids of all deliveries that the winners were chosen from.
    Returns `inserted` or `updated` for each ticket that was written; for the others something newer stands.
    """
    columns = {name: [getattr(winner, name) for winner in winners] for name in Winner.__struct_fields__}
    columns["tags"] = [msgspec.json.encode(tags).decode() for tags in columns["tags"]]
    columns["resolved_date"] = [instant.isoformat() for instant in columns["resolved_date"]]
    written = await connection.execute(UPSERT, {**columns, "batch": batch, "blank": BLANK})
    return {(row.tenant_id, row.ticket_id): "inserted" if row.inserted else "updated" for row in written}


async def standing(connection: AsyncConnection, keys: Collection[Key]) -> dict[Key, Standing]:
    """Return, for each of the tickets `keys` that is known, the delivery whose values stand."""
    if not keys:
        return {}
    tenant_ids, ticket_ids = zip(*keys, strict=True)
    wanted = {"tenant_ids": tenant_ids, "ticket_ids": ticket_ids, "blank": BLANK}
    found = await connection.execute(STANDING, wanted)
    return {(row.tenant_id, row.ticket_id): Standing(row.resolved_date, row.has_text, row.inbox_id) for row in found}


async def stored(connection: AsyncConnection, tenant_id: str, ticket_id: str) -> Stored | None:
    """Return how a ticket was resolved, and when; None if it is not known."""
    found = (await connection.execute(STORED, {"tenant_id": tenant_id, "ticket_id": ticket_id})).first()
    return Stored(*found) if found else None


async def read(connection: AsyncConnection, tenant_id: str, ticket_id: str) -> sa.RowMapping | None:
    """Return a ticket's row with its delivery's `action` and the `milliseconds` from receipt to stored, or None."""
    found = await connection.execute(READ, {"tenant_id": tenant_id, "ticket_id": ticket_id})
    return found.mappings().first()


async def count(connection: AsyncConnection) -> int:
    """Return the number of tickets; costs a scan."""
    return await connection.scalar(sa.select(sa.func.count()).select_from(ticket_history)) or 0
