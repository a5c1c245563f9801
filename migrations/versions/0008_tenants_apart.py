"""Readers' tenants in a table that only the owner reads, and no statistics of protected text."""

from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("""
        CREATE TABLE tenant_readers (
            role_name text CONSTRAINT tenant_readers_pkey PRIMARY KEY,
            tenant_id text NOT NULL
        )
    """)


def downgrade() -> None:
    op.execute("DROP TABLE tenant_readers")
