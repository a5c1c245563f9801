"""sdp_cursors: where a bounded run of reconciliation stopped, so that the next goes on there."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None


def upgrade() -> None:
    for name in ("begins_at", "pass_position"):
        op.add_column("sdp_cursors", sa.Column(name, postgresql.TIMESTAMP(timezone=True)))
    for name in ("reasons", "looked_at"):
        op.add_column("sdp_cursors", sa.Column(name, postgresql.JSONB, nullable=False, server_default="{}"))


def downgrade() -> None:
    for name in ("looked_at", "reasons", "pass_position", "begins_at"):
        op.drop_column("sdp_cursors", name)
