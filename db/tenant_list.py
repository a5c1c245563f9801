"""Which tenants are there? Read for `tenant list` and `doctor`, without their secrets."""

from collections.abc import Sequence

import msgspec

from db.statement import Session, Statement


class TenantRow(msgspec.Struct, frozen=True):
    """A tenant as `tenant list` shows it; the times are ISO 8601, UTC.

    One that is being removed has neither time where its config was deleted before.
    """

    tenant_id: str
    enabled: bool
    created_at: str | None
    updated_at: str | None
    previous_secret_ends_at: str | None
    being_removed: bool


ISO = """to_char(timezone('UTC', {}), 'YYYY-MM-DD"T"HH24:MI:SS"Z"')"""
ALL = Statement(
    f"""
    SELECT tenant_id, coalesce(enabled, false) AS enabled, {ISO.format("created_at")} AS created_at,
           {ISO.format("updated_at")} AS updated_at,
           CASE WHEN previous_secret_ends_at > now() THEN {ISO.format("previous_secret_ends_at")} END
             AS previous_secret_ends_at, removal.tenant_id IS NOT NULL AS being_removed
    FROM tenant_configs FULL JOIN tenant_removals AS removal USING (tenant_id)
    ORDER BY tenant_id
    """  # noqa: S608  (composed of constants)
)


async def read_all(session: Session) -> Sequence[TenantRow]:
    """Return every tenant without its secrets, by id; those that are being removed too."""
    return [TenantRow(**row) for row in await ALL.rows(session)]
