"""By which words are a tenant's tickets found? The tables of the word index, which functions in Postgres keep and read.

The functions are in migration 0015: docs/decisions/0047 says why they are Postgres' own.
"""

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import ARRAY, TIMESTAMP
from sqlalchemy.ext.asyncio import AsyncConnection

from db import metadata
from db.queue import PROMOTE

search_indexes = sa.Table(
    "search_indexes",
    metadata,
    sa.Column("id", sa.Integer, sa.Identity(always=True), primary_key=True),
    sa.Column("tenant_id", sa.Text, sa.ForeignKey("tenant_configs.tenant_id", ondelete="SET NULL")),
    sa.Column("configuration", sa.Text, nullable=False),  # of Postgres' text search
    sa.Column("is_ready", sa.Boolean, nullable=False, server_default=sa.false()),
    sa.Column("position", sa.Text, nullable=False, server_default=""),  # the ticket_id that its filling has come to
    sa.Column("last_number", sa.Integer, nullable=False, server_default="0"),
    sa.Column("tickets", sa.Integer, nullable=False, server_default="0"),
    sa.Column("words", sa.BigInteger, nullable=False, server_default="0"),
    sa.Column("created_at", TIMESTAMP(timezone=True), nullable=False, server_default=sa.func.now()),
    sa.Column("ready_at", TIMESTAMP(timezone=True)),
    sa.Index("search_indexes_tenant_id_is_ready_idx", "tenant_id", "is_ready", unique=True),
)

search_tickets = sa.Table(
    "search_tickets",
    metadata,
    sa.Column("index_id", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("number", sa.Integer, primary_key=True, autoincrement=False),  # in the order in which they came in
    sa.Column("ticket", sa.BigInteger, nullable=False),  # ticket_history.id
    sa.Column("words", ARRAY(sa.Integer), nullable=False),
    sa.Column("counts", ARRAY(sa.SmallInteger), nullable=False),
    sa.Column("length", sa.Integer, nullable=False),
    sa.Column("resolved_date", TIMESTAMP(timezone=True), nullable=False),
    sa.Column("made_of", sa.BigInteger, nullable=False),
    sa.Index("search_tickets_index_id_ticket_idx", "index_id", "ticket", unique=True),
)

search_words = sa.Table(
    "search_words",
    metadata,
    sa.Column("index_id", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("word", sa.Text(collation="C"), primary_key=True),
    sa.Column("id", sa.Integer, sa.Identity(always=True), nullable=False),
    sa.Column("tickets", sa.Integer, nullable=False),  # that have it
    sa.Column("numbers", ARRAY(sa.Integer), nullable=False),  # of the last of these
    sa.Column("impacts", ARRAY(sa.SmallInteger), nullable=False),
    sa.Index("search_words_id_idx", "id", unique=True),
    postgresql_with={"fillfactor": 70},
)

search_postings = sa.Table(
    "search_postings",
    metadata,
    sa.Column("word", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("last", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("numbers", ARRAY(sa.Integer), nullable=False),
    sa.Column("impacts", ARRAY(sa.SmallInteger), nullable=False),
)

search_due = sa.Table(
    "search_due",
    metadata,
    sa.Column("id", sa.BigInteger, sa.Identity(always=True), primary_key=True),
    sa.Column("tenant_id", sa.Text, nullable=False),
    sa.Column("tickets", ARRAY(sa.BigInteger), nullable=False),
    sa.Column("noted_at", TIMESTAMP(timezone=True), nullable=False, server_default=sa.func.now()),
    sa.Index("search_due_tenant_id_idx", "tenant_id", "id"),
)

INDEX_BATCH = sa.text("SELECT search_index_batch(:most)")

# Promotion goes first: what it stores is lost from sight for a while, what waits in the inbox is not stored at all. But
# while there is always more to promote, the oldest ticket that is due waits for minutes and no longer.
IS_HELD_BACK = sa.text(
    f"""
    SELECT EXISTS (SELECT FROM procrastinate_jobs
                   WHERE status = 'todo' AND task_name = '{PROMOTE}' AND scheduled_at IS NULL)
           AND NOT coalesce((SELECT noted_at < now() - make_interval(secs => :at_most)
                             FROM search_due ORDER BY id LIMIT 1), false)
    """  # noqa: S608  (composed of constants)
)


async def index_batch(connection: AsyncConnection, most: int) -> int:
    """Bring up to `most` tickets into the index, in one commit, and return how many rows that was; 0 if none is left.

    The room that tickets which are due leave is for indexes that are not built yet, or are to be deleted.
    """
    return int(await connection.scalar(INDEX_BATCH, {"most": most}) or 0)


async def is_held_back(connection: AsyncConnection, at_most: float) -> bool:
    """Return True while promote jobs wait, unless a ticket has been due for more than `at_most` seconds."""
    return bool(await connection.scalar(IS_HELD_BACK, {"at_most": at_most}))
