"""Which tenant's tickets does a token show right now? Every token in force, in memory, re-read every second.

What was not read for FRESH_SECONDS counts for nothing: a token that was revoked meanwhile must not be answered.
"""

import asyncio
import contextlib
import logging
import time
from collections.abc import AsyncIterator

from sqlalchemy.ext.asyncio import AsyncEngine

from app import background
from app.readiness import this_process
from app.search import read_token
from app.search.token_uses import TokenUses
from db import engine as database
from db import failures, read_tokens
from otel import logs

POLL_SECONDS = 1.0
READ_TIMEOUT = 3.0  # seconds
FIRST_READING = 0.5  # seconds that a start waits for it; a question before it is answered 503
FRESH_SECONDS = 8.0  # a change is in force within 10 s, also when a read in between runs into its time limit
_logger = logging.getLogger("ticket_inbox.search")


class KnownTokens:
    """The tokens in force, by their hash. No request waits for Postgres here."""

    def __init__(self, engine: AsyncEngine, uses: TokenUses) -> None:
        self._engine, self._uses = engine, uses
        self._known: dict[bytes, read_tokens.ValidToken] = {}
        self._read_at = float("-inf")  # by the monotonic clock
        self._trouble: str | None = None

    @property
    def are_fresh(self) -> bool:
        """Whether the tokens were read lately enough to be judged by."""
        return time.monotonic() - self._read_at < FRESH_SECONDS

    def tenant_of(self, token: bytes) -> str | None:
        """Return the tenant whose tickets `token` shows, and note that it was used; None if it is not in force.

        It takes the same work whatever the token is.
        """
        found = self._known.get(read_token.hashed(token))
        if found is None:
            return None
        self._uses.note(found.id)
        return found.tenant_id

    @contextlib.asynccontextmanager
    async def kept_fresh(self) -> AsyncIterator[None]:
        """Read the tokens once a second until the block ends; wait for FIRST_READING at most."""
        first = asyncio.Event()
        async with background.running(self._keep_fresh(first)):
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(FIRST_READING):
                    await first.wait()
            yield

    async def refresh(self) -> None:
        """Read every token in force. Raises a database error; the tokens then stay as they were."""
        began = time.monotonic()
        async with database.connection(self._engine) as connection:
            found = await read_tokens.read_valid(connection)
        self._known = {one.token_hash: one for one in found}
        self._read_at = began

    async def _keep_fresh(self, first: asyncio.Event) -> None:
        while True:
            try:
                async with asyncio.timeout(READ_TIMEOUT):
                    await self.refresh()
                self._log_change(None)
            except Exception as error:  # noqa: BLE001  (whatever it is: a reader that stops has no token any more)
                self._log_change(error)
            first.set()
            await asyncio.sleep(POLL_SECONDS)

    def _log_change(self, error: Exception | None) -> None:
        """Log when reading begins to fail, and when it works again; not each failure.

        That Postgres is away the keyring logs; and why a server is not ready at its start, `server_waits` says.
        """
        if this_process.is_awaited():
            return
        is_news = failures.sqlstate(error) or not isinstance(error, failures.DatabaseError) if error else False
        if error and is_news and not self._trouble:
            self._trouble = failures.explain(error) if failures.sqlstate(error) else repr(error)
            logs.log(_logger, logging.WARNING, "read_tokens_not_read", error=self._trouble)
        elif self._trouble and not error:
            logs.log(_logger, logging.INFO, "read_tokens_read_again")
            self._trouble = None
