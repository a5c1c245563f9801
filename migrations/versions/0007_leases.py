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
            taken_at timestamptz NOT NULL DEFAULT now(),
            expires_at timestamptz NOT NULL,
            sessions integer[] NOT NULL DEFAULT '{}'
        )
    """)


def downgrade() -> None:
    op.execute("DROP TABLE leases")
