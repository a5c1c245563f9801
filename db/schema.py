"""Is the schema at head, and how does it get there? Alembic owns all of it, Procrastinate's included.

Alembic takes a fifth of the time in which a server starts, and only a migration needs it.
"""

from pathlib import Path
from typing import TYPE_CHECKING

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

if TYPE_CHECKING:
    from alembic.config import Config

MIGRATIONS = Path(__file__).resolve().parent.parent / "migrations"
LOCK = 7_430_113  # an advisory lock of our own: two migrations at once take turns


class MigrationError(Exception):
    """Alembic cannot migrate the database; the message is its own."""


def upgrade(url: str) -> None:
    """Migrate the database at `url` to head, as `alembic upgrade head` does. Raises MigrationError, database errors."""
    from alembic import command  # noqa: PLC0415
    from alembic.util import CommandError  # noqa: PLC0415

    config = _alembic_config()
    config.attributes["url"] = url
    try:
        command.upgrade(config, "head")
    except CommandError as error:
        raise MigrationError(str(error)) from error


def head() -> str:
    """Return the revision that this code needs: each is the number that its file's name begins with."""
    return max(path.name.partition("_")[0] for path in (MIGRATIONS / "versions").glob("[0-9]*.py"))


async def current(connection: AsyncConnection) -> str | None:
    """Return the revision of the database; None if it was never migrated."""
    if await connection.scalar(sa.text("SELECT to_regclass('alembic_version')")) is None:
        return None
    revision = await connection.scalar(sa.text("SELECT version_num FROM alembic_version"))
    return str(revision) if revision else None


def _alembic_config() -> "Config":
    """Return Alembic's configuration; it needs no file beside the migrations."""
    from alembic.config import Config  # noqa: PLC0415

    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
    return config
