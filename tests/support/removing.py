"""Rows of a tenant in every table that has a tenant, and what is left of it."""

import asyncio
import hashlib
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

from db import engine as engines
from db import tenant_removal
from tests.support.system import Database

# A later table that has a tenant gets a row too, and fails the tests if a removal forgets it.
COLUMNS = """
SELECT relname AS table, json_object_agg(attname, format_type(atttypid, NULL)) AS columns
FROM pg_class JOIN pg_attribute ON attrelid = pg_class.oid AND attnum > 0 AND NOT attisdropped
WHERE relkind IN ('r', 'p') AND relnamespace = 'public'::regnamespace AND relname <> 'tenant_removals'
  AND EXISTS (SELECT FROM pg_attribute AS one WHERE one.attrelid = pg_class.oid AND one.attname = 'tenant_id')
  AND (attname = 'tenant_id' OR attnotnull AND NOT atthasdef AND attidentity = '')
GROUP BY relname
"""
TABLES = """
SELECT relname AS table FROM pg_class JOIN pg_attribute ON attrelid = pg_class.oid AND attname = 'tenant_id'
WHERE relkind IN ('r', 'p') AND relnamespace = 'public'::regnamespace
"""
REFERENCES = """
SELECT conrelid::regclass::text AS table, confrelid::regclass::text AS before FROM pg_constraint
WHERE contype = 'f' AND conrelid <> confrelid
"""
VALUES = {
    "timestamp with time zone": "2026-01-01T00:00:00Z",
    "bigint": 1,
    "bigint[]": [1],
    "integer": 1,
    "boolean": True,
    "bytea": b"{}",
}
CHOICES = {"edition": "cloud", "source": "api_fallback", "name": "name"}  # of columns that a constraint restricts


class Silent:
    """Hears how far a removal has come, and keeps the words."""

    def __init__(self, on_first: Callable[[], object] = lambda: None) -> None:
        self.words: list[str] = []
        self._on_first: Callable[[], object] | None = on_first

    def print_line(self, words: str) -> None:
        self.words.append(words)

    def show(self, _done: int) -> None:
        """Call `on_first` once, in a thread of its own: this one's event loop runs already."""
        act, self._on_first = self._on_first, None
        if act:
            with ThreadPoolExecutor() as pool:
                pool.submit(act).result()


def fill(database: Database, tenant_id: str) -> None:
    """Insert a row of a tenant into each table that has a tenant."""
    with database.on_one_connection():
        columns = {row["table"]: row["columns"] for row in database.query(COLUMNS)}
        for table in in_order(database, set(columns)):
            texts = {name: CHOICES.get(name, f"{tenant_id} {name}") for name in columns[table]}
            row = {name: VALUES.get(kind, texts[name]) for name, kind in columns[table].items()} | {
                "tenant_id": tenant_id
            }
            if "token_hash" in row:
                row["token_hash"] = hashlib.sha256(tenant_id.encode()).digest()
            marks = ", ".join(["%s"] * len(row))
            database.query(f"INSERT INTO {table} ({', '.join(row)}) VALUES ({marks})", *row.values())


def in_order(database: Database, tables: set[str]) -> Iterator[str]:
    """Yield tables so that each comes after those that it references."""
    before = [(row["table"], row["before"]) for row in database.query(REFERENCES)]
    while tables:
        free = sorted(one for one in tables if not any(table == one and other in tables for table, other in before))
        yield from free
        tables = tables - set(free)


def left(database: Database, tenant_id: str) -> dict[str, int]:
    """Return in which tables rows of a tenant are, and how many."""
    with database.on_one_connection():
        found = {
            row["table"]: database.value(f"SELECT count(*) FROM {row['table']} WHERE tenant_id = %s", tenant_id)
            for row in database.query(TABLES)
        }
    return {table: rows for table, rows in found.items() if rows}


def remove(database: Database, tenant_id: str, watcher: tenant_removal.Watcher | None = None) -> Counter[str]:
    """Remove a tenant as `tenant remove` does, and return how many rows of each kind were deleted."""

    async def on_connection() -> Counter[str]:
        engine = engines.create_engine(database.url, "ticket-inbox command", 1, 30.0)
        try:
            async with engines.connection(engine) as connection:
                await tenant_removal.look(connection, tenant_id)
                return await tenant_removal.remove(connection, tenant_id, watcher or Silent())
        finally:
            await engine.dispose()

    return asyncio.run(on_connection())
