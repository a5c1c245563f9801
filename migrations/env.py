"""How does Alembic reach the database, and which tables are its own?"""

import importlib
import pkgutil

import sqlalchemy as sa
from alembic import context
from sqlalchemy.pool import NullPool

import db
from app import settings
from db import metadata, schema, sessions

NAME = "ticket-inbox migrate"

for module in pkgutil.iter_modules(db.__path__):
    importlib.import_module(f"db.{module.name}")  # a table is known once its module is imported


def main() -> None:
    """Run the migrations that Alembic asks for, on the database or as a script."""
    url = context.config.attributes.get("url") or settings.load_or_exit().database_url
    if context.is_offline_mode():
        context.configure(dialect_name="postgresql", literal_binds=True, target_metadata=metadata)
        with context.begin_transaction():
            context.run_migrations()
        return
    # NullPool: a template database with an open connection cannot be cloned.
    # Without a limit for a statement: a long migration may take as long as it takes.
    engine = sa.create_engine(
        "postgresql+psycopg://", creator=lambda: sessions.open_sync(url, NAME, 0), poolclass=NullPool
    )
    with engine.begin() as connection:
        connection.execute(sa.select(sa.func.pg_advisory_xact_lock(schema.LOCK)))
        migrate(connection)


def migrate(connection: sa.Connection) -> None:
    """Run the migrations in the connection's transaction."""
    context.configure(
        connection=connection, target_metadata=metadata, include_name=is_ours, compare_server_default=True
    )
    context.run_migrations()
    if not context.get_context().get_current_heads():
        # `downgrade base` leaves nothing of ours behind, so Alembic's own empty table goes too.
        connection.execute(sa.text("DROP TABLE IF EXISTS alembic_version"))


def is_ours(name: str | None, kind: str, _parents: object) -> bool:
    """Keep autogenerate and `alembic check` away from Procrastinate's tables."""
    return kind != "table" or name in metadata.tables


main()
