"""Whose deliveries may still be appended? The statement that appends them asks, so a removal that began before it wins.

A process knows a tenant from an earlier statement: a server for up to ten seconds, a run of reconciliation for minutes.
Each condition is a query with the tenants among `:tenants`; `:is_bulk` says whether an import appends (db/inbox.py).
"""

from collections.abc import Mapping
from datetime import datetime

import msgspec
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection


class Allowed(msgspec.Struct, frozen=True):
    """Selects, by `query` and its `values`, those of some tenants whose deliveries may be appended now."""

    query: str
    values: Mapping[str, object] = {}


# A webhook's tenant. The server's role may read no more than this.
ENABLED = Allowed(
    "SELECT tenant_id FROM tenant_configs WHERE enabled AND tenant_id = ANY(CAST(:tenants AS text[]))",
)

# The tenant of a file that is imported; it may be disabled.
KEPT = Allowed(
    """
    SELECT tenant_id FROM tenant_configs
    WHERE tenant_id = ANY(CAST(:tenants AS text[]))
      AND NOT EXISTS (SELECT FROM tenant_removals AS removal WHERE removal.tenant_id = tenant_configs.tenant_id)
    """
)

CONFIGURED = """
SELECT tenant_configs.tenant_id FROM tenant_configs JOIN sdp_configs USING (tenant_id)
WHERE tenant_configs.tenant_id = ANY(CAST(:tenants AS text[])) AND sdp_configs.created_at = :configured_at
  AND (tenant_configs.enabled OR CAST(:is_bulk AS boolean))
  AND NOT EXISTS (SELECT FROM tenant_removals AS removal WHERE removal.tenant_id = tenant_configs.tenant_id)
"""


def configured(configured_at: datetime) -> Allowed:
    """Return the condition for tickets fetched from a tenant's ServiceDesk Plus, configured at that time.

    A tenant that was removed and added anew meanwhile has another time. An import's tenant may be disabled.
    """
    return Allowed(CONFIGURED, {"configured_at": configured_at})


async def is_allowed(connection: AsyncConnection, allowed: Allowed, tenant_id: str, *, is_bulk: bool) -> bool:
    """Return True if a delivery of the tenant may be appended now."""
    given = {**allowed.values, "tenants": [tenant_id], "is_bulk": is_bulk}
    return (await connection.execute(sa.text(allowed.query), given)).first() is not None
