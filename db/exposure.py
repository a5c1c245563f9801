"""What can a login still learn of tenants from Postgres' catalog and planner? `roles make` warns of it.

The planner prints estimates before anybody's rights are checked, so it has statistics of next to nothing. Migrations
0008 and 0012 remove what the versions before left, but for statistics that a view keeps on Postgres 15 to 17: any login
can make one. An administrator may add to it: an index that computes something, extended statistics, a policy with a
tenant's name in its condition.
"""

from collections.abc import Iterator
from typing import TYPE_CHECKING

import msgspec
import sqlalchemy as sa

from db import rights, schema

if TYPE_CHECKING:
    import psycopg
    from sqlalchemy.ext.asyncio import AsyncConnection

NAMED = 3  # columns, and things that keep their statistics
CLEAR = schema.MIGRATIONS / "versions" / "0012_statistics.sql"

# The columns of our tables of which statistics are collected. They say how many rows there are of a kind, and no name,
# text or time of a tenant's. A new column needs `SET STATISTICS 0` from its own migration on, or a place here.
KEPT = {
    # The newest revision that was migrated to: every server's log says it.
    "alembic_version": ("version_num",),
    # Ids count over all tenants; the others are words of ours and tries. Plans need ids and states.
    "inbox": ("id", "source", "status", "action", "attempts", "job_id"),
    # Names of our tasks, states, and when jobs are due. A trigger names scheduled_at, so it could not be cleared.
    "procrastinate_jobs": (
        "id", "queue_name", "task_name", "priority", "status", "scheduled_at", "attempts", "abort_requested",
        "worker_id",
    ),
    "procrastinate_events": ("id", "job_id", "type"),
    # Our periodic tasks, and when they were due.
    "procrastinate_periodic_defers": ("id", "task_name", "defer_timestamp", "job_id", "periodic_id"),
    "procrastinate_workers": ("id", "last_heartbeat"),
}  # fmt: skip
TABLES = ", ".join(f"to_regclass('{name}')" for name in rights.TABLES)
KEPT_NAMES = ", ".join(f"'{table}.{column}'" for table, columns in KEPT.items() for column in columns)

# All other columns of our tables, and what their indexes compute, of which statistics are or will be collected. Those
# of which none will be are left of the versions before. Only the owner, or a role that may read the columns, sees them.
COLLECTED = f"""
SELECT CAST(CAST(attrelid AS regclass) AS text), attnum, CAST(attname AS text), relkind = 'i' AS is_index,
       coalesce(attstattarget, -1) = 0 AS is_left, coalesce(indrelid, attrelid) AS of_table
FROM pg_attribute JOIN pg_class ON pg_class.oid = attrelid
LEFT JOIN pg_index ON indexrelid = attrelid
WHERE (attrelid IN ({TABLES}) AND relname || '.' || attname NOT IN ({KEPT_NAMES})
       OR indrelid IN ({TABLES}) AND indkey[attnum - 1] = 0)
  AND attnum > 0 AND NOT attisdropped
  AND (coalesce(attstattarget, -1) <> 0
       OR EXISTS (SELECT FROM pg_stats AS collected JOIN pg_namespace ON nspname = schemaname
                  WHERE pg_namespace.oid = relnamespace AND tablename = relname
                    AND collected.attname = pg_attribute.attname))
ORDER BY 1, 2
"""  # noqa: S608  (composed of constants)
# What names a column, so that its type cannot be set again: views and functions, with the sessions of a temporary one.
KEEPERS = f"""
SELECT DISTINCT pg_describe_object(classid, objid, 0), CAST(pg_get_userbyid(owner) AS text),
       CASE WHEN pg_is_other_temp_schema(namespace) THEN
            (SELECT string_agg(CAST(pid AS text), ', ' ORDER BY pid) FROM pg_stat_activity
             WHERE usesysid = owner AND datname = current_database()) END
FROM pg_depend
LEFT JOIN pg_rewrite ON classid = CAST('pg_rewrite' AS regclass) AND pg_rewrite.oid = objid
LEFT JOIN pg_class ON pg_class.oid = ev_class
LEFT JOIN pg_proc ON classid = CAST('pg_proc' AS regclass) AND pg_proc.oid = objid
CROSS JOIN LATERAL (SELECT coalesce(relowner, proowner), coalesce(relnamespace, pronamespace))
  AS found (owner, namespace)
WHERE refclassid = CAST('pg_class' AS regclass) AND refobjsubid > 0 AND owner IS NOT NULL
  AND EXISTS (SELECT FROM ({COLLECTED}) AS collected
              WHERE is_left AND of_table = refobjid AND (is_index OR attnum = refobjsubid))
ORDER BY 1
"""  # noqa: S608  (composed of constants)
EXTENDED = f"""
SELECT format('%I.%I', nspname, stxname)
FROM pg_statistic_ext JOIN pg_namespace ON pg_namespace.oid = stxnamespace
WHERE stxrelid IN ({TABLES})
ORDER BY 1
"""  # noqa: S608  (composed of constants)
NAMING = """
SELECT CAST(polname AS text) FROM pg_policy
WHERE polrelid = CAST('ticket_history' AS regclass)
  AND concat(pg_get_expr(polqual, polrelid), pg_get_expr(polwithcheck, polrelid)) ~ 'tenant_id.*''.*'''
ORDER BY 1
"""

