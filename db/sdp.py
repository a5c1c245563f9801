"""Where is each tenant's ServiceDesk Plus, and up to when was it read? Tables `sdp_configs` and `sdp_cursors`."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import msgspec
import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import ARRAY, JSONB, TIMESTAMP, insert
from sqlalchemy.ext.asyncio import AsyncConnection

from db import being_removed, metadata
from db.tenants import Reencrypted, Secrets, UnreadableSecretError, tenant_configs

CLOUD, ON_PREMISES = EDITIONS = ("cloud", "on_premises")

sdp_configs = sa.Table(
    "sdp_configs",
    metadata,
    sa.Column("tenant_id", sa.Text, sa.ForeignKey(tenant_configs.c.tenant_id, ondelete="CASCADE"), primary_key=True),
    sa.Column("edition", sa.Text, nullable=False),
    sa.Column("base_url", sa.Text, nullable=False),
    sa.Column("credentials", sa.Text, nullable=False),  # encrypted as the tenants' secrets are
    sa.Column("created_at", TIMESTAMP(timezone=True), nullable=False, server_default=sa.func.now()),
    sa.Column("updated_at", TIMESTAMP(timezone=True), nullable=False, server_default=sa.func.now()),
    sa.CheckConstraint("edition IN ('cloud', 'on_premises')", name="edition"),
)
sdp_cursors = sa.Table(
    "sdp_cursors",
    metadata,
    sa.Column("tenant_id", sa.Text, sa.ForeignKey(sdp_configs.c.tenant_id, ondelete="CASCADE"), primary_key=True),
    sa.Column("source", sa.Text, primary_key=True),
    sa.Column("since", TIMESTAMP(timezone=True), nullable=False),  # where the first run began
    # By ServiceDesk Plus' clock: runs have dealt with every ticket that was last updated before it.
    sa.Column("position", TIMESTAMP(timezone=True), nullable=False),
    sa.Column("updated_at", TIMESTAMP(timezone=True), nullable=False, server_default=sa.func.now()),
    sa.Column("error", sa.Text),  # why the last run stopped early, or which ticket it could not fetch
    sa.Column("failing", ARRAY(sa.Text), nullable=False, server_default="{}"),  # tickets before it, to fetch again
    sa.Column("begins_at", TIMESTAMP(timezone=True)),  # where the next run begins, if not shortly before `position`
    sa.Column("pass_position", TIMESTAMP(timezone=True)),  # the position when the runs began that go on from each other
    sa.Column("reasons", JSONB, nullable=False, server_default="{}"),  # tickets that are odd or failing: what is wrong
    # Tickets from shortly before `position` that runs have dealt with, and their update times in milliseconds.
    sa.Column("looked_at", JSONB, nullable=False, server_default="{}"),
    sa.Column(
        "archive_position", TIMESTAMP(timezone=True)
    ),  # how far the archive was read, None before its first ticket
    sa.CheckConstraint("source IN ('api_fallback', 'bulk_import')", name="source"),
)
_config = sdp_configs.c
_cursor = sdp_cursors.c


class Config(msgspec.Struct, frozen=True):
    """Where a tenant's ServiceDesk Plus is; the credentials are encrypted."""

    tenant_id: str
    edition: str
    base_url: str
    credentials: str
    created_at: datetime

    def __repr__(self) -> str:
        """Show the tenant's id alone."""
        return f"Config({self.tenant_id!r}, …)"


class Progress(msgspec.Struct, frozen=True, kw_only=True):
    """How far a run has come; `position` is None before its first ticket. The other members are as in `sdp_cursors`."""

    position: datetime | None
    begins_at: datetime | None
    pass_position: datetime | None
    failing: Sequence[str]
    reasons: Mapping[str, str]
    looked_at: Mapping[str, int]
    archive_position: datetime | None = None
    error: str | None = None


class Cursor(msgspec.Struct, frozen=True):
    """How far the runs of one source have gone through a tenant's tickets, and what stopped the last run."""

    source: str
    since: datetime
    position: datetime
    updated_at: datetime
    error: str | None
    failing: Sequence[str]
    begins_at: datetime | None
    pass_position: datetime | None
    reasons: Mapping[str, str]
    looked_at: Mapping[str, int]
    archive_position: datetime | None


async def read(connection: AsyncConnection, tenant_id: str) -> Config | None:
    """Return a tenant's config, whether the tenant is enabled or not; None if it has none."""
    found = (await connection.execute(_of_configs().where(_config.tenant_id == tenant_id))).first()
    return Config(*found) if found else None


