"""Readers' tenants in a table that only the owner reads, and no statistics of what their policies protect.

The SQL is in the files beside this one.
"""

from pathlib import Path

from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None

HERE = Path(__file__).resolve().parent


def upgrade() -> None:
    run_script((HERE / "0008_tenants_apart.sql").read_text())
    run_script((HERE / "0008_statistics.sql").read_text())


def downgrade() -> None:
    run_script((HERE / "0008_tenants_apart_down.sql").read_text())


def run_script(sql: str) -> None:
    """Run `sql` as it stands: it holds colons and per cent signs that are no parameters, and many statements."""
    if op.get_context().as_sql:
        op.get_context().impl.static_output(sql)
    else:
        op.get_bind().exec_driver_sql(sql, execution_options={"no_parameters": True})
