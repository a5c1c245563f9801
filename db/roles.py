"""Which Postgres roles do the processes log in with, and which role reads which tenant's tickets?

Three group roles cannot log in; each login role is a member of one of them. A command makes them, not a migration:
roles belong to all databases of a Postgres, and the owner of one database often may not create roles.
"""

import contextlib
from collections.abc import Iterator, Sequence

import msgspec
import psycopg
from psycopg import sql

from db import rights, schema, schema_turn
from db.sessions import open_sync

LOCK_TIMEOUT = "5s"  # a new policy waits for the table's readers, and its writers wait behind the policy

OTHER_OWNERS = """
SELECT string_agg(DISTINCT CAST(pg_get_userbyid(relowner) AS text), ', ') FROM pg_class
WHERE oid = ANY(CAST(%s AS regclass[])) AND NOT pg_has_role(relowner, 'USAGE')
"""

# Returns the roles that see every tenant's tickets despite the role's own policy, and that it is or may become.
SEE_ALL = """
SELECT string_agg(CAST(wide.rolname AS text), ', ' ORDER BY wide.rolname)
FROM pg_roles AS role, pg_roles AS wide, pg_class AS history
WHERE role.rolname = %s AND pg_has_role(role.oid, wide.oid, 'MEMBER')
  AND history.oid = CAST('ticket_history' AS regclass)
  AND (wide.rolsuper OR wide.rolbypassrls OR wide.oid = history.relowner
       OR EXISTS (SELECT FROM pg_policy
                  WHERE polrelid = history.oid AND wide.oid = ANY(polroles) AND polroles <> ARRAY[role.oid]
                    AND pg_get_expr(polqual, polrelid) = 'true'))
"""

POLICIES = """
SELECT polname, polpermissive, CAST(polcmd AS text), pg_get_expr(polqual, polrelid), pg_get_expr(polwithcheck, polrelid)
FROM pg_policy
WHERE polrelid = CAST('ticket_history' AS regclass) AND polroles = ARRAY[(SELECT oid FROM pg_roles WHERE rolname = %s)]
"""

PLACE = """
SELECT current_database(), nspname, has_schema_privilege('public', pg_namespace.oid, 'CREATE')
FROM pg_class JOIN pg_namespace ON pg_namespace.oid = relnamespace
WHERE pg_class.oid = CAST('inbox' AS regclass)
"""


class RolesError(Exception):
    """The roles cannot be made or changed; the message says why and what to do."""


class Made(msgspec.Struct, frozen=True):
    """The roles' names by kind, the names that are new, warnings for the operator, and the schema of the tables.

    `namespace` is "" where every role looks anyway, in `public`.
    """

    names: dict[str, str]
    new: set[str]
    warnings: list[str]
    namespace: str = ""


def make(url: str, prefix: str) -> Made:
    """Make the roles `prefix`_app, _worker and _reader where they are missing, and grant them their rights.

    Any other right that they had on our tables is revoked. All of it is one transaction, as the tables' owner.
    Raises RolesError or psycopg.Error; then nothing was changed.
    """
    names = {kind: f"{prefix}_{kind}" for kind in rights.KINDS}
    with _as_owner(url) as connection:
        new = _create(connection, list(names.values()))
        [database, namespace, anybody_creates] = connection.execute(PLACE).fetchone() or []
        for kind, role in names.items():
            _refuse_role_that_sees_all(connection, role)
            rights.revoke(connection, role)
            rights.grant(connection, kind, role, database, namespace)
        _let_see_all(connection, names[rights.WORKER])
        elsewhere = "" if namespace == "public" else sql.Identifier(namespace).as_string(connection)
    too_much = f"anybody may make tables in schema {namespace}: `REVOKE CREATE ON SCHEMA {namespace} FROM PUBLIC`"
    return Made(names, new, [too_much] if anybody_creates else [], elsewhere)


def let_read(url: str, prefix: str, tenant_id: str, role: str) -> None:
    """Let `role`, a member of the readers' group, see that tenant's tickets, and no other tenant's any more.

    Raises RolesError or psycopg.Error; then nothing was changed.
    """
    group = f"{prefix}_{rights.READER}"
    with _as_owner(url) as connection:
        if not connection.execute("SELECT FROM tenant_configs WHERE tenant_id = %s", [tenant_id]).rowcount:
            raise RolesError(f"there is no tenant {tenant_id!r}: see `ticket-inbox tenant list`")
        _refuse_role_that_is_no_reader(connection, role, group)
        _refuse_role_that_sees_all(connection, role)
        _replace_policy(connection, role, "SELECT", sql.SQL("USING (tenant_id = {})").format(tenant_id))


