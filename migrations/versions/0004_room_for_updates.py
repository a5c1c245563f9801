"""ticket_history: room on its pages for updates that touch no index, and a shorter pending list of its index."""

from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("ALTER TABLE ticket_history SET (fillfactor = 85)")
    op.execute("ALTER INDEX ticket_history_description_idx SET (gin_pending_list_limit = 1024)")  # kB


def downgrade() -> None:
    op.execute("ALTER INDEX ticket_history_description_idx RESET (gin_pending_list_limit)")
    op.execute("ALTER TABLE ticket_history RESET (fillfactor)")
