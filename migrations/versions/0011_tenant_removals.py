"""tenant_removals: tenants that are being removed, since when, and since when they are disabled."""

from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("""
        CREATE TABLE tenant_removals (
            tenant_id text CONSTRAINT tenant_removals_pkey PRIMARY KEY,
            began_at timestamptz NOT NULL DEFAULT now(),
            disabled_at timestamptz NOT NULL DEFAULT now()
        )
    """)


def downgrade() -> None:
    op.execute("DROP TABLE tenant_removals")
