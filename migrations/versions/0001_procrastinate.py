"""Procrastinate 3.10.0: its whole schema, frozen beside this file as its release ships it."""

from pathlib import Path

from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

SCHEMA = Path(__file__).resolve().parent.parent / "procrastinate_3_10_0.sql"

DROP = r"""
DO $$
DECLARE
    found record;
BEGIN
    FOR found IN SELECT tablename FROM pg_tables
                 WHERE schemaname = current_schema() AND tablename LIKE 'procrastinate\_%' LOOP
        EXECUTE format('DROP TABLE %I CASCADE', found.tablename);
    END LOOP;
    FOR found IN SELECT oid::regprocedure AS signature FROM pg_proc
                 WHERE pronamespace = current_schema()::regnamespace AND proname LIKE 'procrastinate\_%' LOOP
        EXECUTE format('DROP FUNCTION %s CASCADE', found.signature);
    END LOOP;
    FOR found IN SELECT typname FROM pg_type
                 WHERE typnamespace = current_schema()::regnamespace AND typname LIKE 'procrastinate\_%'
                   AND typcategory <> 'A' LOOP
        EXECUTE format('DROP TYPE %I CASCADE', found.typname);
    END LOOP;
END;
$$
"""


def upgrade() -> None:
    run_script(SCHEMA.read_text())


def downgrade() -> None:
    run_script(DROP)


def run_script(sql: str) -> None:
    """Run `sql` as it stands: it holds colons and per cent signs that are no parameters, and many statements."""
    if op.get_context().as_sql:
        op.get_context().impl.static_output(sql)
    else:
        op.get_bind().exec_driver_sql(sql, execution_options={"no_parameters": True})
