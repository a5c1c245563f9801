"""How does a command reach the database, and what does it print when Postgres is away or refuses?"""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Collection, Iterator
from typing import TYPE_CHECKING, TypeVar

import click

from app import database_url, hints, stopping
from app import settings as environment
from app.commands import terminal
from app.settings import Settings, uses
from db import failures, session_rules, sessions
from db.statement import Session

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

CLOSE_WITHIN = 1.0  # seconds that a session takes to close; then it is cut
ANSWERS_WITHIN = 2.0  # seconds that a server's start waits for Postgres

Returned = TypeVar("Returned")


def run(
    act: "Callable[[AsyncConnection, Settings], Awaitable[Returned]]",
    timeout: float = 10.0,
    used: Collection[str] = uses.DATABASE,
    *,
    may_lack_key: bool = False,
) -> Returned:
    """Return what `act` returns; each of its statements commits by itself and may take `timeout` seconds.

    `act` gets the settings with the names in `used`, which must include those of uses.DATABASE.
    Ends the process with one line where a setting is wrong. Raises ClickException where Postgres is away or refuses.
    """
    from db import engine as database  # noqa: PLC0415  (brings SQLAlchemy, which `read` does without)

    settings = environment.load_or_exit(used, may_lack_key=may_lack_key)

    async def on_connection(engine: "AsyncEngine") -> Returned:
        async with database.connection(engine) as connection:
            return await act(connection, settings)

    return run_long(on_connection, timeout, settings)


def run_long(
    act: "Callable[[AsyncEngine], Awaitable[Returned]]", timeout: float = 10.0, settings: Settings | None = None
) -> Returned:
    """Return what `act` returns, which takes a new connection where Postgres was away meanwhile; else as `run`."""
    from db import engine as database  # noqa: PLC0415

    settings = settings or environment.load_or_exit(uses.DATABASE)

    async def on_engine() -> Returned:
        engine = database.create_engine(settings.database_url, "ticket-inbox command", 1, timeout)
        try:
            return await act(engine)
        finally:
            await engine.dispose()

    stopping.raise_on_ctrl_c()
    with errors_in_one_line():
        return asyncio.run(on_engine())


def read(act: Callable[[Session], Awaitable[Returned]], timeout: float = 10.0) -> Returned:
    """Return what `act` returns, which reads by a db.statement.Statement; each may take `timeout` seconds.

    For commands that must start fast: it opens the session without SQLAlchemy. Otherwise as `run`.
    """
    settings = environment.load_or_exit(uses.DATABASE)

    async def on_session() -> Returned:
        session = await sessions.Connector(settings.database_url, "ticket-inbox command", timeout).connect()
        try:
            return await act(session)
        finally:
            with contextlib.suppress(*failures.DatabaseError):
                await session.close(timeout=CLOSE_WITHIN)

    with errors_in_one_line():
        return asyncio.run(on_session())


def refuse_wrong_session(settings: Settings) -> None:
    """Refuse a database that no process can work on, such as one of another encoding; pass if Postgres is away.

    Raises ClickException.
    """

    async def open_one() -> None:
        await (
            await sessions.Connector(settings.database_url, "ticket-inbox command", ANSWERS_WITHIN).connect()
        ).close()

    try:
        asyncio.run(open_one())
    except session_rules.WrongSessionError as error:
        raise click.ClickException(str(error)) from None
    except failures.DatabaseError:
        return  # the server begins, answers 503, and looks at each session that it opens


@contextlib.contextmanager
def errors_in_one_line() -> Iterator[None]:
    """Convert what Postgres or Alembic raises in the block to a one-line ClickException.

    First it prints a line for each variable that is ignored.
    """
    for line in database_url.ignored():
        terminal.echo(hints.as_typed(f"Warning: {line}"), err=True)
    try:
        yield
    except BrokenPipeError:
        raise  # nobody reads what the command prints any more; click ends it
    except failures.MigrationError as error:
        raise click.ClickException(f"the schema cannot be migrated: {error}") from None
    except failures.DatabaseError as error:
        raise click.ClickException(failures.explain(error)) from None
