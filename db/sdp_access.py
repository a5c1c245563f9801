"""What do later runs know of how a tenant's ServiceDesk Plus lets us in? Table `sdp_access`: pauses, and the token.

All times are by Postgres' clock, which all processes share.
"""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

import msgspec
import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import TIMESTAMP, Insert, insert
from sqlalchemy.ext.asyncio import AsyncConnection

from db import metadata
from db.sdp import sdp_configs

sdp_access = sa.Table(
    "sdp_access",
    metadata,
    sa.Column("tenant_id", sa.Text, sa.ForeignKey(sdp_configs.c.tenant_id, ondelete="CASCADE"), primary_key=True),
    sa.Column("paused_until", TIMESTAMP(timezone=True)),
    sa.Column("pause_reason", sa.Text),
    sa.Column("token_key", sa.Text),  # a digest of the credentials that the token was given for
    sa.Column("token", sa.Text),  # encrypted as the credentials are
    sa.Column("token_made_at", TIMESTAMP(timezone=True)),
    sa.Column("token_ends_at", TIMESTAMP(timezone=True)),
    sa.Column("token_is_proven", sa.Boolean, nullable=False, server_default=sa.false()),
)
_column = sdp_access.c


class Pause(msgspec.Struct, frozen=True):
    """Until when a tenant's ServiceDesk Plus may not be asked, in how many seconds that is, and why."""

    until: datetime
    seconds: float
    reason: str


class KeptToken(msgspec.Struct, frozen=True):
    """A token, encrypted; how old it is, and how long it lasts, in seconds."""

    token: str
    age: float
    left: float
    is_proven: bool


async def pause_of(connection: AsyncConnection, tenant_id: str) -> Pause | None:
    """Return the pause of a tenant's ServiceDesk Plus; None if it may be asked."""
    left = _seconds(_column.paused_until - sa.func.now())
    asked = sa.select(_column.paused_until, left, sa.func.coalesce(_column.pause_reason, ""))
    is_it = sa.and_(_column.tenant_id == tenant_id, _column.paused_until > sa.func.now())
    found = (await connection.execute(asked.where(is_it))).first()
    return Pause(*found) if found else None


async def pause(connection: AsyncConnection, tenant_id: str, seconds: float, reason: str) -> None:
    """Let no run ask a tenant's ServiceDesk Plus for some seconds; a longer pause stays."""
    until = sa.func.now() + sa.func.make_interval(0, 0, 0, 0, 0, 0, seconds)
    statement = _insert(tenant_id, {"paused_until": until, "pause_reason": sa.literal(reason)})
    longer = sa.func.greatest(_column.paused_until, statement.excluded.paused_until)
    changed = {"paused_until": longer, "pause_reason": statement.excluded.pause_reason}
    await connection.execute(statement.on_conflict_do_update(index_elements=[_column.tenant_id], set_=changed))


async def token_of(connection: AsyncConnection, key: str) -> KeptToken | None:
    """Return the newest token that was given for the credentials of this digest, to whichever tenant, and lasts."""
    age, left = (
        _seconds(one) for one in (sa.func.now() - _column.token_made_at, _column.token_ends_at - sa.func.now())
    )
    asked = sa.select(_column.token, age, left, _column.token_is_proven)
    is_it = sa.and_(_column.token_key == key, _column.token_ends_at > sa.func.now(), _column.token.is_not(None))
    found = (await connection.execute(asked.where(is_it).order_by(_column.token_made_at.desc()).limit(1))).first()
    return KeptToken(*found) if found else None


async def keep_token(connection: AsyncConnection, tenant_id: str, key: str, token: KeptToken) -> None:
    """Store a token for later runs."""
    ago, left = (sa.func.make_interval(0, 0, 0, 0, 0, 0, seconds) for seconds in (token.age, token.left))
    values: dict[str, sa.ColumnElement[Any]] = {
        "token_key": sa.literal(key),
        "token": sa.literal(token.token),
        "token_made_at": sa.func.now() - ago,
        "token_ends_at": sa.func.now() + left,
        "token_is_proven": sa.literal(token.is_proven),
    }
    statement = _insert(tenant_id, values)
    await connection.execute(statement.on_conflict_do_update(index_elements=[_column.tenant_id], set_=values))


async def forget(connection: AsyncConnection, tenant_id: str) -> None:
    """Forget what earlier runs knew: the address or the credentials are others."""
    await connection.execute(sa.delete(sdp_access).where(_column.tenant_id == tenant_id))


def _insert(tenant_id: str, values: Mapping[str, sa.ColumnElement[Any]]) -> Insert:
    """Return the insertion of a tenant's row; of none where its config was cleared meanwhile."""
    configured = sa.select(sdp_configs.c.tenant_id, *values.values()).where(sdp_configs.c.tenant_id == tenant_id)
    return insert(sdp_access).from_select(["tenant_id", *values], configured)


def _seconds(interval: sa.ColumnElement[Any]) -> sa.ColumnElement[float]:
    return sa.cast(sa.func.extract("epoch", interval), sa.Double)
