"""What does a command say when Postgres is away or says no? One line, and what to do."""

import contextlib
from collections.abc import Iterator

import click
from alembic.util import CommandError

from db import engine as database

UNDEFINED_TABLE = "42P01"
INSUFFICIENT_PRIVILEGE = "42501"


@contextlib.contextmanager
def told() -> Iterator[None]:
    """Turn what Postgres or Alembic raises in the block into a click error of one line."""
    try:
        yield
    except CommandError as error:
        raise click.ClickException(f"the schema cannot be migrated: {error}") from None
    except database.DatabaseError as error:
        raise click.ClickException(in_words(error)) from None


def in_words(error: BaseException) -> str:
    """Say in one line what is wrong with Postgres, and what to do."""
    if database.sqlstate(error) == UNDEFINED_TABLE:
        return "the database has no schema yet: run `ticket-inbox migrate`"
    if database.sqlstate(error) == INSUFFICIENT_PRIVILEGE:
        return f"Postgres says no: {database.reason(error)}. Let DATABASE_URL name the role that owns the tables"
    if database.sqlstate(error):
        return f"Postgres says no: {database.reason(error)}"
    return f"Postgres cannot be reached: {database.reason(error)}. Start it, or set DATABASE_URL to where it is"
