"""Alembic alone makes the whole schema, and removes it again."""

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import psycopg
import pytest

from db import rights, schema
from tests.support.ecosystem_tools import tool
from tests.support.system import Database, Server, run

# A query that lists every object of a database, as text that does not depend on when it was made.
OBJECTS = """
SELECT 'relation ' || c.relkind::text || ' ' || c.relname AS object FROM pg_class c WHERE c.relnamespace = 'public'::regnamespace
UNION ALL SELECT 'column ' || a.attrelid::regclass || '.' || a.attname || ' ' || format_type(a.atttypid, a.atttypmod)
  || coalesce(' default ' || pg_get_expr(d.adbin, d.adrelid), '') || ' ' || a.attnotnull::text || a.attidentity::text
  FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid LEFT JOIN pg_attrdef d ON (d.adrelid, d.adnum) = (a.attrelid, a.attnum)
  WHERE c.relnamespace = 'public'::regnamespace AND a.attnum > 0
UNION ALL SELECT 'constraint ' || conname || ' ' || pg_get_constraintdef(oid) FROM pg_constraint
  WHERE connamespace = 'public'::regnamespace
UNION ALL SELECT 'index ' || indexdef FROM pg_indexes WHERE schemaname = 'public'
UNION ALL SELECT 'function ' || pg_get_functiondef(oid) FROM pg_proc WHERE pronamespace = 'public'::regnamespace
UNION ALL SELECT 'trigger ' || pg_get_triggerdef(oid) FROM pg_trigger WHERE NOT tgisinternal
UNION ALL SELECT 'type ' || t.typname || ' ' || coalesce(string_agg(e.enumlabel, ',' ORDER BY e.enumsortorder), '')
  FROM pg_type t LEFT JOIN pg_enum e ON e.enumtypid = t.oid WHERE t.typnamespace = 'public'::regnamespace GROUP BY t.oid, t.typname
ORDER BY 1
"""


def objects(database: Database) -> list[str]:
    return [row["object"] for row in database.query(OBJECTS)]


def test_upgrade_and_downgrade(empty_database: Database) -> None:
    """From an empty database to head and back; then once more."""
    assert objects(empty_database) == []
    tool(empty_database, "alembic", "upgrade", "head")
    first = objects(empty_database)
    tool(empty_database, "alembic", "downgrade", "base")
    assert objects(empty_database) == []
    tool(empty_database, "alembic", "upgrade", "head")
    assert objects(empty_database) == first


def test_the_tables_code_and_migrations_agree(database: Database) -> None:
    assert "No new upgrade operations detected" in tool(database, "alembic", "check")
    database.query("ALTER TABLE inbox DROP COLUMN attempts")
    with pytest.raises(AssertionError, match="attempts"):
        tool(database, "alembic", "check")


# Our tables, and the functions and types of search.
OURS = [*(table for table in rights.TABLES if not table.startswith("procrastinate_")), "search_", "similar_"]


def test_procrastinates_part_is_what_procrastinate_makes(empty_database: Database, database: Database) -> None:
    """Our frozen copy makes the same schema as the installed version's `procrastinate schema --apply`."""
    tool(empty_database, "procrastinate", "--app=jobs.app", "schema", "--apply")
    theirs = set(objects(empty_database))
    assert len(theirs) > 50
    ours = {one for one in objects(database) if not any(name in one for name in OURS)}
    assert ours == theirs


def test_two_migrations_at_once_take_turns(empty_database: Database) -> None:
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(lambda _: tool(empty_database, "alembic", "upgrade", "head"), range(2)))
    assert empty_database.value("SELECT version_num FROM alembic_version") == schema.head()


def test_it_can_be_written_as_sql_for_a_database_administrator(empty_database: Database, database: Database) -> None:
    """`alembic upgrade head --sql` prints a script that makes the same schema."""
    script = tool(empty_database, "alembic", "upgrade", "head", "--sql")
    with psycopg.connect(empty_database.url, autocommit=True) as connection:
        connection.execute(script.encode())
    assert objects(empty_database) == objects(database)


