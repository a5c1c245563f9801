"""Which tenants are being removed? Table `tenant_removals`: a row from the begin of a removal to its end.

Meanwhile the tenant cannot be added, enabled or configured, and nothing is appended for it (db/allowed.py).
"""

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import TIMESTAMP
from sqlalchemy.ext.asyncio import AsyncConnection

from db import metadata

tenant_removals = sa.Table(
    "tenant_removals",
    metadata,
    sa.Column("tenant_id", sa.Text, primary_key=True),
    sa.Column("began_at", TIMESTAMP(timezone=True), nullable=False, server_default=sa.func.now()),
    sa.Column("disabled_at", TIMESTAMP(timezone=True), nullable=False, server_default=sa.func.now()),
)


def is_not(tenant_id: sa.ColumnElement[str]) -> sa.ColumnElement[bool]:
    """Return the condition that the tenant is not being removed."""
    return ~sa.exists().where(tenant_removals.c.tenant_id == tenant_id)


async def has(connection: AsyncConnection, tenant_id: str) -> bool:
    """Return True if the tenant is being removed."""
    found = await connection.execute(sa.select(1).where(tenant_removals.c.tenant_id == tenant_id))
    return found.first() is not None
