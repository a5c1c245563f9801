"""No statistics of what tenants are named, send and are due: the planner prints them to roles without any right.

The SQL is in the files beside this one.
"""

from pathlib import Path

from alembic import op

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None

HERE = Path(__file__).resolve().parent


def upgrade() -> None:
    run_script((HERE / "0012_no_statistics.sql").read_text())
    run_script((HERE / "0012_statistics.sql").read_text())


def downgrade() -> None:
    run_script((HERE / "0012_no_statistics_down.sql").read_text())


def run_script(sql: str) -> None:
    """Run `sql` as it stands: it holds colons and per cent signs that are no parameters, and many statements."""
    if op.get_context().as_sql:
        op.get_context().impl.static_output(sql)
    else:
        op.get_bind().exec_driver_sql(sql, execution_options={"no_parameters": True})
