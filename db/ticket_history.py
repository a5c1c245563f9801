"""What is stored of a resolved ticket? Table `ticket_history`: one row per tenant and ticket."""

from collections.abc import Collection, Mapping, Sequence
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
    sa.Column("display_id", sa.Text),  # the number that people know the ticket by
    sa.UniqueConstraint("tenant_id", "ticket_id"),
    sa.CheckConstraint("source IN ('webhook_resolved', 'bulk_import', 'api_fallback')", name="source"),
    # Of a part of the rows, so that no statement that names a tenant and no display id takes it for the key.
    sa.Index(
        "ticket_history_display_id_idx", "tenant_id", "display_id", postgresql_where=sa.text("display_id IS NOT NULL")
    ),
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

    `description`, `priority` and `tags` come from the ticket's first event in the batch, `display_id` from the first
    that has one, the rest from its newest.
    """

    tenant_id: str
    ticket_id: str
    display_id: str | None = None
    description: str
    priority: str
    tags: list[str]
    resolution: str
    resolved_date: datetime
    source: str
    inbox_id: int

    @property
    def key(self) -> Key:
        """Tenant and ticket."""
        return self.tenant_id, self.ticket_id


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
                                         source, inbox_id, display_id)
    SELECT tenant_id, ticket_id, description, priority,
           ARRAY(SELECT jsonb_array_elements_text(CAST(tags AS jsonb))), resolution, resolved_date, source, inbox_id,
           display_id
    FROM unnest(CAST(:tenant_id AS text[]), CAST(:ticket_id AS text[]), CAST(:description AS text[]),
                CAST(:priority AS text[]), CAST(:tags AS text[]), CAST(:resolution AS text[]),
                CAST(CAST(:resolved_date AS text[]) AS timestamptz[]), CAST(:source AS text[]),
                CAST(:inbox_id AS bigint[]), CAST(:display_id AS text[]))
      AS winner (tenant_id, ticket_id, description, priority, tags, resolution, resolved_date, source, inbox_id,
                 display_id)
    ORDER BY tenant_id, ticket_id
    ON CONFLICT (tenant_id, ticket_id) DO UPDATE
    SET resolution = excluded.resolution, resolved_date = excluded.resolved_date, source = excluded.source,
        inbox_id = excluded.inbox_id, display_id = coalesce(known.display_id, excluded.display_id),
        ingested_at = now(), updated_at = now()
    WHERE known.inbox_id = ANY(CAST(:batch AS bigint[]))
       OR (excluded.resolved_date, {HAS_TEXT.format("excluded.resolution")}, excluded.inbox_id)
        > (known.resolved_date, {HAS_TEXT.format("known.resolution")}, coalesce(known.inbox_id, 0))
    RETURNING tenant_id, ticket_id, xmax = 0 AS inserted
    """  # noqa: S608  (composed of constants)
)

# For tickets whose rows an upsert did not write, because something newer stands, and those that a list names. The rows
# are locked in the order in which an upsert locks them.
GIVE_DISPLAY_IDS = sa.text(
    """
    WITH nameless AS MATERIALIZED (
      SELECT known.id, given.display_id
      FROM ticket_history AS known
      JOIN unnest(CAST(:tenant_id AS text[]), CAST(:ticket_id AS text[]), CAST(:display_id AS text[]))
        AS given (tenant_id, ticket_id, display_id) USING (tenant_id, ticket_id)
      WHERE known.display_id IS NULL
      ORDER BY tenant_id, ticket_id
      FOR NO KEY UPDATE OF known
    )
    UPDATE ticket_history SET display_id = nameless.display_id, updated_at = now()
    FROM nameless WHERE ticket_history.id = nameless.id
    """
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


async def give_display_ids(connection: AsyncConnection, display_ids: Mapping[Key, str]) -> int:
    """Give those of these tickets that have no display id the one here; return how many these are."""
    if not display_ids:
        return 0
    tenant_ids, ticket_ids = zip(*display_ids, strict=True)
    given = {"tenant_id": tenant_ids, "ticket_id": ticket_ids, "display_id": list(display_ids.values())}
    return (await connection.execute(GIVE_DISPLAY_IDS, given)).rowcount


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


async def payload(connection: AsyncConnection, stored: Stored) -> bytes | None:
    """Return the body of the delivery that stands; None if it is pruned."""
    asked = sa.text("SELECT payload FROM inbox WHERE id = :inbox_id")
    found: bytes | None = await connection.scalar(asked, {"inbox_id": stored.inbox_id})
    return found


async def read(connection: AsyncConnection, tenant_id: str, ticket_id: str) -> sa.RowMapping | None:
    """Return a ticket's row with its delivery's `action` and the `milliseconds` from receipt to stored, or None."""
    found = await connection.execute(READ, {"tenant_id": tenant_id, "ticket_id": ticket_id})
    return found.mappings().first()


async def count(connection: AsyncConnection) -> int:
    """Return the number of tickets; costs a scan."""
    return await connection.scalar(sa.select(sa.func.count()).select_from(ticket_history)) or 0
