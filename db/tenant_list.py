"""Which tenants are there? Read for `tenant list` and `doctor`, without their secrets."""

from collections.abc import Sequence

import msgspec

from db.statement import Session, Statement


class TenantRow(msgspec.Struct, frozen=True):
    """A tenant as `tenant list` shows it; the times are ISO 8601, UTC."""

    tenant_id: str
    enabled: bool
    created_at: str
    updated_at: str
    previous_secret_ends_at: str | None


ISO = """to_char(timezone('UTC', {}), 'YYYY-MM-DD"T"HH24:MI:SS"Z"')"""
ALL = Statement(
    f"""
    SELECT tenant_id, enabled, {ISO.format("created_at")} AS created_at, {ISO.format("updated_at")} AS updated_at,
           CASE WHEN previous_secret_ends_at > now() THEN {ISO.format("previous_secret_ends_at")} END
             AS previous_secret_ends_at
    FROM tenant_configs
    ORDER BY tenant_id
    """  # noqa: S608  (composed of constants)
)


async def read_all(session: Session) -> Sequence[TenantRow]:
    """Return every tenant without its secrets, by id."""
    return [TenantRow(**row) for row in await ALL.rows(session)]
