"""When was each token last used? Noted in memory, and written every ten seconds where it changed."""

import asyncio
import contextlib
import logging
import time
from collections.abc import AsyncIterator

from sqlalchemy.ext.asyncio import AsyncEngine

from app import background
from db import engine as database
from db import failures, read_tokens
from otel import logs

WRITE_EVERY = 10.0  # seconds
_logger = logging.getLogger("ticket_inbox.search")


class TokenUses:
    """The uses of this process that are not written yet, by the token's id."""

    def __init__(self) -> None:
        self._used: dict[int, float] = {}  # by the monotonic clock
        self._is_logged = False

    def note(self, token: int) -> None:
        """Note that a token is used now; it is one that Postgres knows, so this does not grow without end."""
        self._used[token] = time.monotonic()

    @contextlib.asynccontextmanager
    async def kept_written(self, engine: AsyncEngine) -> AsyncIterator[None]:
        """Write what changed every ten seconds until the block ends, and the last of it then, if that is quick."""
        async with background.writing(self._write_forever(engine), lambda: self.write(engine)):
            yield

    async def write(self, engine: AsyncEngine) -> None:
        """Write when tokens were last used. Raises a database error; the uses are then kept for the next try."""
        if not self._used:
            return
        now, used = time.monotonic(), dict(self._used)
        async with database.connection(engine) as connection:
            left = await read_tokens.note_used(connection, {token: now - at for token, at in used.items()})
        self._used = {token: at for token, at in self._used.items() if token in left or at != used.get(token)}

    async def _write_forever(self, engine: AsyncEngine) -> None:
        while True:
            await asyncio.sleep(WRITE_EVERY)
            try:
                await self.write(engine)
                self._is_logged = False
            except Exception as error:  # noqa: BLE001  (whatever it is: the next try has the uses of this one)
                self._log_once(error)

    def _log_once(self, error: Exception) -> None:
        """Log why the uses cannot be written, until they can. That Postgres is away the keyring logs."""
        is_away = isinstance(error, failures.DatabaseError) and not failures.sqlstate(error)
        if not is_away and not self._is_logged:
            trouble = failures.explain(error) if failures.sqlstate(error) else repr(error)
            logs.log(_logger, logging.WARNING, "token_uses_not_written", error=trouble)
            self._is_logged = True
