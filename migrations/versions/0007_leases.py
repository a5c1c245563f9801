"""leases: who does what only one process may do at a time, and until when; a row in place of a lock of a session."""

from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("""
        CREATE TABLE leases (
            name text CONSTRAINT leases_pkey PRIMARY KEY,
            owner text NOT NULL,
            expires_at timestamptz NOT NULL
        )
    """)


def downgrade() -> None:
    op.execute("DROP TABLE leases")
