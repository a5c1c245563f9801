"""Our tables: inbox, ticket_history, tenant_configs."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

TIMESTAMP = postgresql.TIMESTAMP(timezone=True)
SOURCES = "source IN ('webhook_resolved', 'bulk_import', 'api_fallback')"


def upgrade() -> None:
    op.create_table(
        "tenant_configs",
        sa.Column("tenant_id", sa.Text, nullable=False),
        sa.Column("secret", sa.Text, nullable=False),
        sa.Column("previous_secret", sa.Text),
        sa.Column("previous_secret_ends_at", TIMESTAMP),
        sa.Column("enabled", sa.Boolean, nullable=False, server_default=sa.true()),
        sa.Column("created_at", TIMESTAMP, nullable=False, server_default=sa.func.now()),
        sa.Column("updated_at", TIMESTAMP, nullable=False, server_default=sa.func.now()),
        sa.PrimaryKeyConstraint("tenant_id", name="tenant_configs_pkey"),
        sa.CheckConstraint("length(tenant_id) BETWEEN 1 AND 100", name="tenant_configs_tenant_id_check"),
        sa.CheckConstraint(
            "(previous_secret IS NULL) = (previous_secret_ends_at IS NULL)",
            name="tenant_configs_previous_secret_check",
        ),
    )
    op.create_table(
        "inbox",
        sa.Column("id", sa.BigInteger, sa.Identity(always=True), nullable=False),
        sa.Column("source", sa.Text, nullable=False, server_default="webhook_resolved"),
        sa.Column("tenant_id", sa.Text, nullable=False),
        sa.Column("ticket_id", sa.Text),
        sa.Column("correlation_id", sa.Text, nullable=False),
        sa.Column("traceparent", sa.Text),
        sa.Column("payload", postgresql.BYTEA, nullable=False),
        sa.Column("signature", sa.Text, nullable=False),
        sa.Column("received_at", TIMESTAMP, nullable=False, server_default=sa.func.now()),
        sa.Column("status", sa.Text, nullable=False, server_default="pending"),
        sa.Column("action", sa.Text),
        sa.Column("attempts", sa.Integer, nullable=False, server_default="0"),
        sa.Column("error", sa.Text),
        sa.Column("promoted_at", TIMESTAMP),
        sa.PrimaryKeyConstraint("id", name="inbox_pkey"),
        sa.CheckConstraint(SOURCES, name="inbox_source_check"),
        sa.CheckConstraint("status IN ('pending', 'promoted', 'failed', 'rejected')", name="inbox_status_check"),
        sa.CheckConstraint("action IN ('inserted', 'updated', 'stale')", name="inbox_action_check"),
    )
    op.create_table(
        "ticket_history",
        sa.Column("id", sa.BigInteger, sa.Identity(always=True), nullable=False),
        sa.Column("tenant_id", sa.Text, nullable=False),
        sa.Column("ticket_id", sa.Text, nullable=False),
        sa.Column("description", sa.Text, nullable=False),
        sa.Column("resolution", sa.Text, nullable=False),
        sa.Column("resolved_date", TIMESTAMP, nullable=False),
        sa.Column("priority", sa.Text, nullable=False),
        sa.Column("tags", postgresql.ARRAY(sa.Text), nullable=False, server_default="{}"),
        sa.Column("source", sa.Text, nullable=False, server_default="webhook_resolved"),
        sa.Column("inbox_id", sa.BigInteger),
        sa.Column("ingested_at", TIMESTAMP, nullable=False, server_default=sa.func.now()),
        sa.Column("created_at", TIMESTAMP, nullable=False, server_default=sa.func.now()),
        sa.Column("updated_at", TIMESTAMP, nullable=False, server_default=sa.func.now()),
        sa.PrimaryKeyConstraint("id", name="ticket_history_pkey"),
        sa.UniqueConstraint("tenant_id", "ticket_id", name="ticket_history_tenant_id_ticket_id_key"),
        sa.CheckConstraint(SOURCES, name="ticket_history_source_check"),
    )
    op.create_index(
        "ticket_history_description_idx",
        "ticket_history",
        [sa.text("to_tsvector('english', description)")],
        postgresql_using="gin",
    )


def downgrade() -> None:
    op.drop_table("ticket_history")
    op.drop_table("inbox")
    op.drop_table("tenant_configs")
