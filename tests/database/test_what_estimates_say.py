"""What the planner estimates for a reader does not depend on what other tenants' tickets say."""

import asyncio
import re
from collections.abc import Iterator

import psycopg
import pytest

from db import schema, ticket_history
from tests.support.installation import Installation, installation
from tests.support.query_plans import plan
from tests.support.revisions import upgrade
from tests.support.system import Database

BEFORE = "0007"  # the revision before migration 0008
ROWS = 500  # of each tenant
TEXTS = ("ticket_id", "description", "resolution", "priority", "source", "tenant_id")
# What the rows of another tenant hold, twice; the second has as many rows and other values.
FIRST = {
    "tenant_id": "globex", "ticket_id": "zebra", "display_id": "zebra101", "description": "lawsuit", "resolution": "Rolled", "priority": "Severe",
    "tags": "{vip,board}", "source": "api_fallback", "id": "20000", "inbox_id": "21000", "day": "2021-03-01", "kinds": "1",
}  # fmt: skip
SECOND = {
    "tenant_id": "initec", "ticket_id": "abbey", "display_id": "abbey100", "description": "printer", "resolution": "Mended", "priority": "Normal",
    "tags": "{all,staff}", "source": "bulk_import", "id": "10000", "inbox_id": "11000", "day": "2024-05-01", "kinds": "7",
}  # fmt: skip
FILL = """
INSERT INTO ticket_history (id, tenant_id, ticket_id, description, resolution, priority, tags, source, inbox_id,
                            resolved_date, ingested_at, created_at, updated_at{name})
OVERRIDING SYSTEM VALUE
SELECT CAST(%(id)s AS bigint) + n, %(tenant_id)s, %(ticket_id)s || n, %(description)s || ' ' || n, %(resolution)s, %(priority)s || n %% CAST(%(kinds)s AS integer),
       CAST(%(tags)s AS text[]), %(source)s, CAST(%(inbox_id)s AS bigint) + n, moment, moment, moment, moment{named}
FROM generate_series(100, 99 + %(rows)s) AS n,
     LATERAL (SELECT CAST(%(day)s AS timestamptz) + n * interval '1 minute' AS moment) AS at
"""
# A display id, where the schema has one: of as many rows of either tenant, and another half of them. None is updated for
# it: dead rows, and how many autovacuum has cleared, would change the size of the index.
NAMED = "CASE WHEN n %% 2 = CASE %(tenant_id)s WHEN 'globex' THEN 1 ELSE 0 END THEN %(ticket_id)s || n END"
HAS_NAMES = (
    "SELECT count(*) FROM pg_attribute WHERE attrelid = CAST('ticket_history' AS regclass) AND attname = 'display_id'"
)
ACME = {**FIRST, "tenant_id": "acme", "ticket_id": "t", "description": "d", "resolution": "r", "priority": "p",
        "tags": "{}", "source": "webhook_resolved", "id": "1", "inbox_id": "1", "day": "2022-01-01"}  # fmt: skip
