"""Between two neighbouring revisions a migration only adds, so that the version before works on the newer schema."""

import re
from pathlib import Path

import pytest

from db import schema
from tests.support import catalog
from tests.support.revisions import upgrade
from tests.support.system import Database

# What released migrations changed otherwise, and why the version before went on working. Nothing may be added for a
# migration that is not released: write it so that it only adds (docs/upgrading.md).
RELEASED = {
    "0005": {
        "new row-level security ticket_history": "it does not apply to the owner, and before `roles make` of 0005 every role was the owner"
    },
}

NOTE = "CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL;END'"


@pytest.mark.parametrize("revision", schema.REVISIONS[1:])
def test_a_migration_only_adds(empty_database: Database, revision: str) -> None:
    before = schema.REVISIONS[schema.REVISIONS.index(revision) - 1]
    upgrade(empty_database.url, before)
    objects = catalog.read(empty_database)
    assert len(objects) > 50
    upgrade(empty_database.url, revision)
    found = set(catalog.no_additions(objects, catalog.read(empty_database)))
    assert found == RELEASED.get(revision, {}).keys()


@pytest.mark.parametrize(
    ("statement", "named"),
    [
        ("ALTER TABLE sdp_cursors RENAME COLUMN since TO since_when", "gone column sdp_cursors.since"),
        ("DROP TABLE sdp_cursors", "gone relation sdp_cursors"),
        ("ALTER TABLE inbox ALTER error TYPE varchar(9)", "changed column inbox.error"),
        ("ALTER TABLE inbox ALTER status DROP DEFAULT", "gone default inbox.status"),
        ("ALTER TABLE inbox ADD COLUMN next text NOT NULL", "new NOT NULL inbox.next"),
        ("ALTER TABLE inbox ALTER traceparent SET NOT NULL", "new NOT NULL inbox.traceparent"),
        ("ALTER TABLE inbox ADD CONSTRAINT long CHECK (length(tenant_id) > 3)", "new constraint inbox long"),
        ("CREATE UNIQUE INDEX one_each ON inbox (correlation_id)", "new unique index one_each"),
        ("ALTER TABLE inbox ENABLE ROW LEVEL SECURITY", "new row-level security inbox"),
        ("ALTER TABLE inbox ADD FOREIGN KEY (tenant_id) REFERENCES tenant_configs", "new constraint inbox inbox_tenant_id_fkey"),
        (
            "ALTER TABLE inbox DROP CONSTRAINT inbox_inbox_action_check_check, ADD CONSTRAINT inbox_inbox_action_check_check CHECK (action IN ('inserted', 'updated'))",
            "changed constraint inbox inbox_inbox_action_check_check",
        ),
        ("ALTER TYPE procrastinate_job_status RENAME VALUE 'todo' TO 'due'", "gone enum label procrastinate_job_status todo"),
        (
            "ALTER FUNCTION procrastinate_cancel_job_v1(bigint, boolean, boolean) RENAME TO cancel",
            "gone function procrastinate_cancel_job_v1(bigint,boolean,boolean)",
        ),
        (
            "CREATE TRIGGER next BEFORE INSERT ON inbox FOR EACH ROW EXECUTE FUNCTION suppress_redundant_updates_trigger()",
            "new trigger inbox next",
        ),
        (f"{NOTE}; CREATE TRIGGER next AFTER INSERT ON inbox EXECUTE FUNCTION note()", "new trigger inbox next"),
    ],
)  # fmt: skip
def test_what_is_no_addition_is_named(database: Database, statement: str, named: str) -> None:
    before = catalog.read(database)
    for one in statement.split("; "):
        database.query(one)
    assert named in catalog.no_additions(before, catalog.read(database))


@pytest.mark.parametrize(
    "statement",
    [
        "ALTER TABLE inbox ADD COLUMN next text NOT NULL DEFAULT 'next'",
        "ALTER TABLE inbox ADD COLUMN next text; CREATE TABLE more (id bigint PRIMARY KEY, kind text NOT NULL CHECK (kind <> ''))",
        "CREATE INDEX next ON inbox (tenant_id)",
        "ALTER TABLE inbox DROP CONSTRAINT inbox_inbox_action_check_check, ADD CONSTRAINT inbox_inbox_action_check_check CHECK (action IN ('inserted', 'updated', 'stale', 'withdrawn'))",
        "ALTER TABLE ticket_history ALTER priority DROP NOT NULL",
        "CREATE FUNCTION next() RETURNS int LANGUAGE sql AS 'SELECT 1'",
        f"{NOTE} SECURITY DEFINER; CREATE TRIGGER next AFTER INSERT ON inbox EXECUTE FUNCTION note()",
    ],
)  # fmt: skip
def test_what_is_added_or_allowed_besides_is_fine(database: Database, statement: str) -> None:
    before = catalog.read(database)
    for one in statement.split("; "):
        database.query(one)
    assert catalog.no_additions(before, catalog.read(database)) == []


@pytest.mark.parametrize("path", sorted((schema.MIGRATIONS / "versions").glob("[0-9]*.py")), ids=lambda path: path.stem)
def test_a_migration_stays_in_its_transaction(path: Path) -> None:
    """A try that does not get its locks is rolled back whole."""
    assert not re.findall(r"autocommit_block|CONCURRENTLY|\bCOMMIT\b", path.read_text(), re.IGNORECASE)