# Postgres joins the policies of two readers by OR, and checks cheap conditions of the role's own before that.
TWO_READERS = r"""
SELECT CAST(rolname AS text), string_agg(CAST(CAST(polroles[1] AS regrole) AS text), ', ' ORDER BY polname)
FROM pg_roles JOIN pg_policy ON polrelid = CAST('ticket_history' AS regclass) AND cardinality(polroles) = 1
WHERE pg_get_expr(polqual, polrelid) ~ 'reader_tenant_\d+' AND NOT (rolsuper OR rolbypassrls)
  AND NOT pg_has_role(pg_roles.oid, (SELECT relowner FROM pg_class WHERE oid = polrelid), 'USAGE')
  AND pg_has_role(pg_roles.oid, polroles[1], 'USAGE')
GROUP BY rolname HAVING count(*) > 1
ORDER BY 1
"""


class Collected(msgspec.Struct, frozen=True):
    """Statistics of a column of a table of ours, or of what an index computes; `is_left` if no more are collected."""

    relation: str
    number: int
    column: str
    is_index: bool
    is_left: bool
    of_table: int

    def __str__(self) -> str:
        kind, place = ("INDEX", self.number) if self.is_index else ("TABLE", self.column)
        stop = f"`ALTER {kind} {self.relation} ALTER COLUMN {place} SET STATISTICS 0`"
        clear = f"`DELETE FROM pg_statistic WHERE starelid = '{self.relation}'::regclass`"  # noqa: S608  (for a person)
        of = f"statistics of {self.relation}.{self.column}"
        return f"every login can learn what it says of tenants from {of}: {stop}, as a superuser {clear}"


class Keeper(msgspec.Struct, frozen=True):
    """What keeps old statistics, and its owner; if it is temporary, also the processes of the owner's sessions."""

    what: str
    owner: str
    processes: str | None

    def __str__(self) -> str:
        sessions = f", in process {self.processes}" if self.processes else ""
        return f"{self.what} (of role {self.owner}{sessions})"


def warnings(connection: "psycopg.Connection") -> list[str]:
    """Return in one line each what a reader could learn of other tenants, and the statement that ends it."""
    collected = _collected(connection)
    found = [*left(connection), *(str(one) for one in collected if not one.is_left)]
    for (name,) in connection.execute(EXTENDED):
        found.append(f"every login can learn what they say of tenants from statistics {name}: `DROP STATISTICS {name}`")
    for (name,) in connection.execute(NAMING):
        cure = f"`DROP POLICY {name} ON ticket_history`, then `ticket-inbox roles reader` for its role"
        found.append(f"every role can read the tenants that policy {name} names: {cure}")
    for name, several in connection.execute(TWO_READERS):
        cure = f"`REVOKE` all but one of {several} from it"
        found.append(f"role {name}, which reads as {several}, can learn what third tenants' tickets say: {cure}")
    return found


def left(connection: "psycopg.Connection") -> list[str]:
    """Return a line if statistics of the versions before are left, or none: what keeps them, and what to do."""
    old = [one for one in _collected(connection) if one.is_left]
    return list(_of_left(old, _keepers(connection) if old else []))


async def read_left(connection: "AsyncConnection") -> list[str]:
    """Return the same, for a role that may read the columns."""
    old = [one for one in (Collected(*row) for row in await connection.execute(sa.text(COLLECTED))) if one.is_left]
    return list(_of_left(old, [Keeper(*row) for row in await connection.execute(sa.text(KEEPERS))]))


def _of_left(old: list[Collected], keepers: list[Keeper]) -> Iterator[str]:
    """Yield a line if `old` statistics are left, which the `keepers` keep."""
    if old:
        names = ", ".join(f"{one.relation}.{one.column}" for one in old[:NAMED])
        more = f" and {len(old) - NAMED} more" if len(old) > NAMED else ""
        first = f"drop {' and '.join(map(str, keepers[:NAMED]))}, or end its session, then " if keepers else ""
        last = "; a superuser's needs nothing dropped" if keepers else ""
        yield (
            f"every login can learn tenants' text from old statistics that the migration could not clear "
            f"({names}{more}): {first}run `ticket-inbox roles make`, which clears them{last}"
        )


def can_clear(connection: "psycopg.Connection") -> bool:
    """Return whether statistics of the versions before are left that nothing keeps from this login any more."""
    is_superuser = connection.info.parameter_status("is_superuser") == "on"
    return any(one.is_left for one in _collected(connection)) and (is_superuser or not _keepers(connection))


def clear(connection: "psycopg.Connection") -> None:
    """Remove statistics of the versions before, as the tables' owner. Locks their tables: ticket_history for longest.

    That takes 20 s for 100,000 tickets. Raises psycopg.Error.
    """
    connection.execute("SET LOCAL statement_timeout = 0")
    connection.execute(CLEAR.read_bytes())


def _collected(connection: "psycopg.Connection") -> list[Collected]:
    return [Collected(*row) for row in connection.execute(COLLECTED)]


def _keepers(connection: "psycopg.Connection") -> list[Keeper]:
    return [Keeper(*row) for row in connection.execute(KEEPERS)]
