"""What do all runs for a tenant share of its ServiceDesk Plus? A pause that it asked for, and the Cloud's token.

They are in the database, so that the next run knows them, whichever process does it.
"""

import asyncio
import time
from collections.abc import Callable
from datetime import UTC, datetime

from sqlalchemy.ext.asyncio import AsyncConnection

from app.sdp.errors import PausedError, TransientError
from app.sdp.identity import Key, Session
from app.sdp.tokens import Token
from db import sdp_access
from db.sdp_access import KeptToken
from db.tenants import Secrets, UnreadableSecretError

LOOK = 5.0  # seconds of a wait, after which it looks whether the pause is still on

OnPause = Callable[[str, datetime], None]  # is given why a run waits, and until when


class Access:
    """What later runs know, by a run's connection. With `on_pause` a run waits for the end of a pause."""

    def __init__(
        self, connection: AsyncConnection, tenant_id: str, keys: Secrets, on_pause: OnPause | None = None
    ) -> None:
        self._connection, self._tenant_id, self._keys, self._on_pause = connection, tenant_id, keys, on_pause

    async def before(self, identity: Key | Session) -> None:
        """Before a request: heed a pause, and take over the token that another run has fetched. Raises PausedError."""
        shown = None
        while pause := await sdp_access.pause_of(self._connection, self._tenant_id):
            if self._on_pause is None:
                raise PausedError(paused(pause.reason, pause.until))
            if pause.until != shown:
                shown = pause.until
                self._on_pause(pause.reason, pause.until)
            await asyncio.sleep(min(pause.seconds + 0.01, LOOK))
        if isinstance(identity, Session) and not identity.shared.has_token:
            await self._take_over(identity)

    async def after(self, identity: Key | Session) -> None:
        """After a request: keep a new token for later runs."""
        if not isinstance(identity, Session) or not (token := identity.shared.token) or token.is_kept:
            return
        token.is_kept = True  # before it is: another tenant's run need not keep it too
        now = time.monotonic()
        kept = KeptToken(self._keys.encrypt(token.text), now - token.made, token.ends - now, token.is_proven is True)
        await sdp_access.keep_token(self._connection, self._tenant_id, identity.key, kept)

    async def pause(self, error: TransientError) -> None:
        """Let no run of the tenant ask before the time is up that ServiceDesk Plus asked for."""
        await sdp_access.pause(self._connection, self._tenant_id, error.retry_after, str(error))

    async def wait(self, error: TransientError) -> None:
        """Wait as long as Zoho asked for. Raises PausedError if this run may not wait."""
        until = datetime.fromtimestamp(time.time() + error.retry_after, UTC)
        if self._on_pause is None:
            raise PausedError(paused(str(error), until))
        self._on_pause(str(error), until)
        await asyncio.sleep(error.retry_after)

    async def _take_over(self, session: Session) -> None:
        """Give a session the token that another process has fetched, unless no key reads it."""
        if not (kept := await sdp_access.token_of(self._connection, session.key)):
            return
        try:
            text = self._keys.decrypt(kept.token).decode()
        except UnreadableSecretError:
            return
        now = time.monotonic()
        token = Token(text, now - kept.age, now + kept.left, is_proven=kept.is_proven, is_kept=True)
        if not session.shared.has_token:  # nor has another tenant's run fetched one meanwhile
            session.shared.token = token


def paused(reason: str, until: datetime) -> str:
    """Return what a run says that ends for a pause."""
    return f"{reason}: it is not asked before {until.astimezone(UTC):%H:%M:%S} UTC"
