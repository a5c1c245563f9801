"""Which rows does each role see, and which jobs may it defer? Row-level security's policies, a role's named after it.

A policy of a single role is that role's own. Postgres plans a statement with the policies of its role alone.
"""

import psycopg
from psycopg import sql

from db.queue import OVER_SHARE_PRIORITY, PROMOTE, REPROCESS, REPROCESS_PRIORITY
from db.rights import APP, OPERATOR, WORKER

# What each kind of role sees of ticket_history; db/readers.py makes the policies of the readers.
EVERYTHING = "USING (true) WITH CHECK (true)"
ROWS = {WORKER: ("ALL", EVERYTHING), OPERATOR: ("SELECT", "USING (true)")}

# With a lock or a queueing lock, a job could keep others from being run or deferred.
UNLOCKED = "lock IS NULL AND queueing_lock IS NULL"
JOBS_OF_APP = (
    f"task_name = '{PROMOTE}' AND queue_name = '{PROMOTE}' AND priority IN (0, {OVER_SHARE_PRIORITY}) "
    f"AND scheduled_at IS NULL AND {UNLOCKED}"
)
JOBS_OF_OPERATOR = (
    f"task_name = '{REPROCESS}' AND queue_name = '{REPROCESS}' AND priority = {REPROCESS_PRIORITY} AND {UNLOCKED} "
    "AND (scheduled_at IS NULL OR status <> 'todo')"  # a job that is tried again has a time, and may be cancelled
)
JOBS = {
    APP: ("INSERT", f"WITH CHECK ({JOBS_OF_APP})"),
    WORKER: ("ALL", EVERYTHING),
    OPERATOR: ("ALL", f"USING (task_name = '{REPROCESS}') WITH CHECK ({JOBS_OF_OPERATOR})"),
}
# A program that counts jobs needs the right to read them and no policy of its own; adding or changing one needs both.
OTHERS = "CREATE POLICY others ON procrastinate_jobs FOR SELECT USING (true)"
JOBS_TABLE = """
SELECT relrowsecurity, EXISTS (SELECT FROM pg_policy WHERE polrelid = pg_class.oid AND polname = 'others')
FROM pg_class WHERE oid = CAST('procrastinate_jobs' AS regclass)
"""

# Procrastinate's triggers write an event for each change of a job, with the rights of the role that changed it. With
# the right to add one, a role adds it to any job, and that locks the job (FOR KEY SHARE) for as long as its transaction
# is open: no worker would fetch it.
WRITE_EVENTS = """
SELECT DISTINCT CAST(CAST(tgfoid AS regprocedure) AS text)
FROM pg_trigger JOIN pg_proc ON pg_proc.oid = tgfoid
WHERE tgrelid = CAST('procrastinate_jobs' AS regclass) AND NOT tgisinternal AND prosrc ~ 'INTO procrastinate_events'
"""

OF_ROLE = """
SELECT CAST(polname AS text), obj_description(oid, 'pg_policy') FROM pg_policy
WHERE polrelid = CAST(%s AS regclass) AND polroles = ARRAY[(SELECT oid FROM pg_roles WHERE rolname = %s)]
"""

# A superuser, a role with BYPASSRLS and the owner need no policy.
WITHOUT_POLICY = """
SELECT CAST(role.rolname AS text)
FROM pg_roles AS role, pg_class AS jobs
WHERE jobs.oid = CAST('procrastinate_jobs' AS regclass)
  AND role.rolcanlogin AND NOT role.rolsuper AND NOT role.rolbypassrls
  AND (has_any_column_privilege(role.oid, jobs.oid, 'INSERT, UPDATE')
       OR has_table_privilege(role.oid, jobs.oid, 'DELETE'))
  AND NOT pg_has_role(role.oid, jobs.relowner, 'USAGE')
  AND NOT EXISTS (SELECT FROM pg_policy, unnest(polroles) AS given
                  WHERE polrelid = jobs.oid AND polname <> 'others'
                    AND (given = 0 OR pg_has_role(role.oid, NULLIF(given, 0), 'USAGE')))
ORDER BY 1
"""


def apply(connection: psycopg.Connection, names: dict[str, str]) -> None:
    """Give the roles `names`, by kind, the policies of their kind. Those that are right are left alone.

    Until the transaction ends, each table with a new policy is locked: webhooks wait for the jobs' table.
    """
    for table, rules in (("ticket_history", ROWS), ("procrastinate_jobs", JOBS)):
        for kind in filter(names.get, rules):
            _keep(connection, table, names[kind], *rules[kind])
    [is_secured, has_others] = connection.execute(JOBS_TABLE).fetchone() or []
    if not has_others:
        connection.execute(OTHERS)
    if not is_secured:
        connection.execute("ALTER TABLE procrastinate_jobs ENABLE ROW LEVEL SECURITY")


def let_triggers_write_events(connection: psycopg.Connection, namespace: str) -> None:
    """Have the events of jobs written as the owner, so that a role which changes jobs needs no right to add events.

    Only the owner may attach these functions to a table: on one of its own, a role would decide what they write.
    """
    for (signature,) in connection.execute(WRITE_EVENTS).fetchall():
        function = sql.SQL(signature)
        path = sql.Identifier(namespace)
        connection.execute(
            sql.SQL("ALTER FUNCTION {} SECURITY DEFINER SET search_path = {}, pg_temp").format(function, path)
        )
        connection.execute(sql.SQL("REVOKE ALL ON FUNCTION {} FROM PUBLIC").format(function))


def without_policy(connection: psycopg.Connection) -> list[str]:
    """Return the roles that may log in and have rights to add or change jobs, but no policy that lets them, by name."""
    return [name for (name,) in connection.execute(WITHOUT_POLICY)]


def replace(connection: psycopg.Connection, table: str, role: str, command: str, rule: sql.Composable) -> None:
    """Make `rule` the only policy of `role` alone on `table`."""
    drop(connection, table, role)
    policy = sql.SQL("CREATE POLICY {0} ON {1} FOR {2} TO {0} {3}")
    connection.execute(policy.format(sql.Identifier(role), sql.Identifier(table), sql.SQL(command), rule))


def drop(connection: psycopg.Connection, table: str, role: str) -> None:
    """Drop every policy of `role` alone on `table`."""
    for name, _ in connection.execute(OF_ROLE, [table, role]).fetchall():
        connection.execute(sql.SQL("DROP POLICY {} ON {}").format(sql.Identifier(name), sql.Identifier(table)))


def _keep(connection: psycopg.Connection, table: str, role: str, command: str, rule: str) -> None:
    """Replace the policy of `role` on `table` unless it is this one. Its comment is what it was made of."""
    note = f"FOR {command} {rule}"
    if [found for _, found in connection.execute(OF_ROLE, [table, role]).fetchall()] == [note]:
        return
    replace(connection, table, role, command, sql.SQL(rule))
    comment = sql.SQL("COMMENT ON POLICY {} ON {} IS {}")
    connection.execute(comment.format(sql.Identifier(role), sql.Identifier(table), note))
