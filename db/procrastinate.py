"""Is there a schema of Procrastinate's that we did not make, and may it go?

Ours is part of the first migration. `procrastinate schema --apply` makes the same tables without it, and so does
another program that uses Procrastinate: which of the two it was, only a person knows (docs/decisions/0044).
"""

from typing import TYPE_CHECKING

import sqlalchemy as sa

from db.failures import MigrationError

if TYPE_CHECKING:
    from alembic.config import Config

IS_THERE = sa.text(
    "SELECT to_regclass('procrastinate_jobs') IS NOT NULL OR to_regtype('procrastinate_job_status') IS NOT NULL"
)
HAS_JOBS = sa.text("SELECT to_regclass('procrastinate_jobs') IS NOT NULL")
OPEN_JOBS = sa.text("SELECT count(*) FROM procrastinate_jobs WHERE status IN ('todo', 'doing')")
OFFER = (
    "it has the schema of Procrastinate without ours, as `procrastinate schema --apply` makes it; ours brings its own. "
    "If no other program uses it, run `ticket-inbox migrate --replace-procrastinate`; else give ticket-inbox a "
    "database of its own"
)


def make_way(connection: sa.Connection, config: "Config", *, drops: bool) -> None:
    """Return if there is no schema of Procrastinate's; or drop it, if `drops` is True and no job waits in it.

    Raises MigrationError, database errors.
    """
    if not connection.scalar(IS_THERE):
        return
    if not drops:
        raise MigrationError(OFFER)
    jobs = connection.scalar(OPEN_JOBS) if connection.scalar(HAS_JOBS) else 0
    if jobs:
        raise MigrationError(
            f"another program uses Procrastinate here: {jobs} of its jobs wait or run. Give ticket-inbox a database of "
            "its own"
        )
    connection.exec_driver_sql(_dropping(config), execution_options={"no_parameters": True})


def _dropping(config: "Config") -> str:
    """Return the script by which the first migration's downgrade drops all of Procrastinate's."""
    from alembic.script import ScriptDirectory  # noqa: PLC0415

    first = ScriptDirectory.from_config(config).get_revision("0001")
    assert first is not None  # noqa: S101
    return str(first.module.DROP)
