"""What a reader's own condition finds in other tenants' rows is seen by nothing that Postgres does afterwards."""

import re
from collections.abc import Iterator

import psycopg
import pytest
from psycopg import sql

from db import schema
from tests.support.installation import Installation, installation
from tests.support.revisions import upgrade

BEFORE = "0007"  # the revision before migration 0008
# Each is true for the other tenant's ticket, and the second one for no ticket. Postgres holds all for leakproof, and
# those without an operator cost nothing.
CONDITIONS = [
    ("resolution >= 'Rolled'", "resolution >= 'Rollf'"),
    ("resolution = ANY ('{Rolled back}')", "resolution = ANY ('{Rolled bac}')"),
    ("tenant_id = ANY ('{globex}')", "tenant_id = ANY ('{initech}')"),
    ("resolved_date > ANY ('{2031-01-01}')", "resolved_date > ANY ('{2033-01-01}')"),
    ("tags[2] IS NOT NULL", "tags[3] IS NOT NULL"),
    ("inbox_id IS NOT NULL", "tags[3] IS NOT NULL"),
]
# A sub-select that Postgres runs once, and only if a row needs it.
BAIT = "CASE WHEN {} THEN (SELECT set_config('mine.seen', 'yes', false) IS NULL) END"
SETTINGS = ["enable_seqscan = off", "enable_indexscan = off", "cpu_operator_cost = 0", "cpu_operator_cost = 1000"]
EXPLAIN = "EXPLAIN (ANALYZE, TIMING OFF, SUMMARY OFF, COSTS OFF, BUFFERS OFF)"
RULE_BEFORE = "ALTER POLICY {role} ON ticket_history USING (tenant_id = (SELECT {function}()))"
FUNCTION = "SELECT proname FROM pg_proc WHERE proname ~ '^reader_tenant_' ORDER BY oid LIMIT 1"


@pytest.fixture
def place(postgres_url: str) -> Iterator[Installation]:
    """One reader of the version before and one of this, both of acme; the other tenant has one ticket."""
    with installation(postgres_url) as made:
        upgrade(made.owner.url, BEFORE)
        made.add_old_reader("reader_1", "acme")
        schema.upgrade(made.owner.url)
        made.make()
        made.add_tenant("acme")
        made.add_login("reader_2", "reader")
        made.let_read("acme", "reader_2")
        made.add_ticket("acme", resolution="Mended")
        made.add_ticket("globex", resolution="Rolled back")
        made.owner.query(
            "UPDATE ticket_history SET tags = '{board,vip}', inbox_id = 1, resolved_date = '2032-01-01' "
            "WHERE tenant_id = 'globex'"
        )
        made.owner.query("ANALYZE ticket_history")
        yield made


def differing(reader: str) -> set[tuple[str, str]]:
    """Return the conditions, and the settings, with which a reader can tell whether a condition is true for a row."""
    found = set()
    with psycopg.connect(reader) as connection:
        for setting in SETTINGS:
            connection.execute(f"SET {setting}")
            for held, other in CONDITIONS:
                for shape in ("{}", BAIT):
                    if done(connection, shape.format(held)) != done(connection, shape.format(other)):
                        found.add((held, setting))
            connection.rollback()
    return found


def done(connection: psycopg.Connection, condition: str) -> list[str]:
    """Return what Postgres says that it has done, without the conditions."""
    asked = f"SELECT FROM ticket_history WHERE id = 2 AND {condition}"
    lines = connection.execute(sql.SQL(f"{EXPLAIN} {asked}"))
    return [line for (line,) in lines if not re.match(r" *(Filter|.*Cond): ", line)]


def test_no_condition_is_checked_before_the_policy(place: Installation) -> None:
    """With the comparison alone, each of them was, and whether the policy's sub-select had run told what it found."""
    readers = [place.by(role).url for role in ("reader_1", "reader_2")]
    assert [differing(reader) for reader in readers] == [set(), set()]
    role, function = f"{place.name}_reader_1", place.owner.value(FUNCTION)
    place.owner.query(RULE_BEFORE.format(role=role, function=function))
    assert {held for held, _ in differing(readers[0])} == {held for held, _ in CONDITIONS}


def test_a_role_in_two_readers_is_warned_of(place: Installation) -> None:
    assert place.make().warnings == []
    both = f"{place.name}_both"
    place.add_login("both", "reader")
    place.owner.query(f"GRANT {place.name}_reader_1, {place.name}_reader_2 TO {both}")
    [warning] = place.make().warnings
    assert warning.startswith(f"role {both}, which reads as {place.name}_reader_1, {place.name}_reader_2, can learn ")
    place.owner.query(f"REVOKE {place.name}_reader_2 FROM {both}")
    assert place.make().warnings == []
