"""Bring a database to any revision in this process: a dozen processes of Alembic would take a minute."""

from collections.abc import Callable

import sqlalchemy as sa
from alembic import command
from alembic.config import Config

from db import migration, schema


def upgrade(url: str, revision: str) -> None:
    """Upgrade the database at `url` to a revision."""
    _run(url, command.upgrade, revision)


def downgrade(url: str, revision: str) -> None:
    """Downgrade the database at `url` to a revision."""
    _run(url, command.downgrade, revision)


def _run(url: str, act: Callable[[Config, str], None], revision: str) -> None:
    config = Config()
    config.set_main_option("script_location", str(schema.MIGRATIONS))

    def on(connection: sa.Connection) -> None:
        config.attributes["connection"] = connection
        act(config, revision)

    migration.run(url, on)
