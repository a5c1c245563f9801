"""What can a reader still learn of other tenants from Postgres' catalog and planner? `roles make` warns of it.

Migration 0008 removes what the versions before left. An administrator may add to it: an index that computes something,
extended statistics, a policy with a tenant's name in its condition.
"""

import psycopg

# Columns of ticket_history, and what its indexes compute, of which statistics are or will be collected.
COLLECTED = """
SELECT CAST(CAST(attrelid AS regclass) AS text), attnum, CAST(attname AS text), relkind = 'i'
FROM pg_attribute JOIN pg_class ON pg_class.oid = attrelid
LEFT JOIN pg_index ON indexrelid = attrelid
WHERE (attrelid = CAST('ticket_history' AS regclass)
       OR indrelid = CAST('ticket_history' AS regclass) AND indkey[attnum - 1] = 0)
  AND attnum > 0 AND NOT attisdropped
  AND (coalesce(attstattarget, -1) <> 0
       OR EXISTS (SELECT FROM pg_stats AS collected JOIN pg_namespace ON nspname = schemaname
                  WHERE pg_namespace.oid = relnamespace AND tablename = relname
                    AND collected.attname = pg_attribute.attname))
ORDER BY 1, 2
"""
EXTENDED = """
SELECT format('%I.%I', nspname, stxname)
FROM pg_statistic_ext JOIN pg_namespace ON pg_namespace.oid = stxnamespace
WHERE stxrelid = CAST('ticket_history' AS regclass)
ORDER BY 1
"""
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


def warnings(connection: psycopg.Connection) -> list[str]:
    """Return in one line each what a reader could learn of other tenants, and the statement that ends it."""
    found = [_of_statistics(*row) for row in connection.execute(COLLECTED)]
    for (name,) in connection.execute(EXTENDED):
        found.append(f"readers can learn other tenants' text from statistics {name}: `DROP STATISTICS {name}`")
    for (name,) in connection.execute(NAMING):
        cure = f"`DROP POLICY {name} ON ticket_history`, then `ticket-inbox roles reader` for its role"
        found.append(f"every role can read the tenants that policy {name} names: {cure}")
    for name, several in connection.execute(TWO_READERS):
        cure = f"`REVOKE` all but one of {several} from it"
        found.append(f"role {name}, which reads as {several}, can learn what third tenants' tickets say: {cure}")
    return found


def _of_statistics(relation: str, number: int, column: str, is_index: bool) -> str:  # noqa: FBT001  (as the row has it)
    kind, place = ("INDEX", number) if is_index else ("TABLE", column)
    stop = f"`ALTER {kind} {relation} ALTER COLUMN {place} SET STATISTICS 0`"
    clear = f"`DELETE FROM pg_statistic WHERE starelid = '{relation}'::regclass`"  # noqa: S608  (for a person to run)
    return (
        f"readers can learn other tenants' text from statistics of {relation}.{column}: {stop}, as a superuser {clear}"
    )
