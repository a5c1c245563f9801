"""ticket_history: a role that does not own it sees and writes only rows that its policies allow; none exists so far."""

from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

# While there are policies, row level security stays on: readers of one tenant must not suddenly see all tenants, and an
# older version works with it too.
DISABLE = """
DO $$
BEGIN
    IF NOT EXISTS (SELECT FROM pg_policy WHERE polrelid = 'ticket_history'::regclass) THEN
        ALTER TABLE ticket_history DISABLE ROW LEVEL SECURITY;
    END IF;
END;
$$
"""


def upgrade() -> None:
    op.execute("ALTER TABLE ticket_history ENABLE ROW LEVEL SECURITY")


def downgrade() -> None:
    op.execute(DISABLE)
