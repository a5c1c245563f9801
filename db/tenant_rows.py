"""What is stored of a tenant, in which tables, and which roles read its tickets?"""

import asyncio

import msgspec
import sqlalchemy as sa
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection

from db import failures, rights

TRIES, PAUSE = 10, 1.0  # seconds; each try waits for two, and what waits behind it goes on between two tries
LOCK_NOT_AVAILABLE = "55P03"
OWN = {
    "inbox",
    "ticket_history",
    "tenant_configs",
    "tenant_removals",
    "search_indexes",
}  # a removal has statements for each of them

# The tables with a tenant in them, so that none is forgotten: rights.TABLES names all of this version.
TABLES = sa.text(
    """
    SELECT CAST(relname AS text) AS name, CAST(CAST(pg_class.oid AS regclass) AS text) AS quoted
    FROM pg_class JOIN pg_attribute ON attrelid = pg_class.oid AND attname = 'tenant_id'
    WHERE relname = ANY(CAST(:names AS text[])) AND relkind IN ('r', 'p')
      AND relnamespace = (SELECT relnamespace FROM pg_class WHERE oid = CAST('inbox' AS regclass))
    ORDER BY relname
    """
)

COUNTS = sa.text(
    """
    SELECT (SELECT count(*) FROM ticket_history WHERE tenant_id = :tenant_id) AS tickets,
           (SELECT count(*) FROM inbox WHERE tenant_id = :tenant_id) AS deliveries,
           EXISTS (SELECT FROM tenant_configs WHERE tenant_id = :tenant_id) AS has_config,
           (SELECT count(*) FROM search_indexes WHERE tenant_id = :tenant_id) AS indexes,
           EXISTS (SELECT FROM sdp_configs WHERE tenant_id = :tenant_id) AS has_account,
           EXISTS (SELECT FROM tenant_removals WHERE tenant_id = :tenant_id) AS being_removed
    """
)

IS_KNOWN = sa.text("SELECT EXISTS (SELECT FROM tenant_configs WHERE tenant_id = :tenant_id)")

READERS = sa.text("SELECT CAST(role_name AS text) FROM tenant_readers WHERE tenant_id = :tenant_id ORDER BY 1")

# The functions that the policies of the tenant's readers ask: db/readers.py.
FUNCTIONS = """
    SELECT pg_proc.oid FROM tenant_readers JOIN pg_proc ON proname = 'reader_tenant_' || tenant_readers.id
    WHERE tenant_id = :tenant_id
      AND pronamespace = (SELECT relnamespace FROM pg_class WHERE oid = CAST('tenant_readers' AS regclass))
"""
ASKS = """
    SELECT FROM pg_depend
    WHERE classid = CAST('pg_policy' AS regclass) AND objid = pg_policy.oid AND refclassid = CAST('pg_proc' AS regclass)
"""

# Those that ask such a function, and those that name the tenant: of `roles reader` as it was before tenant_readers, and
# as it is typed by hand. Postgres writes a constant so.
POLICIES = sa.text(
    f"""
    SELECT * FROM (
      SELECT CAST(polname AS text) AS name,
             ARRAY(SELECT CAST(rolname AS text) FROM pg_roles WHERE oid = ANY(polroles) ORDER BY 1)
               || CASE WHEN 0 = ANY(polroles) THEN ARRAY['PUBLIC'] END AS roles,
             pg_get_expr(polqual, polrelid)
               = '(tenant_id = ''' || replace(CAST(:tenant_id AS text), '''', '''''') || '''::text)' AS names_it,
             NOT polpermissive AS restricts, EXISTS ({ASKS} AND refobjid IN ({FUNCTIONS})) AS asks
      FROM pg_policy WHERE polrelid = CAST('ticket_history' AS regclass)
    ) AS policies
    WHERE names_it OR asks
    ORDER BY 1
    """  # noqa: S608  (composed of constants)
)

UNUSED_FUNCTIONS = sa.text(
    f"""
    SELECT CAST(CAST(oid AS regprocedure) AS text) FROM ({FUNCTIONS}) AS functions
    WHERE NOT EXISTS (SELECT FROM pg_policy WHERE EXISTS ({ASKS} AND refobjid = functions.oid))
    """  # noqa: S608  (composed of constants)
)


