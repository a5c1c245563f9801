"""Is the schema at head, and how does it get there? Alembic owns all of it, Procrastinate's included."""

from pathlib import Path

import sqlalchemy as sa
from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory
from sqlalchemy.ext.asyncio import AsyncConnection

MIGRATIONS = Path(__file__).resolve().parent.parent / "migrations"
LOCK = 7_430_113  # an advisory lock of our own: two migrations at once take turns


def upgrade(url: str) -> None:
    """Migrate the database at `url` to head, as `alembic upgrade head` does."""
    config = _config()
    config.attributes["url"] = url
    command.upgrade(config, "head")


def head() -> str:
    """Return the revision that this code needs."""
    return str(ScriptDirectory.from_config(_config()).get_current_head())


async def current(connection: AsyncConnection) -> str | None:
    """Return the revision of the database; None if it was never migrated."""
    if await connection.scalar(sa.text("SELECT to_regclass('alembic_version')")) is None:
        return None
    revision = await connection.scalar(sa.text("SELECT version_num FROM alembic_version"))
    return str(revision) if revision else None


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
    return config