@pytest.mark.parametrize(
    ("table", "changes"),
    [
        ("inbox", {"status": "lost"}),
        ("inbox", {"source": "email"}),
        ("inbox", {"action": "deleted"}),
        ("inbox", {"payload": None}),
        ("ticket_history", {"source": "email"}),
        ("ticket_history", {"source": None}),
        ("ticket_history", {"resolved_date": None}),
        ("ticket_history", {"tags": None}),
        ("tenant_configs", {"tenant_id": ""}),
        ("tenant_configs", {"secret": None}),
        ("tenant_configs", {"previous_secret": "without an end"}),
        ("sdp_configs", {"edition": "msp"}),
        ("sdp_configs", {"credentials": None}),
        ("sdp_configs", {"tenant_id": "nobody"}),
        ("sdp_cursors", {"source": "webhook_resolved"}),
        ("sdp_cursors", {"position": None}),
        ("sdp_cursors", {"tenant_id": "nobody"}),
    ],
)
def test_wrong_values_must_not_exist(database: Database, table: str, changes: dict[str, Any]) -> None:
    rows: dict[str, dict[str, Any]] = {
        "inbox": {"tenant_id": "acme", "correlation_id": "c", "payload": b"", "signature": "s"},
        "ticket_history": {
            "tenant_id": "acme", "ticket_id": "1", "description": "d", "resolution": "r",
            "resolved_date": "2026-01-01T00:00:00Z", "priority": "p",
        },
        "tenant_configs": {"tenant_id": "acme", "secret": "s"},
        "sdp_configs": {"tenant_id": "known", "edition": "cloud", "base_url": "u", "credentials": "c"},
        "sdp_cursors": {
            "tenant_id": "configured", "source": "api_fallback", "since": "2026-01-01T00:00:00Z", "position": "2026-01-01T00:00:00Z"
        },
    }  # fmt: skip
    database.query("INSERT INTO tenant_configs (tenant_id, secret) VALUES ('known', 's'), ('configured', 's')")
    database.query(
        "INSERT INTO sdp_configs (tenant_id, edition, base_url, credentials) VALUES ('configured', 'cloud', 'u', 'c')"
    )
    for row in (rows[table], {**rows[table], **changes}):
        statement = f"INSERT INTO {table} ({', '.join(row)}) VALUES ({', '.join(['%s'] * len(row))})"
        if row is rows[table]:
            database.query(statement, *row.values())
            database.query(f"DELETE FROM {table}")
        else:
            with pytest.raises(psycopg.IntegrityError):
                database.query(statement, *row.values())


def test_one_row_per_tenant_and_ticket_and_a_full_text_index(database: Database) -> None:
    indexes = " ".join(
        row["indexdef"] for row in database.query("SELECT indexdef FROM pg_indexes WHERE tablename = 'ticket_history'")
    )
    assert "UNIQUE INDEX ticket_history_tenant_id_ticket_id_key" in indexes
    assert "USING gin (to_tsvector('english'::regconfig, description))" in indexes
    search = "SELECT FROM ticket_history WHERE to_tsvector('english', description) @@ to_tsquery('english', 'printer')"
    with psycopg.connect(database.url) as connection:
        connection.execute("SET enable_seqscan = off")
        plan = connection.execute(f"EXPLAIN {search}").fetchall()
    assert "ticket_history_description_idx" in str(plan)


def test_ready_only_at_head(
    empty_database: Database, environment: dict[str, str], start_server: Callable[..., Server]
) -> None:
    env = {**environment, "DATABASE_URL": empty_database.url}
    server = start_server(**env)
    ready = server.client.get("/health/ready")
    assert ready.status_code == 503
    assert "The schema is at nothing" in ready.json()["detail"]
    assert run(["migrate"], env).stdout == f"The schema is at {schema.head()}.\n"
    assert server.client.get("/health/ready").json() == {"status": "ready"}
    empty_database.query("UPDATE alembic_version SET version_num = '0001'")
    assert "The schema is at 0001" in server.client.get("/health/ready").json()["detail"]


def test_a_wrong_address_is_one_line(environment: dict[str, str]) -> None:
    for url in ("mysql://localhost/x", "postgresql://127.0.0.1:1/x"):
        done = run(["migrate"], {**environment, "DATABASE_URL": url})
        assert (done.returncode, len(done.stderr.splitlines())) == (1, 1), done.stderr
    assert os.environ.get("DATABASE_URL") != "mysql://localhost/x"