LEAKPROOF = """
SELECT oprname AS name, CAST(oprleft AS regtype)::text AS left, CAST(oprright AS regtype)::text AS right
FROM pg_operator JOIN pg_proc ON pg_proc.oid = oprcode
WHERE proleakproof AND oprresult = CAST('boolean' AS regtype) AND oprkind = 'b'
  AND (oprleft = CAST(%s AS regtype) OR oprright = CAST(%s AS regtype))
"""
COLUMNS = """
SELECT attname AS name, CAST(atttypid AS regtype)::text AS type FROM pg_attribute
WHERE attrelid = CAST('ticket_history' AS regclass) AND attnum > 0 AND NOT attisdropped
"""
# Operators that are not leakproof, and what is estimated without any.
OTHERS = [
    "SELECT FROM ticket_history WHERE to_tsvector('english', description) @@ to_tsquery('english', '{description}')",
    "SELECT FROM ticket_history WHERE to_tsvector('english', description) @@ to_tsquery('english', '{description}:*')",
    "SELECT FROM ticket_history WHERE description @@ '{description}'",
    "SELECT FROM ticket_history WHERE starts_with(resolution, '{resolution}')",
    *[f"SELECT FROM ticket_history WHERE {name} LIKE '{{{name}}}%'" for name in TEXTS],
    *[f"SELECT FROM ticket_history WHERE {name} ~ '^{{{name}}}'" for name in TEXTS],
    "SELECT FROM ticket_history WHERE tags @> '{tags}'",
    "SELECT FROM ticket_history WHERE tags && '{tags}'",
    "SELECT FROM ticket_history WHERE tags <@ '{tags}'",
    "SELECT FROM ticket_history WHERE tags = '{tags}'",
    "SELECT FROM ticket_history WHERE 'vip' = ANY (tags)",
    "SELECT FROM ticket_history JOIN (VALUES ('{resolution}')) AS mine (text) ON resolution = mine.text",
    "SELECT FROM ticket_history WHERE display_id LIKE '{display_id}%'",
    "SELECT FROM ticket_history WHERE display_id IS NOT NULL",
    "SELECT FROM ticket_history AS a JOIN ticket_history AS b ON a.resolution = b.priority",
]  # fmt: skip

Estimates = dict[str, list[tuple[int, int]]]


@pytest.fixture
def place(postgres_url: str) -> Iterator[Installation]:
    """An installation of the version before: a reader whose policy names its tenant."""
    with installation(postgres_url) as made:
        upgrade(made.owner.url, BEFORE)
        made.add_old_reader("reader_1", "acme")
        yield made


def fill(owner: Database, others: dict[str, str]) -> None:
    """Replace all rows by those of acme and of another tenant, and collect statistics."""
    owner.query("TRUNCATE ticket_history")
    name, named = (", display_id", f", {NAMED}") if owner.value(HAS_NAMES) else ("", "")
    for row in (ACME, others):
        with psycopg.connect(owner.url) as connection:
            connection.execute(FILL.format(name=name, named=named), {**row, "rows": ROWS})
    owner.query("ANALYZE ticket_history")


def questions(database: Database) -> list[str]:
    """Return a question for each column, leakproof operator and value; the value's name stands in braces."""
    made = [one.format(**values) for one in OTHERS for values in (FIRST, SECOND)]
    for column in database.query(COLUMNS):
        name, kind = column["name"], column["type"]
        made += [f"SELECT FROM ticket_history WHERE {name} IS NULL", f"SELECT DISTINCT {name} FROM ticket_history"]
        for operator in database.query(LEAKPROOF, kind, kind):
            for values in (FIRST, SECOND):
                made.append(comparison(name, kind, operator, values.get(name, values["day"])))
    return made


def comparison(name: str, kind: str, operator: dict[str, str], value: str) -> str:
    if operator["left"] == kind:
        return f"SELECT FROM ticket_history WHERE {name} {operator['name']} '{value}'::{operator['right']}"
    return f"SELECT FROM ticket_history WHERE '{value}'::{operator['left']} {operator['name']} {name}"


def estimates(reader: Database, asked: list[str]) -> Estimates:
    """Return the rows and widths that the planner expects at each node."""
    found: Estimates = {}
    with psycopg.connect(reader.url, autocommit=True) as connection:
        for one in asked:
            [[explained]] = connection.execute(f"EXPLAIN (FORMAT JSON) {one}").fetchall()
            found[one] = list(expected(explained[0]["Plan"]))
    return found


def expected(node: dict[str, object]) -> Iterator[tuple[int, int]]:
    yield node["Plan Rows"], node["Plan Width"]  # type: ignore[misc]
    for below in node.get("Plans", []):  # type: ignore[attr-defined]
        yield from expected(below)


def differing(reader: Database, owner: Database, asked: list[str]) -> set[str]:
    """Return the questions whose estimates depend on what the other tenant's rows hold."""
    fill(owner, FIRST)
    first = estimates(reader, asked)
    fill(owner, SECOND)
    second = estimates(reader, asked)
    return {one for one in asked if first[one] != second[one]}