class Policy(msgspec.Struct, frozen=True):
    """A policy by which `roles` read the tenant's tickets; `names_tenant` if it would let them read the next one's.

    One that `restricts` keeps them from other tenants' tickets, which another policy lets them read.
    """

    name: str
    roles: list[str]
    names_tenant: bool
    restricts: bool


class Stored(msgspec.Struct, frozen=True, kw_only=True):
    """What is stored of a tenant: rows, the roles that read its tickets, and whether it is known and configured."""

    tickets: int
    deliveries: int
    others: int  # rows of other tables
    readers: list[str]
    has_config: bool
    has_account: bool  # of ServiceDesk Plus
    being_removed: bool

    @property
    def is_nothing(self) -> bool:
        """Whether nothing at all is stored."""
        return not any(msgspec.structs.astuple(self))


async def read(connection: AsyncConnection, tenant_id: str) -> Stored:
    """Return what is stored of a tenant; costs a scan of the inbox."""
    of = {"tenant_id": tenant_id}
    counts = dict((await connection.execute(COUNTS, of)).mappings().one())
    others = counts.pop("indexes")
    for table in await other_tables(connection):
        counted = sa.text(f"SELECT count(*) FROM {table} WHERE tenant_id = :tenant_id")  # noqa: S608  (of the catalog)
        others += await connection.scalar(counted, of) or 0
    return Stored(**counts, others=others, readers=await readers(connection, tenant_id))


async def readers_left(connection: AsyncConnection, tenant_id: str) -> list[str]:
    """Return the roles that would read the tickets of a tenant that is added anew, because an earlier one left them."""
    found = await readers(connection, tenant_id)
    if found and await connection.scalar(IS_KNOWN, {"tenant_id": tenant_id}):
        return []
    return found


async def readers(connection: AsyncConnection, tenant_id: str) -> list[str]:
    """Return the roles that read a tenant's tickets, by name."""
    of = {"tenant_id": tenant_id}
    by_table = list(await connection.scalars(READERS, of))
    by_policy = [role for policy in await policies(connection, tenant_id) for role in policy.roles]
    return sorted({*by_table, *by_policy})


async def policies(connection: AsyncConnection, tenant_id: str) -> list[Policy]:
    """Return the policies of ticket_history that let roles read this tenant's tickets alone, by name."""
    found = await connection.execute(POLICIES, {"tenant_id": tenant_id})
    return [Policy(row.name, row.roles, row.names_it, row.restricts) for row in found]


async def drop_functions(connection: AsyncConnection, tenant_id: str) -> None:
    """Drop the functions that the policies of the tenant's readers asked, where these are gone."""
    for function in await connection.scalars(UNUSED_FUNCTIONS, {"tenant_id": tenant_id}):
        await connection.exec_driver_sql(f"DROP FUNCTION IF EXISTS {function}")


async def other_tables(connection: AsyncConnection) -> list[str]:
    """Return the tables that have a tenant_id and no statement of their own in a removal, quoted."""
    found = await connection.execute(TABLES, {"names": list(rights.TABLES)})
    return [row.quoted for row in found if row.name not in OWN]


async def drop_policy(connection: AsyncConnection, name: str) -> bool:
    """Drop a policy of ticket_history; return False if the table was in use at each of several tries."""
    quoted = connection.dialect.identifier_preparer.quote_identifier(name)
    for _ in range(TRIES):
        try:
            await _drop(connection, quoted)
        except DBAPIError as error:
            if failures.sqlstate(error) != LOCK_NOT_AVAILABLE:
                raise
            await asyncio.sleep(PAUSE)
        else:
            return True
    return False


async def _drop(connection: AsyncConnection, quoted: str) -> None:
    """Drop a policy in a transaction of its own: its lock keeps all others from the table while it waits."""
    await connection.commit()
    await connection.execution_options(isolation_level="READ COMMITTED")
    try:
        async with connection.begin():
            await connection.exec_driver_sql("SET LOCAL lock_timeout = '2s'")
            await connection.exec_driver_sql(f"DROP POLICY IF EXISTS {quoted} ON ticket_history")
    finally:
        await connection.execution_options(isolation_level="AUTOCOMMIT")
