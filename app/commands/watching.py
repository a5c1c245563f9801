"""How is a read of the database shown again and again, also while Postgres is away?"""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import TypeVar

from sqlalchemy.ext.asyncio import AsyncEngine

from app import hints
from app.commands import on_database, terminal
from db import engine as database
from db import failures
from db.statement import Session

EVERY = 2.0  # seconds
TIMEOUT = 10.0  # seconds for one read
Found = TypeVar("Found")


def watch(read: Callable[[Session], Awaitable[Found]], lines: Callable[[Found], list[str]], *, is_json: bool) -> None:
    """Show the `lines` of what `read` returns, every EVERY seconds, until Ctrl-C; then return.

    On a terminal each takes the place of the one before it. With `is_json` standard output gets JSON alone. Raises
    ClickException where the first read fails; a later one is shown, and tried again.
    """

    async def look_on(engine: AsyncEngine) -> None:
        _show(lines(await _read(engine, read)), is_json=is_json)
        while True:
            await asyncio.sleep(EVERY)
            try:
                found = await _read(engine, read)
            except failures.DatabaseError as error:
                _show_failure(failures.explain(error), is_json=is_json)
            else:
                _show(lines(found), is_json=is_json)

    try:
        on_database.run_long(look_on, TIMEOUT)
    except KeyboardInterrupt:
        return


async def _read(engine: AsyncEngine, read: Callable[[Session], Awaitable[Found]]) -> Found:
    async with database.connection(engine) as connection:
        return await read(database.driver(connection))


def _show_failure(words: str, *, is_json: bool) -> None:
    if is_json:
        terminal.echo(hints.as_typed(f"Warning: {words}"), err=True)
    else:
        _show([words], is_json=False)


def _show(lines: list[str], *, is_json: bool) -> None:
    if is_json:
        terminal.echo(*lines)
    else:
        now = f"{datetime.now(UTC):%Y-%m-%d %H:%M:%S} UTC, every {EVERY:.0f} s until Ctrl-C"
        terminal.redraw(now, "", *lines)