def shape(database: Database) -> list[tuple[str, str]]:
    """Return the nodes and indexes of our statement that finds tickets, whose columns each revision has."""
    return re.findall(r"'(Node Type|Index Name)': '([^']+)'", asyncio.run(plan(database, ticket_history.STANDING)))


def test_estimates_say_nothing_of_other_tenants(place: Installation, postgres_url: str) -> None:
    """They did on the database of the version before, where ANALYZE had collected; afterwards it collects nothing."""
    owner, reader = place.owner, place.by("reader_1")
    asked = questions(reader)
    assert len(asked) > 200
    words = (
        "resolution >= 'Rolled'::text",
        "@@ to_tsquery('english', 'lawsuit')",
        "tags @> '{vip,board}'",
        "DISTINCT priority",
    )
    leaks = [one for one in asked if any(one.endswith(word) or word in one for word in words)]
    assert differing(reader, owner, leaks) == set(leaks)
    plans = shape(owner)
    assert ("Index Name", "ticket_history_tenant_id_ticket_id_key") in plans
    schema.upgrade(owner.url)
    assert collected(postgres_url, place) == 0
    asked = questions(reader)  # of later columns too
    assert differing(reader, owner, asked) == set()
    assert shape(owner) == plans
    with psycopg.connect(owner.url, autocommit=True) as connection:
        connection.execute("ANALYZE")
        connection.execute("VACUUM ANALYZE ticket_history")
    assert collected(postgres_url, place) == 0
    assert reader.query("SELECT DISTINCT tenant_id FROM ticket_history") == [{"tenant_id": "acme"}]
    assert place.make().warnings == []


def collected(postgres_url: str, place: Installation) -> int:
    """Return how many statistics there are of ticket_history and its indexes; only a superuser sees all of them."""
    admin = psycopg.conninfo.make_conninfo(postgres_url, dbname=place.name)
    with psycopg.connect(admin) as connection:
        [[count]] = connection.execute(
            "SELECT count(*) FROM pg_statistic WHERE starelid = CAST('ticket_history' AS regclass) OR starelid IN "
            "(SELECT indexrelid FROM pg_index WHERE indrelid = CAST('ticket_history' AS regclass))"
        ).fetchall()
    return int(count)


def test_roles_make_warns_of_statistics_and_of_policies_that_name_a_tenant(place: Installation) -> None:
    """An administrator may add them later; each warning says how to end it."""
    owner, name = place.owner, place.name
    schema.upgrade(owner.url)
    assert place.make().warnings == []
    owner.query("CREATE INDEX lowered ON ticket_history (lower(resolution))")
    owner.query("CREATE STATISTICS pair (dependencies) ON resolution, priority FROM ticket_history")
    owner.query("ALTER TABLE ticket_history ALTER priority SET STATISTICS 100")
    owner.query(f"CREATE POLICY two ON ticket_history TO {name}_reader USING (tenant_id IN ('acme', 'globex'))")
    owner.query(f"CREATE ROLE {name}_own LOGIN")
    owner.query(f"GRANT INSERT ON procrastinate_jobs TO {name}_own")
    warnings = place.make().warnings
    for words in (
        f"role {name}_own may add or change jobs by its rights, but no policy lets it: make it a member of {name}_worker",
        "statistics of lowered.lower: `ALTER INDEX lowered ALTER COLUMN 1 SET STATISTICS 0`, as a superuser `DELETE FROM",
        "statistics of ticket_history.priority: `ALTER TABLE ticket_history ALTER COLUMN priority SET STATISTICS 0`",
        "from statistics public.pair: `DROP STATISTICS public.pair`",
        "every role can read the tenants that policy two names: `DROP POLICY two ON ticket_history`",
    ):
        assert any(words in one for one in warnings), (words, warnings)
    assert len(warnings) == 5
