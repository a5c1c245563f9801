"""read_tokens: who may ask for a tenant's similar tickets. Of a token only its SHA-256 is kept."""

from alembic import op

revision = "0016"
down_revision = "0015"
branch_labels = None
depends_on = None
COLUMNS = ("id", "tenant_id", "name", "token_hash", "made_at", "last_used_at", "revoked_at")


def upgrade() -> None:
    # A revoked token keeps its row, which says when that was, and its name is free again. Its last use alone changes
    # often, and no index names that: with room on its page a row is updated in place.
    op.execute("""
        CREATE TABLE read_tokens (
            id bigint GENERATED ALWAYS AS IDENTITY CONSTRAINT read_tokens_pkey PRIMARY KEY,
            tenant_id text NOT NULL CONSTRAINT read_tokens_tenant_id_fkey REFERENCES tenant_configs ON DELETE CASCADE,
            name text NOT NULL,
            token_hash bytea NOT NULL CONSTRAINT read_tokens_token_hash_key UNIQUE,
            made_at timestamptz NOT NULL DEFAULT now(),
            last_used_at timestamptz,
            revoked_at timestamptz,
            CONSTRAINT read_tokens_name_check CHECK (name ~ '^[A-Za-z0-9._-]{1,100}$'),
            CONSTRAINT read_tokens_token_hash_check CHECK (length(token_hash) = 32)
        ) WITH (fillfactor = 50)
    """)
    op.execute("CREATE UNIQUE INDEX read_tokens_name_idx ON read_tokens (tenant_id, name) WHERE revoked_at IS NULL")
    for name in COLUMNS:  # the planner prints to every login what it has collected of a column
        op.execute(f"ALTER TABLE read_tokens ALTER COLUMN {name} SET STATISTICS 0")


def downgrade() -> None:
    op.execute("DROP TABLE read_tokens")