async def read_enabled(connection: AsyncConnection) -> Sequence[Config]:
    """Return the configs of enabled tenants, by id."""
    enabled = sa.select(tenant_configs.c.tenant_id).where(tenant_configs.c.enabled)
    found = await connection.execute(_of_configs().where(_config.tenant_id.in_(enabled)).order_by(_config.tenant_id))
    return [Config(*row) for row in found]


async def put(connection: AsyncConnection, tenant_id: str, edition: str, base_url: str, encrypted: str) -> bool:
    """Write or replace a tenant's config; return False if there is no such tenant, or if it is being removed.

    The cursors stay.
    """
    values = {"edition": edition, "base_url": base_url, "credentials": encrypted}
    known = sa.select(tenant_configs.c.tenant_id, *map(sa.literal, values.values()))
    statement = insert(sdp_configs).from_select(
        ["tenant_id", *values],
        known.where(tenant_configs.c.tenant_id == tenant_id, being_removed.is_not(tenant_configs.c.tenant_id)),
    )
    done = await connection.execute(
        statement.on_conflict_do_update(
            index_elements=[_config.tenant_id], set_={**values, "updated_at": sa.func.now()}
        ).returning(_config.tenant_id)
    )
    return done.first() is not None


async def clear(connection: AsyncConnection, tenant_id: str) -> bool:
    """Delete a tenant's config and its cursors; return False if there is none."""
    statement = sa.delete(sdp_configs).where(_config.tenant_id == tenant_id).returning(_config.tenant_id)
    return (await connection.execute(statement)).first() is not None


async def cursors(connection: AsyncConnection, tenant_id: str) -> Sequence[Cursor]:
    """Return a tenant's cursors, by source."""
    columns = [_cursor[name] for name in Cursor.__struct_fields__]
    found = await connection.execute(sa.select(*columns).where(_cursor.tenant_id == tenant_id).order_by(_cursor.source))
    return [Cursor(*row) for row in found]


async def begin(connection: AsyncConnection, tenant_id: str, source: str, since: datetime, latest: datetime) -> Cursor:
    """Return the cursor to go on from. One that began later than `since`, or is past `latest`, is set back to `since`.

    No clock was ever at `latest`: an earlier version followed a ticket there, and missed what came after it.
    """
    no_pass = dict.fromkeys(("begins_at", "pass_position", "archive_position"))
    first = {"since": since, "position": since, "updated_at": sa.func.now(), **no_pass}
    statement = insert(sdp_cursors).values(tenant_id=tenant_id, source=source, **first)
    await connection.execute(
        statement.on_conflict_do_update(
            index_elements=[_cursor.tenant_id, _cursor.source],
            set_=first,
            where=sa.or_(_cursor.since > since, _cursor.position > latest),
        )
    )
    return next(one for one in await cursors(connection, tenant_id) if one.source == source)


async def move(connection: AsyncConnection, tenant_id: str, source: str, progress: Progress) -> None:
    """Store how far a run has come; the position moves forward, never back."""
    reached = {name: getattr(progress, name) for name in ("position", "archive_position")}
    moved = {name: sa.literal(one, TIMESTAMP(timezone=True)) for name, one in reached.items()}
    values = msgspec.structs.asdict(progress) | {
        **{name: sa.func.greatest(_cursor[name], one) for name, one in moved.items()},  # it ignores NULL
        "failing": list(progress.failing),
        "updated_at": sa.func.now(),
    }
    is_it = sa.and_(_cursor.tenant_id == tenant_id, _cursor.source == source)
    await connection.execute(sa.update(sdp_cursors).where(is_it).values(**values))


async def reencrypt(connection: AsyncConnection, keys: Secrets) -> Reencrypted:
    """Encrypt with the first key what another key encrypted. Credentials that are set meanwhile stay as set."""
    count, unreadable = 0, []
    for tenant_id, text in await connection.execute(sa.select(_config.tenant_id, _config.credentials)):
        try:
            anew = keys.anew(text)
        except UnreadableSecretError:
            unreadable.append(tenant_id)
            continue
        if anew:
            is_still_it = sa.and_(_config.tenant_id == tenant_id, _config.credentials == text)
            count += (
                await connection.execute(sa.update(sdp_configs).where(is_still_it).values(credentials=anew))
            ).rowcount
    return Reencrypted(count, sorted(unreadable))


def _of_configs() -> sa.Select[Any]:
    return sa.select(*[_config[name] for name in Config.__struct_fields__])
