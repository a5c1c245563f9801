"""Run a command's few statements on a connection of its own, and say in one line what Postgres has against it."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

from sqlalchemy.ext.asyncio import AsyncConnection

from app import settings as environment
from app.commands.database_errors import told
from app.settings import Settings
from db import engine as database

Given = TypeVar("Given")


def run(act: Callable[[AsyncConnection, Settings], Awaitable[Given]], timeout: float = 10.0) -> Given:
    """Give what `act` gives; each of its statements commits by itself and may take `timeout` seconds.

    Ends the process with one line where a setting is wrong. Raises click's error where Postgres is away or says no.
    """
    settings = environment.load_or_exit(secrets_key=True)

    async def on_connection() -> Given:
        engine = database.create_engine(settings.database_url, "ticket-inbox command", 1, timeout)
        try:
            async with database.connection(engine) as connection:
                return await act(connection, settings)
        finally:
            await engine.dispose()

    with told():
        return asyncio.run(on_connection())
