"""How does Alembic reach the database, and which tables are its own?"""

import importlib
import pkgutil
from typing import Any

import psycopg
import sqlalchemy as sa
from alembic import command, context
from alembic.util import CommandError

import db
from app import hints, settings
from app.settings import uses
from db import exposure, failures, late_indexes, metadata, migration, session_rules
from db.migration_watch import say

for module in pkgutil.iter_modules(db.__path__):
    importlib.import_module(f"db.{module.name}")  # a table is known once its module is imported


def main() -> None:
    """Run the migrations that Alembic asks for: in the transaction of db/schema.py, in their own, or as a script."""
    if context.is_offline_mode():
        context.configure(dialect_name="postgresql", literal_binds=True, target_metadata=metadata)
        with context.begin_transaction():
            context.run_migrations()
    elif connection := context.config.attributes.get("connection"):
        migrate(connection)
    else:
        url = settings.load_or_exit(uses.DATABASE).database_url
        try:
            migration.run(url, migrate)
            if getattr(context.config.cmd_opts, "cmd", [None])[0] is command.upgrade:
                late_indexes.make_missing(url)
        except migration.MigrationError as error:
            raise CommandError(str(error)) from None
        except (
            psycopg.Error,
            OSError,
            session_rules.WrongSessionError,
        ) as error:  # of the session; what a migration's statement raises is SQLAlchemy's
            raise CommandError(failures.explain(error)) from None


def migrate(connection: sa.Connection) -> None:
    """Run the migrations in the connection's transaction."""
    context.configure(
        connection=connection, target_metadata=metadata, include_name=is_ours, compare_server_default=True
    )
    context.run_migrations()
    session: Any = connection.connection.driver_connection  # psycopg's
    for line in exposure.left(session):
        say(f"Warning: {hints.as_typed(line)}")
    if not context.get_context().get_current_heads():
        # `downgrade base` leaves nothing of ours behind, so Alembic's own empty table goes too.
        connection.execute(sa.text("DROP TABLE IF EXISTS alembic_version"))


def is_ours(name: str | None, kind: str, _parents: object) -> bool:
    """Keep autogenerate and `alembic check` away from Procrastinate's tables."""
    return kind != "table" or name in metadata.tables


main()
