"""Are all tickets found by their words yet? Reads of search's tables for `status`, `doctor` and the gauge."""

from collections.abc import Sequence

import msgspec

from db import failure_kinds, failures
from db.statement import Session, Statement

MOST = 10_000  # rows whose tickets are counted

LAG = Statement(
    "SELECT coalesce((SELECT extract(epoch FROM now() - noted_at) FROM search_due ORDER BY id LIMIT 1), 0) AS seconds"
)
DUE = Statement(
    """
    SELECT coalesce(sum(cardinality(tickets)), 0) AS tickets
    FROM (SELECT tickets FROM search_due LIMIT :most) AS counted
    """
)
# A tenant without an index was added a moment ago, or before this version's first worker was started.
BUILDING = Statement(
    """
    SELECT tenant_id FROM tenant_configs AS config
    WHERE NOT EXISTS (SELECT FROM search_indexes AS one WHERE one.tenant_id = config.tenant_id AND one.is_ready)
    ORDER BY tenant_id
    """
)
# Roles that an older version's `roles make` gave their rights: servers' roles append and change nothing in
# ticket_history, workers' change it, readers' have a policy that asks for their tenant.
LACKING = Statement(
    r"""
    SELECT DISTINCT CAST(rolname AS text) AS role
    FROM pg_roles AS role
    CROSS JOIN (SELECT has_any_column_privilege(oid, 'inbox', 'INSERT') AS appends,
                       has_any_column_privilege(oid, 'ticket_history', 'UPDATE') AS changes,
                       EXISTS (SELECT FROM pg_policy
                               WHERE polrelid = CAST('ticket_history' AS regclass) AND polroles = ARRAY[pg_roles.oid]
                                 AND pg_get_expr(polqual, polrelid) ~ 'reader_tenant_\d+') AS reads, oid AS role_oid
                FROM pg_roles) AS does
    WHERE role.oid = role_oid AND rolname !~ '^pg_' AND NOT rolsuper AND NOT rolbypassrls
      AND NOT pg_has_role(role.oid, (SELECT relowner FROM pg_class WHERE oid = CAST('inbox' AS regclass)), 'USAGE')
      AND (appends AND NOT changes AND NOT has_function_privilege(role.oid, to_regproc('similar_answer'), 'EXECUTE')
           OR changes AND NOT has_function_privilege(role.oid, to_regproc('search_index_batch'), 'EXECUTE')
           OR reads AND NOT has_function_privilege(role.oid, to_regproc('similar_tickets'), 'EXECUTE'))
    ORDER BY 1
    """
)


class SearchState(msgspec.Struct, frozen=True, kw_only=True):
    """How many tickets are not found by their words yet, and the tenants whose words are being built, by name."""

    due: int  # of MOST rows
    oldest_due_seconds: float
    building: Sequence[str]


async def read(session: Session) -> SearchState | None:
    """Return the state; None if this role may not read it, as before `roles make` of this version."""
    try:
        due, lag = await DUE.row(session, most=MOST), await LAG.row(session)
        building = await BUILDING.rows(session)
    except failures.DatabaseError as error:
        if failures.kind(error) is not failure_kinds.RIGHT:
            raise
        return None
    return SearchState(
        due=due["tickets"],
        oldest_due_seconds=float(lag["seconds"]),
        building=[row["tenant_id"] for row in building],
    )


async def read_lag(session: Session) -> float | None:
    """Return for how many seconds the oldest ticket that is due has been; None if this role may not read that."""
    try:
        return float((await LAG.row(session))["seconds"])
    except failures.DatabaseError as error:
        if failures.kind(error) is not failure_kinds.RIGHT:
            raise
        return None


async def read_lacking_roles(session: Session) -> list[str]:
    """Return the roles that lack the right to search that their kind has, by name: `roles make` gives it."""
    return [row["role"] for row in await LACKING.rows(session)]
