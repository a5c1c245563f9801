"""sdp_access: pauses that ServiceDesk Plus asked for, and the Cloud's tokens; how far runs have read the archive."""

from alembic import op

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None
COLUMNS = (
    "tenant_id", "paused_until", "pause_reason", "token_key", "token", "token_made_at", "token_ends_at",
    "token_is_proven",
)  # fmt: skip


def upgrade() -> None:
    op.execute("""
        CREATE TABLE sdp_access (
            tenant_id text CONSTRAINT sdp_access_pkey PRIMARY KEY
                CONSTRAINT sdp_access_tenant_id_fkey REFERENCES sdp_configs ON DELETE CASCADE,
            paused_until timestamptz,
            pause_reason text,
            token_key text,
            token text,
            token_made_at timestamptz,
            token_ends_at timestamptz,
            token_is_proven boolean NOT NULL DEFAULT false
        )
    """)
    op.execute("ALTER TABLE sdp_cursors ADD COLUMN archive_position timestamptz")
    for name in COLUMNS:  # the planner prints to every login what it has collected of a column
        op.execute(f"ALTER TABLE sdp_access ALTER COLUMN {name} SET STATISTICS 0")
    op.execute("ALTER TABLE sdp_cursors ALTER COLUMN archive_position SET STATISTICS 0")


def downgrade() -> None:
    op.execute("ALTER TABLE sdp_cursors DROP COLUMN archive_position")
    op.execute("DROP TABLE sdp_access")
