"""Which Postgres roles do the processes log in with, and which role reads which tenant's tickets?

Four group roles cannot log in; each login role is a member of one of them. A command makes them, not a migration:
roles belong to all databases of a Postgres, and the owner of one database often may not create roles.
"""

import contextlib
from collections.abc import Iterator, Sequence

import msgspec
import psycopg
from psycopg import sql

from db import exposure, policies, readers, rights, schema, schema_turn
from db.sessions import open_sync

# A new policy waits for the sessions that use its table, and others wait behind it: webhooks, if it is one for jobs.
LOCK_TIMEOUT = "2s"
NAMED = 3  # others that an error names
# What a change of roles locks; clearing statistics locks any table of ours.
LOCKED = ("alembic_version", "ticket_history", "procrastinate_jobs")

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

EXISTS = "SELECT FROM pg_roles WHERE rolname = %s"
FOUND = "SELECT CAST(rolname AS text) FROM pg_roles WHERE rolname = ANY(%s)"
MAY_CREATE = "SELECT rolcreaterole OR rolsuper FROM pg_roles WHERE rolname = current_user"

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
    """Make the roles `prefix`_app, _worker, _reader and _operator where they are missing, and grant them their rights.

    Any other right that they had on our tables is revoked. All of it is one transaction, as the tables' owner; old
    statistics, if some are left that can be cleared by now, are cleared in another, which may take long.
    Raises RolesError or psycopg.Error; then nothing was changed, or all but the statistics.
    """
    with _as_owner(url) as connection:
        names, new = _create(connection, {kind: f"{prefix}_{kind}" for kind in rights.KINDS})
        [database, namespace, anybody_creates] = connection.execute(PLACE).fetchone() or []
        for kind, role in names.items():
            _refuse_role_that_sees_all(connection, role)
            rights.revoke(connection, role)
            rights.grant(connection, kind, role, database, namespace)
        policies.apply(connection, names)
        policies.let_triggers_write_events(connection, namespace)
        elsewhere = "" if namespace == "public" else sql.Identifier(namespace).as_string(connection)
        open_namespace = namespace if anybody_creates else ""
        found, can_clear = list(_warnings(connection, open_namespace, prefix)), exposure.can_clear(connection)
    if can_clear:
        with _as_owner(url, *rights.TABLES) as connection:
            exposure.clear(connection)
            found = list(_warnings(connection, open_namespace, prefix))
    return Made(names, new, found, elsewhere)


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
        readers.assign(connection, role, tenant_id)


def stop_reading(url: str, role: str) -> None:
    """Undo `let_read`, so that `role` sees no ticket any more and can be dropped.

    Raises RolesError or psycopg.Error; then nothing was changed.
    """
    with _as_owner(url) as connection:
        if not readers.forget(connection, role):
            raise RolesError(f"{role!r} is no role that `ticket-inbox roles reader` lets read a tenant's tickets")


def _warnings(connection: psycopg.Connection, open_namespace: str, prefix: str) -> Iterator[str]:
    """Yield in one line each what is missing or weakens the roles, and what to do."""
    operator = f"{prefix}_{rights.OPERATOR}"
    if not connection.execute(EXISTS, [operator]).rowcount:
        yield f"an administrator has to make the operators' role, by `CREATE ROLE {operator}`; then run this again"
    if open_namespace:
        cure = f"`REVOKE CREATE ON SCHEMA {open_namespace} FROM PUBLIC`"
        yield f"anybody may make tables in schema {open_namespace}: {cure}"
    for role in policies.without_policy(connection):
        cure = f"make it a member of {prefix}_{rights.WORKER}"
        yield f"role {role} may add or change jobs by its rights, but no policy lets it: {cure}, or revoke them"
    yield from exposure.warnings(connection)


@contextlib.contextmanager
def _as_owner(url: str, *tables: str) -> Iterator[psycopg.Connection]:
    """Yield a transaction of the tables' owner, which keeps migrations and other changes of roles waiting.

    It may lock `tables`, by default those of a change of roles. Raises RolesError where they are not free.
    """
    with open_sync(url, "ticket-inbox command") as connection:
        connection.execute(sql.SQL("SET LOCAL lock_timeout = {}").format(LOCK_TIMEOUT))
        try:
            schema_turn.take(connection)
            _refuse_other_schema(connection)
            yield connection
        except psycopg.errors.LockNotAvailable:
            connection.rollback()
            raise RolesError(f"{_in_the_way(connection, tables)}: try again later") from None


def _in_the_way(connection: psycopg.Connection, tables: Sequence[str]) -> str:
    """Return who has a lock that was not free. A role without any right may, too: see docs/operations.md."""
    if others := [str(one) for one in schema_turn.who_has_it(connection) if one.may_do_it]:
        return f"a migration or another `roles` is under way, by {' and '.join(others)}"
    words = "tables whose old statistics are to go" if tables else "ticket_history or the jobs"
    if users := schema_turn.who_uses(connection, *(tables or LOCKED)):
        named = " and ".join(map(str, users[:NAMED]))
        ending = [f"`SELECT pg_terminate_backend({one.pid})`" for one in users[:NAMED] if one.pid]
        ends = f" ({' or '.join(ending)} ends it)" if ending else ""
        return f"{words} are in use, by {named}{ends}"
    return f"a migration, or a statement that took long, used {words}"


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


def _create(connection: psycopg.Connection, names: dict[str, str]) -> tuple[dict[str, str], set[str]]:
    """Make the roles `names`, by kind, that are missing. Return those that there are now, and the names of new ones.

    An owner that may make none goes on without an operators' role, which older versions lack. Raises RolesError.
    """
    found = {name for (name,) in connection.execute(FOUND, [list(names.values())])}
    missing = {kind: name for kind, name in names.items() if name not in found}
    if missing.keys() == {rights.OPERATOR} and connection.execute(MAY_CREATE).fetchone() != (True,):
        return {kind: name for kind, name in names.items() if name in found}, set()
    try:
        for name in missing.values():
            connection.execute(sql.SQL("CREATE ROLE {}").format(sql.Identifier(name)))
    except psycopg.errors.InsufficientPrivilege:
        lines = "; ".join(f"CREATE ROLE {name}" for name in missing.values())
        raise RolesError(f"an administrator has to make the roles, by `{lines}`; then run this again") from None
    return names, set(missing.values())


def _refuse_role_that_sees_all(connection: psycopg.Connection, role: str) -> None:
    [wide] = connection.execute(SEE_ALL, [role]).fetchone() or [None]
    if wide:
        raise RolesError(f"{role!r} is, or may become, a role that sees every tenant's tickets ({wide}): use another")


def _refuse_role_that_is_no_reader(connection: psycopg.Connection, role: str, group: str) -> None:
    """Refuse a role outside the readers' group, and the group itself: every reader would see that tenant."""
    if role == group:
        raise RolesError(f"every reader is a member of {group}: name the one that is to read this tenant")
    names = [sql.Identifier(name).as_string(connection) for name in (role, group)]
    if not connection.execute(EXISTS, [role]).rowcount:
        line = "CREATE ROLE {} LOGIN PASSWORD '…' IN ROLE {}".format(*names)
        raise RolesError(f"there is no role {role!r}: make it by `{line}`, then run this again")
    may_read = "SELECT has_table_privilege(%s, 'ticket_history', 'SELECT')"
    if connection.execute(may_read, [role]).fetchone() != (True,):
        line = "GRANT {1} TO {0}".format(*names)
        raise RolesError(f"{role!r} may not read ticket_history at all: let it by `{line}`, then run this again")
