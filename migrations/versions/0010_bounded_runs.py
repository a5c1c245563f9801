"""sdp_cursors: where a bounded run of reconciliation stopped, so that the next goes on there."""

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None


def upgrade() -> None:
    pass


def downgrade() -> None:
    pass
