"""A version after this one: the same code, and one more migration."""

import shutil
from pathlib import Path

from db import schema
from tests import ROOT

ROOMS = ("app", "db", "jobs", "migrations", "otel")
REVISION = f"{int(schema.head()) + 1:04}"
MIGRATION = f'''
"""A migration of the tests' own."""

from alembic import op

revision = "{REVISION}"
down_revision = "{schema.head()}"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute(UPGRADE)


def downgrade() -> None:
    op.execute(DOWNGRADE)
'''
UPGRADE = """
ALTER TABLE inbox ADD COLUMN next_text text NOT NULL DEFAULT 'next';
ALTER TABLE ticket_history ADD COLUMN next_number integer;
CREATE TABLE next_things (id bigint PRIMARY KEY, ticket bigint REFERENCES ticket_history (id) ON DELETE CASCADE);
CREATE INDEX next_inbox_idx ON inbox (tenant_id);
"""


def next_version(directory: Path, upgrade: str = UPGRADE, downgrade: str = "SELECT 1") -> Path:
    """Make the next version below `directory`, whose migration runs `upgrade`, and return its root.

    A program that runs there as `python -m app` is that version.
    """
    root = directory / "next"
    for room in ROOMS:
        shutil.copytree(ROOT / room, root / room)
    add_migration(root / "migrations", upgrade, downgrade)
    return root


def add_migration(migrations: Path, upgrade: str = UPGRADE, downgrade: str = "SELECT 1") -> None:
    """Add the next revision to a directory of migrations."""
    statements = f"\nUPGRADE = {upgrade!r}\nDOWNGRADE = {downgrade!r}\n"
    (migrations / "versions" / f"{REVISION}_next.py").write_text(MIGRATION + statements)
