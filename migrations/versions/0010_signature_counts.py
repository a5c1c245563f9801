"""signature_counts: per known tenant and hour, how many signatures failed and when one last verified."""

from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None


def upgrade() -> None:
    # One row without a tenant an hour counts every name that is unknown. Only counts and times change, which no index
    # names, so that with room on its page a row is updated in place. The server's role may write any row, so the table
    # itself refuses what no server counts: then a sum of a tenant's hours cannot overflow, and each time has an age.
    op.execute("""
        CREATE TABLE signature_counts (
            tenant_id text CONSTRAINT signature_counts_tenant_id_fkey REFERENCES tenant_configs ON DELETE CASCADE,
            hour timestamptz NOT NULL,
            absent bigint NOT NULL DEFAULT 0,
            malformed bigint NOT NULL DEFAULT 0,
            untimely bigint NOT NULL DEFAULT 0,
            wrong bigint NOT NULL DEFAULT 0,
            last_failed_at timestamptz,
            last_verified_at timestamptz,
            last_previous_at timestamptz,
            CONSTRAINT signature_counts_tenant_id_hour_key UNIQUE NULLS NOT DISTINCT (tenant_id, hour),
            CONSTRAINT signature_counts_possible_check CHECK (
                least(absent, malformed, untimely, wrong) >= 0
                AND greatest(absent, malformed, untimely, wrong) <= 1000000000000000
                AND isfinite(hour) AND hour = date_trunc('hour', hour, 'UTC')
                AND isfinite(least(last_failed_at, last_verified_at, last_previous_at))
                AND greatest(last_failed_at, last_verified_at, last_previous_at) < hour + interval '1 hour'
            )
        ) WITH (fillfactor = 50)
    """)


def downgrade() -> None:
    op.execute("DROP TABLE signature_counts")
