"""sdp_configs, sdp_cursors: where each tenant's ServiceDesk Plus is, and up to when it was read."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

TIMESTAMP = postgresql.TIMESTAMP(timezone=True)


def upgrade() -> None:
    op.create_table(
        "sdp_configs",
        sa.Column("tenant_id", sa.Text, nullable=False),
        sa.Column("edition", sa.Text, nullable=False),
        sa.Column("base_url", sa.Text, nullable=False),
        sa.Column("credentials", sa.Text, nullable=False),
        sa.Column("created_at", TIMESTAMP, nullable=False, server_default=sa.func.now()),
        sa.Column("updated_at", TIMESTAMP, nullable=False, server_default=sa.func.now()),
        sa.PrimaryKeyConstraint("tenant_id", name="sdp_configs_pkey"),
        sa.ForeignKeyConstraint(
            ["tenant_id"], ["tenant_configs.tenant_id"], name="sdp_configs_tenant_id_fkey", ondelete="CASCADE"
        ),
        sa.CheckConstraint("edition IN ('cloud', 'on_premises')", name="sdp_configs_edition_check"),
    )
    op.create_table(
        "sdp_cursors",
        sa.Column("tenant_id", sa.Text, nullable=False),
        sa.Column("source", sa.Text, nullable=False),
        sa.Column("since", TIMESTAMP, nullable=False),
        sa.Column("position", TIMESTAMP, nullable=False),
        sa.Column("updated_at", TIMESTAMP, nullable=False, server_default=sa.func.now()),
        sa.Column("error", sa.Text),
        sa.Column("failing", postgresql.ARRAY(sa.Text), nullable=False, server_default="{}"),
        sa.PrimaryKeyConstraint("tenant_id", "source", name="sdp_cursors_pkey"),
        sa.ForeignKeyConstraint(
            ["tenant_id"], ["sdp_configs.tenant_id"], name="sdp_cursors_tenant_id_fkey", ondelete="CASCADE"
        ),
        sa.CheckConstraint("source IN ('api_fallback', 'bulk_import')", name="sdp_cursors_source_check"),
    )


def downgrade() -> None:
    op.drop_table("sdp_cursors")
    op.drop_table("sdp_configs")
