"""By which text search configuration are a tenant's tickets found, and how does it get another one?

A change makes an index beside the one that answers; a worker fills it, then it answers, and the old one is deleted.
"""

from collections.abc import Sequence

import msgspec
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from db import heartbeats
from db.search_index import search_indexes

DEFAULT = "pg_catalog.english"
TRIES = 3  # a worker may begin a tenant's first index at the same moment
_column = search_indexes.c


class Configuration(msgspec.Struct, frozen=True):
    """A text search configuration of this Postgres; `quoted` is its name with its schema, as SQL has it."""

    schema: str
    name: str
    quoted: str

    @property
    def shown(self) -> str:
        """Its name as a person gives it: with its schema unless it is Postgres' own."""
        return self.name if self.schema == "pg_catalog" else f"{self.schema}.{self.name}"


class Language(msgspec.Struct, frozen=True, kw_only=True):
    """By which configurations a tenant's tickets are found, quoted: `present`, and `coming` while that is made.

    `present` is None until the first words are made. `tickets` have words in it, `done` in the one that is coming. With
    `is_gone` one of them is no configuration of this Postgres any more; its words are then taken as they stand.
    """

    present: str | None = None
    coming: str | None = None
    tickets: int = 0
    done: int = 0
    is_gone: bool = False


# A temporary one is gone with its session, and one in a schema that this role may not use cannot be used either.
CONFIGURATIONS = sa.text(
    """
    SELECT CAST(nspname AS text), CAST(cfgname AS text), quote_ident(nspname) || '.' || quote_ident(cfgname)
    FROM pg_ts_config JOIN pg_namespace ON pg_namespace.oid = cfgnamespace
    WHERE nspname !~ '^pg_temp_' AND has_schema_privilege(pg_namespace.oid, 'USAGE')
    ORDER BY nspname <> 'pg_catalog', nspname, cfgname
    """
)

# Its dictionaries are read now: one whose file is missing would stop the worker for all tenants.
TRY = sa.text("SELECT to_tsvector(CAST(CAST(:quoted AS text) AS regconfig), 'one größer a-b 12 x@y.example тест')")

PRESENT = sa.text(
    """
    SELECT is_ready, configuration, tickets,
           NOT EXISTS (SELECT FROM pg_ts_config JOIN pg_namespace ON pg_namespace.oid = cfgnamespace
                       WHERE quote_ident(nspname) || '.' || quote_ident(cfgname) = configuration) AS is_gone
    FROM search_indexes WHERE tenant_id = :tenant_id
    """
)

WORKERS_ALIVE = sa.text(f"SELECT {heartbeats.COUNT_ALIVE}")


async def read(connection: AsyncConnection, tenant_id: str) -> Language:
    """Return by which configurations a tenant's tickets are found."""
    found = {row.is_ready: row for row in await connection.execute(PRESENT, {"tenant_id": tenant_id})}
    present, coming = found.get(True), found.get(False)
    return Language(
        present=present.configuration if present else None,
        coming=coming.configuration if coming else None if present else DEFAULT,
        tickets=present.tickets if present else 0,
        done=coming.tickets if coming else 0,
        is_gone=any(row.is_gone for row in found.values()),
    )


async def read_configurations(connection: AsyncConnection) -> Sequence[Configuration]:
    """Return the configurations that there are, Postgres' own first."""
    return [Configuration(*row) for row in await connection.execute(CONFIGURATIONS)]


async def require_usable(connection: AsyncConnection, quoted: str) -> None:
    """Raise a database error for a configuration that cannot make words of a text."""
    await connection.execute(TRY, {"quoted": quoted})


async def choose(connection: AsyncConnection, tenant_id: str, quoted: str) -> bool:
    """Have a tenant's tickets found by a configuration as soon as their words are made; call it in a transaction.

    One that was being made and is not wanted any more is given up. Waits for the batch that a worker writes just then.
    Returns False if there is no such tenant, or if it is being removed. Raises a database error.
    """
    for _ in range(TRIES):
        indexes = sa.select(_column.id, _column.is_ready, _column.configuration).where(_column.tenant_id == tenant_id)
        found = (await connection.execute(indexes.order_by(_column.id).with_for_update(key_share=True))).all()
        unwanted = [row.id for row in found if not row.is_ready and row.configuration != quoted]
        await connection.execute(sa.update(search_indexes).where(_column.id.in_(unwanted)).values(tenant_id=None))
        if any(row.configuration == quoted for row in found) or await _add(connection, tenant_id, quoted):
            return True
    return False


async def count_workers(connection: AsyncConnection) -> int:
    """Return how many workers are alive."""
    return int(await connection.scalar(WORKERS_ALIVE, {"dead_after": heartbeats.DEAD_AFTER}) or 0)


ADD = sa.text(
    """
    INSERT INTO search_indexes (tenant_id, configuration)
    SELECT tenant_id, :quoted FROM tenant_configs
    WHERE tenant_id = :tenant_id AND tenant_id NOT IN (SELECT tenant_id FROM tenant_removals)
    ON CONFLICT DO NOTHING RETURNING id
    """
)


async def _add(connection: AsyncConnection, tenant_id: str, quoted: str) -> bool:
    """Begin an index; return False if the tenant is not there, or a worker has begun one at this moment."""
    return (await connection.execute(ADD, {"tenant_id": tenant_id, "quoted": quoted})).first() is not None
