"""Which tenant's tickets does a reader's role see? Table `tenant_readers`, and for each row a policy on ticket_history.

Every role can read policies and functions in Postgres' catalog, so neither names a tenant: the policy compares with
what a function of its own returns, which runs as the owner, and which only that reader may execute.
"""

import psycopg
import sqlalchemy as sa
from psycopg import sql

from db import metadata, policies

tenant_readers = sa.Table(
    "tenant_readers",
    metadata,
    sa.Column("id", sa.BigInteger, sa.Identity(always=True), primary_key=True),
    sa.Column("role_name", sa.Text, nullable=False),  # as it was when `roles reader` named it
    sa.Column("tenant_id", sa.Text, nullable=False),
)

ADD = "INSERT INTO tenant_readers (role_name, tenant_id) VALUES (%s, %s) RETURNING id"

# The body is parsed when it is made, so no search_path leads it elsewhere.
FUNCTION = sql.SQL("""
CREATE FUNCTION {function}() RETURNS text LANGUAGE sql STABLE PARALLEL SAFE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC SELECT tenant_id FROM tenant_readers WHERE id = {reader}; END
""")
# Postgres runs a sub-select once for each statement, and a bare function once for each row where no index is used.
# Before a policy it checks conditions of the reader's that it holds for leakproof and that cost less, and the reader
# sees what those found by what was run next. Nothing costs less than a subscript, and the policy is first among equals.
# `=` finds the rows by the index. A removed tenant is '', which none is.
RULE = sql.SQL("""
USING ((SELECT jsonb_build_object(coalesce({function}(), ''), true))[tenant_id] IS NOT NULL
       AND tenant_id = (SELECT {function}()))
""")

# The functions that the policies of a role alone ask. The row's id is in the name, and the row may be gone: a tenant
# that is removed takes its rows with it.
ASKED = r"""
SELECT CAST(CAST(pg_proc.oid AS regprocedure) AS text), CAST(substring(proname FROM '\d+$') AS bigint)
FROM pg_policy
JOIN pg_depend ON classid = CAST('pg_policy' AS regclass) AND objid = pg_policy.oid
  AND refclassid = CAST('pg_proc' AS regclass)
JOIN pg_proc ON pg_proc.oid = refobjid AND proname ~ '^reader_tenant_\d+$'
WHERE polrelid = CAST('ticket_history' AS regclass)
  AND polroles = ARRAY[(SELECT oid FROM pg_roles WHERE rolname = %s)]
"""


def assign(connection: psycopg.Connection, role: str, tenant_id: str) -> None:
    """Let `role` see that tenant's tickets, and no other tenant's by a policy of its own. Locks ticket_history."""
    forget(connection, role)
    policies.drop(connection, "ticket_history", role)
    [reader] = connection.execute(ADD, [role, tenant_id]).fetchone() or []
    function = sql.Identifier(f"reader_tenant_{reader}")
    connection.execute(FUNCTION.format(function=function, reader=reader))
    connection.execute(sql.SQL("REVOKE ALL ON FUNCTION {}() FROM PUBLIC").format(function))
    connection.execute(sql.SQL("GRANT EXECUTE ON FUNCTION {}() TO {}").format(function, sql.Identifier(role)))
    policies.replace(connection, "ticket_history", role, "SELECT", RULE.format(function=function))


def forget(connection: psycopg.Connection, role: str) -> bool:
    """Undo `assign`; return False if `role` was assigned no tenant."""
    asked = connection.execute(ASKED, [role]).fetchall()
    if asked:
        policies.drop(connection, "ticket_history", role)
    for function, reader in asked:
        connection.execute(sql.SQL("DROP FUNCTION {}").format(sql.SQL(function)))
        connection.execute("DELETE FROM tenant_readers WHERE id = %s", [reader])
    return bool(asked)