@contextlib.contextmanager
def _as_owner(url: str) -> Iterator[psycopg.Connection]:
    """Yield a transaction of the tables' owner, which keeps migrations and other changes of roles waiting."""
    with open_sync(url, "ticket-inbox command") as connection:
        connection.execute(sql.SQL("SET LOCAL lock_timeout = {}").format(LOCK_TIMEOUT))
        try:
            schema_turn.take(connection)
            _refuse_other_schema(connection)
            yield connection
        except psycopg.errors.LockNotAvailable:
            connection.rollback()
            others = " and ".join(map(str, schema_turn.who_has_it(connection)))
            under_way = f"a migration or another `roles` is under way, by {others}"
            in_use = under_way if others else "a migration, or a statement that takes long, uses our tables"
            raise RolesError(f"{in_use}: try again later") from None


def _refuse_other_schema(connection: psycopg.Connection) -> None:
    """Refuse the schema of another version, and a login role that does not own the tables. Raises RolesError.

    In an older one, readers would see every tenant.
    """
    [found] = connection.execute("SELECT string_agg(version_num, ', ') FROM alembic_version").fetchone() or [None]
    if trouble := schema.trouble(found):
        raise RolesError(trouble)
    if newer := schema.newer(found):  # the roles would lose the rights that only the newer version knows
        raise RolesError(f"{newer}: let the newer version do this")
    [owners] = connection.execute(OTHER_OWNERS, [list(rights.TABLES)]).fetchone() or [None]
    if owners:
        raise RolesError(f"the tables belong to {owners}: set DATABASE_URL to log in as that role")


def _create(connection: psycopg.Connection, names: Sequence[str]) -> set[str]:
    """Make the roles of `names` that are missing, and return their names. Raises RolesError."""
    found = connection.execute("SELECT rolname FROM pg_roles WHERE rolname = ANY(%s)", [list(names)])
    missing = sorted(set(names) - {name for (name,) in found})
    try:
        for name in missing:
            connection.execute(sql.SQL("CREATE ROLE {}").format(sql.Identifier(name)))
    except psycopg.errors.InsufficientPrivilege:
        lines = "; ".join(f"CREATE ROLE {name}" for name in missing)
        raise RolesError(f"an administrator has to make the roles, by `{lines}`; then run this again") from None
    return set(missing)


def _refuse_role_that_sees_all(connection: psycopg.Connection, role: str) -> None:
    [wide] = connection.execute(SEE_ALL, [role]).fetchone() or [None]
    if wide:
        raise RolesError(f"{role!r} is, or may become, a role that sees every tenant's tickets ({wide}): use another")


def _refuse_role_that_is_no_reader(connection: psycopg.Connection, role: str, group: str) -> None:
    """Refuse a role outside the readers' group, and the group itself: every reader would see that tenant."""
    if role == group:
        raise RolesError(f"every reader is a member of {group}: name the one that is to read this tenant")
    names = [sql.Identifier(name).as_string(connection) for name in (role, group)]
    if not connection.execute("SELECT FROM pg_roles WHERE rolname = %s", [role]).rowcount:
        line = "CREATE ROLE {} LOGIN PASSWORD '…' IN ROLE {}".format(*names)
        raise RolesError(f"there is no role {role!r}: make it by `{line}`, then run this again")
    may_read = "SELECT has_table_privilege(%s, 'ticket_history', 'SELECT')"
    if connection.execute(may_read, [role]).fetchone() != (True,):
        line = "GRANT {1} TO {0}".format(*names)
        raise RolesError(f"{role!r} may not read ticket_history at all: let it by `{line}`, then run this again")


def _let_see_all(connection: psycopg.Connection, role: str) -> None:
    """Let `role` work on every tenant's rows. An upsert is no slower: the role's only policy is a constant."""
    found = connection.execute(POLICIES, [role]).fetchall()
    if [rule for _, *rule in found] != [[True, "*", "true", "true"]]:
        _replace_policy(connection, role, "ALL", sql.SQL("USING (true) WITH CHECK (true)"))


def _replace_policy(connection: psycopg.Connection, role: str, command: str, rule: sql.Composable) -> None:
    """Make `rule` the only policy of `role` alone; the policy has the role's name."""
    for name, *_ in connection.execute(POLICIES, [role]).fetchall():
        connection.execute(sql.SQL("DROP POLICY {} ON ticket_history").format(sql.Identifier(name)))
    policy = sql.SQL("CREATE POLICY {0} ON ticket_history FOR {1} TO {0} {2}")
    connection.execute(policy.format(sql.Identifier(role), sql.SQL(command), rule))
