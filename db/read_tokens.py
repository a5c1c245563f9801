"""Which read tokens are there, and whose tickets does each show? Table `read_tokens`: of a token only its SHA-256."""

from collections.abc import Mapping, Sequence
from datetime import datetime

import msgspec
import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import BYTEA, TIMESTAMP, insert
from sqlalchemy.ext.asyncio import AsyncConnection

from db import being_removed, metadata
from db.tenants import tenant_configs

NUMBERED = "token"  # how the names begin of tokens that nobody named: token-1, token-2, …

read_tokens = sa.Table(
    "read_tokens",
    metadata,
    sa.Column("id", sa.BigInteger, sa.Identity(always=True), primary_key=True),
    sa.Column("tenant_id", sa.Text, sa.ForeignKey("tenant_configs.tenant_id", ondelete="CASCADE"), nullable=False),
    sa.Column("name", sa.Text, nullable=False),
    sa.Column("token_hash", BYTEA, nullable=False, unique=True),
    sa.Column("made_at", TIMESTAMP(timezone=True), nullable=False, server_default=sa.func.now()),
    sa.Column("last_used_at", TIMESTAMP(timezone=True)),
    sa.Column("revoked_at", TIMESTAMP(timezone=True)),
    sa.CheckConstraint("name ~ '^[A-Za-z0-9._-]{1,100}$'", name="name"),
    sa.CheckConstraint("length(token_hash) = 32", name="token_hash"),
    sa.Index("read_tokens_name_idx", "tenant_id", "name", unique=True, postgresql_where=sa.text("revoked_at IS NULL")),
)
_column = read_tokens.c


class ValidToken(msgspec.Struct, frozen=True):
    """A token that is not revoked, of a tenant that is enabled."""

    id: int
    tenant_id: str
    token_hash: bytes


class TokenRow(msgspec.Struct, frozen=True):
    """A token as `tenant token list` shows it; times in UTC, `revoked_at` None while it is in force."""

    name: str
    made_at: datetime
    last_used_at: datetime | None
    revoked_at: datetime | None


VALID = (
    sa.select(*[_column[name] for name in ValidToken.__struct_fields__])
    .join(tenant_configs, tenant_configs.c.tenant_id == _column.tenant_id)
    .where(tenant_configs.c.enabled, _column.revoked_at.is_(None))
)

# A row that another transaction changes just then is passed over, and its id returned: its use is noted the next time.
# The database's clock dates each use, so that servers need not agree on the time.
NOTE_USED = sa.text(
    """
    WITH used AS (
      SELECT * FROM unnest(CAST(:ids AS bigint[]), CAST(:ages AS double precision[])) AS used (token, age)
    ), free AS (
      SELECT id FROM read_tokens WHERE id = ANY(CAST(:ids AS bigint[])) FOR UPDATE SKIP LOCKED
    ), noted AS (
      UPDATE read_tokens SET last_used_at = greatest(last_used_at, now() - make_interval(secs => age))
      FROM used, free WHERE read_tokens.id = token AND free.id = token
    )
    SELECT id FROM read_tokens WHERE id = ANY(CAST(:ids AS bigint[])) AND id NOT IN (SELECT id FROM free)
    """
)

# The next number that none of the tenant's tokens has or had: a name in an old log means one token.
NEXT_NUMBER = sa.text(
    f"""
    SELECT '{NUMBERED}-' || coalesce(max(CAST(substr(name, {len(NUMBERED) + 2}) AS bigint)), 0) + 1
    FROM read_tokens WHERE tenant_id = :tenant_id AND name ~ '^{NUMBERED}-[0-9]{{1,9}}$'
    """  # noqa: S608  (composed of constants)
)


async def read_valid(connection: AsyncConnection) -> Sequence[ValidToken]:
    """Return every token that is in force now."""
    return [ValidToken(*row) for row in await connection.execute(VALID)]


async def note_used(connection: AsyncConnection, ages: Mapping[int, float]) -> set[int]:
    """Note that tokens were used so many seconds ago; return the ids of those whose row was in use."""
    return set(await connection.scalars(NOTE_USED, {"ids": list(ages), "ages": list(ages.values())}))


async def next_name(connection: AsyncConnection, tenant_id: str) -> str:
    """Return a name for a token that nobody named."""
    return str(await connection.scalar(NEXT_NUMBER, {"tenant_id": tenant_id}))


async def add(connection: AsyncConnection, tenant_id: str, name: str, token_hash: bytes) -> bool:
    """Add a token to a tenant that exists; return False if one of that name is in force, or the tenant is removed."""
    known = tenant_configs.c.tenant_id
    new = sa.select(known, sa.literal(name), sa.literal(token_hash, BYTEA)).where(
        known == tenant_id, being_removed.is_not(known)
    )
    added = await connection.execute(
        insert(read_tokens)
        .from_select(["tenant_id", "name", "token_hash"], new)
        .on_conflict_do_nothing()
        .returning(_column.id)
    )
    return added.first() is not None


async def read_all(connection: AsyncConnection, tenant_id: str, *, with_revoked: bool) -> Sequence[TokenRow]:
    """Return a tenant's tokens, the oldest first."""
    wanted = sa.select(*[_column[name] for name in TokenRow.__struct_fields__]).where(_column.tenant_id == tenant_id)
    in_force = wanted if with_revoked else wanted.where(_column.revoked_at.is_(None))
    return [TokenRow(*row) for row in await connection.execute(in_force.order_by(_column.id))]


async def revoke(connection: AsyncConnection, tenant_id: str, name: str) -> bool:
    """Revoke the tenant's token of that name; return False if none is in force."""
    revoked = await connection.execute(
        sa.update(read_tokens)
        .where(_column.tenant_id == tenant_id, _column.name == name, _column.revoked_at.is_(None))
        .values(revoked_at=sa.func.now())
        .returning(_column.id)
    )
    return revoked.first() is not None
