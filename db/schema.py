"""Which revision is the schema at, and does this version work with it? Alembic owns all of it, Procrastinate's too.

A schema that is ahead is fine: a migration only adds, so that the version before goes on working (docs/upgrading.md).
"""

from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from db import failures

if TYPE_CHECKING:
    import psycopg
    from alembic.config import Config

MIGRATIONS = Path(__file__).resolve().parent.parent / "migrations"
# Every revision that this version knows, the oldest first: each is the number that its file's name begins with. A
# process reads them when it starts, because an upgrade may replace the files beneath it.
REVISIONS = sorted(path.name.partition("_")[0] for path in (MIGRATIONS / "versions").glob("[0-9]*.py"))

PLACES = "SELECT to_regclass('alembic_version') IS NOT NULL, to_regclass('inbox') IS NOT NULL"
ROWS = "SELECT CAST(version_num AS text) FROM alembic_version ORDER BY 1"


def head() -> str:
    """Return the revision that this version needs."""
    return REVISIONS[-1]


async def current(connection: AsyncConnection) -> str | None:
    """Return the revision of the database, for `trouble` and `newer`; None if it was never migrated."""
    return _ours(*await connection.run_sync(_read))


async def trouble_in(session: "psycopg.AsyncConnection[Any]") -> str | None:
    """Return the `trouble` of the database that a session of psycopg's is in. Raises psycopg.Error.

    A role that may not read the revision (the worker's, until `roles make` of this version) has none.
    """
    import psycopg  # noqa: PLC0415

    [versioned, has_inbox] = await (await session.execute(PLACES)).fetchone() or [False, False]
    try:
        rows = await (await session.execute(ROWS)).fetchall() if versioned else []
    except psycopg.errors.InsufficientPrivilege:
        return None
    return trouble(_ours([str(row) for (row,) in rows], has_inbox=has_inbox))


def trouble(found: str | None) -> str | None:
    """Return in one line why this version cannot work with a schema at revision `found`, and what to do; else None."""
    if found and "," in found:
        return f"alembic_version has several rows ({found}), and a schema is at one revision: delete the others"
    if not found or found in REVISIONS[:-1]:
        place = f"the schema is at {found or 'nothing'}"
        return f"{place}, behind this version's {head()}: run `ticket-inbox migrate`"
    return None


def newer(found: str | None) -> str | None:
    """Return in words that revision `found` is newer than this version, which works with it; else None."""
    if not found or found in REVISIONS or trouble(found):
        return None
    return f"the schema is at {found}, newer than this version's {head()}"


def upgrade(url: str, *, replaces_procrastinate: bool = False) -> str:
    """Migrate the database at `url` to head, as `alembic upgrade head` does, and return the revision that it is at.

    Then it makes the indexes that a migration left for afterwards. A newer schema stays as it is. With
    `replaces_procrastinate`, a schema of Procrastinate that nobody uses goes first.
    Prints on standard error for whom it waits. Raises MigrationError, database errors.
    """
    from db import late_indexes, migration, procrastinate  # noqa: PLC0415  (they bring psycopg, of no use to a server)

    def act(connection: sa.Connection) -> str:
        found = found_in(connection)
        if found and newer(found):
            return found
        if not found:
            procrastinate.make_way(connection, alembic_config(connection), drops=replaces_procrastinate)
        run_alembic("upgrade", alembic_config(connection), "head")
        return head()

    found = migration.run(url, act)
    if found == head():
        late_indexes.make_missing(url)
    return found


def run_alembic(name: str, config: "Config", *arguments: str, **options: bool) -> None:
    """Run a command of Alembic's. Raises MigrationError, database errors."""
    from alembic import command  # noqa: PLC0415  (takes a fifth of the time in which a server starts)
    from alembic.util import CommandError  # noqa: PLC0415

    try:
        getattr(command, name)(config, *arguments, **options)
    except CommandError as error:
        raise failures.MigrationError(str(error)) from error


def found_in(connection: sa.Connection) -> str | None:
    """Return the revision of the database; None if it was never migrated. Raises MigrationError if it is not ours."""
    rows, has_inbox = _read(connection)
    found = _ours(rows, has_inbox=has_inbox)
    _refuse_what_is_not_ours(rows, found, has_inbox=has_inbox)
    return found


def _read(connection: sa.Connection) -> tuple[list[str], bool]:
    """Return the rows of alembic_version, and whether our tables are there."""
    versioned, has_inbox = connection.exec_driver_sql(PLACES).one()
    rows = connection.exec_driver_sql(ROWS).scalars().all() if versioned else []
    return list(rows), has_inbox


def _ours(rows: list[str], has_inbox: bool) -> str | None:  # noqa: FBT001  (as `_read` returns them)
    """Return the revision that the rows of alembic_version name; one of another program is none."""
    return ", ".join(row for row in rows if has_inbox or row in REVISIONS) or None


def _refuse_what_is_not_ours(rows: list[str], found: str | None, *, has_inbox: bool) -> None:
    """Refuse an alembic_version that another program wrote, or that does not say where our tables are.

    Raises MigrationError.
    """
    if rows and not found:
        another = f"alembic_version is another program's (it says {', '.join(rows)})"
        raise failures.MigrationError(f"{another}: give ticket-inbox a database of its own")
    if has_inbox and not found:
        lost = "the tables are there, but alembic_version does not say at which revision"
        raise failures.MigrationError(f"{lost}: restore its row, or write it by `ticket-inbox migrate --stamp`")
    if found and "," in found:
        raise failures.MigrationError(str(trouble(found)))


def alembic_config(connection: sa.Connection | None = None, output: TextIO | None = None) -> "Config":
    """Return Alembic's configuration, for work in the transaction of `connection`, or for a script in `output`.

    It needs no file beside the migrations.
    """
    from alembic.config import Config  # noqa: PLC0415

    config = Config(output_buffer=output)
    config.attributes["connection"] = connection
    config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
    return config
