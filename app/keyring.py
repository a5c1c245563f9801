"""Which secrets verify for this tenant right now? Every enabled tenant's, in memory, re-read every second."""

import asyncio
import contextlib
import logging
import secrets as random
from collections.abc import AsyncIterator

from sqlalchemy.ext.asyncio import AsyncEngine

from db import engine as database
from db import tenants
from otel import logs

POLL_SECONDS = 1.0  # a change is in force within 10 s, also when two reads in a row run into their time limit
READ_TIMEOUT = 3.0  # seconds
_logger = logging.getLogger("ticket_inbox.tenants")


class Keyring:
    """The tenants' secrets in memory. Always gives two of them, so that every tenant costs the same HMAC work."""

    def __init__(self, engine: AsyncEngine, secrets: tenants.Secrets) -> None:
        self._engine = engine
        self._secrets = secrets
        self._decoy = random.token_bytes(32)
        self._known: dict[str, tuple[bytes, bytes]] = {}
        self._decrypted: dict[str, bytes] = {}
        self._trouble: str | None = None
        self.unreadable: frozenset[str] = frozenset()
        self.loaded = False

    def secrets_of(self, tenant_id: str) -> tuple[bytes, bytes]:
        """Give the tenant's newest secret and the one before it, with decoys for those it has not."""
        return self._known.get(tenant_id, (self._decoy, self._decoy))

    @contextlib.asynccontextmanager
    async def kept_fresh(self) -> AsyncIterator[None]:
        """Read the tenants, then again and again until the block ends; waits for the first reading, not for ever."""
        first = asyncio.Event()
        task = asyncio.create_task(self._keep_fresh(first))
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(first.wait(), READ_TIMEOUT)
        try:
            yield
        finally:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task

    async def _keep_fresh(self, first: asyncio.Event) -> None:
        while True:
            try:
                await asyncio.wait_for(self.refresh(), READ_TIMEOUT)
                self._tell(None)
            except Exception as error:  # noqa: BLE001  (whatever it is: who stops reading goes on with old secrets for ever)
                self._tell(database.reason(error))
            first.set()
            await asyncio.sleep(POLL_SECONDS)

    async def refresh(self) -> None:
        """Read every enabled tenant. Raises a database error, and then keeps what it had."""
        async with database.connection(self._engine) as connection:
            rows = await tenants.read_enabled(connection)
        self._decrypted = {text: self._decrypted.get(text) or b"" for row in rows for text in _texts(row)}
        known, unreadable = {}, set()
        for row in rows:
            try:
                known[row.tenant_id] = self._decrypt(row)
            except tenants.UnreadableSecretError:
                unreadable.add(row.tenant_id)
        self._known = known
        self._report(frozenset(unreadable))
        self.loaded = True

    def _decrypt(self, row: tenants.EncryptedSecrets) -> tuple[bytes, bytes]:
        for text in _texts(row):
            # Decrypting costs 30 µs and the texts seldom change.
            self._decrypted[text] = self._decrypted[text] or self._secrets.decrypt(text)
        previous = self._decrypted[row.previous_secret] if row.previous_secret else self._decoy
        return self._decrypted[row.secret], previous

    def _report(self, unreadable: frozenset[str]) -> None:
        for tenant_id in unreadable - self.unreadable:
            error = "its secret was encrypted with a key that is not in SECRETS_KEY: add the key, or rotate the secret"
            logs.log(_logger, logging.ERROR, "tenant_unreadable", tenant_id=tenant_id, error=error)
        self.unreadable = unreadable

    def _tell(self, trouble: str | None) -> None:
        """Log that reading begins to fail or works again, not every time that it does."""
        if trouble and not self._trouble:
            logs.log(_logger, logging.WARNING, "tenants_not_read", error=trouble)
        elif self._trouble and not trouble:
            logs.log(_logger, logging.INFO, "tenants_read_again")
        self._trouble = trouble


def _texts(row: tenants.EncryptedSecrets) -> list[str]:
    return [text for text in (row.secret, row.previous_secret) if text]
