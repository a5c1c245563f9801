"""ticket_history: who does not own it sees and writes only the rows that a policy of its role names; so far none."""

from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

# Where readers of one tenant rely on it, an older version does as well with it, and they must not see all of a sudden.
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
