"""display_id in inbox and ticket_history: the number that people know a ticket by, and indexes to find it by that.

On a table that is not small, `db/late_indexes.py` makes the index afterwards, beside webhooks and promotion.
"""

import sqlalchemy as sa
from alembic import op

revision = "0014"
down_revision = "0013"
branch_labels = None
depends_on = None

# So many bytes are read in some hundredths of a second, in which each webhook waits.
IF_SMALL = """
DO $$
BEGIN
    IF pg_relation_size('{table}') < 16 * 1024 * 1024 THEN
        CREATE INDEX {table}_display_id_idx ON {table} {columns} WHERE display_id IS NOT NULL;
    END IF;
END;
$$
"""
INDEXES = {"inbox": "(display_id, tenant_id)", "ticket_history": "(tenant_id, display_id)"}


def upgrade() -> None:
    # In the order in which a promotion locks them.
    for table in INDEXES:
        op.add_column(table, sa.Column("display_id", sa.Text))
        # ANALYZE must not collect what any login could ask the planner for: docs/decisions/0040.
        op.execute(f"ALTER TABLE {table} ALTER COLUMN display_id SET STATISTICS 0")
    for table, columns in INDEXES.items():
        op.execute(IF_SMALL.format(table=table, columns=columns))


def downgrade() -> None:
    for table in INDEXES:
        op.execute(f"DROP INDEX IF EXISTS {table}_display_id_idx")
        op.drop_column(table, "display_id")
