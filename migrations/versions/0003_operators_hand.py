"""inbox: the job that promoted a row, and indexes to find a row by its status, its ticket id or its correlation id."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("inbox", sa.Column("job_id", sa.BigInteger))
    op.create_index("inbox_open_idx", "inbox", ["status", "id"], postgresql_where=sa.text("status <> 'promoted'"))
    op.create_index("inbox_ticket_id_idx", "inbox", ["ticket_id"])
    op.create_index("inbox_correlation_id_idx", "inbox", ["correlation_id"])


def downgrade() -> None:
    op.drop_index("inbox_correlation_id_idx", "inbox")
    op.drop_index("inbox_ticket_id_idx", "inbox")
    op.drop_index("inbox_open_idx", "inbox")
    op.drop_column("inbox", "job_id")
