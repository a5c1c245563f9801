"""Which secrets verify for this tenant right now? Every enabled tenant's, in memory, re-read every second."""

import asyncio
import contextlib
import logging
import secrets as random
import time
from collections.abc import AsyncIterator, Iterator
from collections.abc import Set as AbstractSet

from sqlalchemy.ext.asyncio import AsyncEngine

from app import background
from app.readiness import this_process
from db import engine as database
from db import failures, tenants
from otel import logs

POLL_SECONDS = 1.0  # a change is in force within 10 s, also when two reads in a row run into their time limit
READ_TIMEOUT = 3.0  # seconds
_logger = logging.getLogger("ticket_inbox.tenants")


class Keyring:
    """The tenants' secrets in memory. It always returns two, so that every tenant costs the same HMAC work."""

    def __init__(self, engine: AsyncEngine, secrets: tenants.Secrets) -> None:
        self._engine = engine
        self._secrets = secrets
        self._decoy = random.token_bytes(32)
        self._known: dict[str, tuple[bytes, bytes]] = {}
        self._decrypted: dict[str, bytes] = {}
        self._ends: dict[str, float] = {}  # of each grace, by the monotonic clock
        self._trouble: str | None = None
        self.unreadable: frozenset[str] = frozenset()  # tenants one of whose secrets is
        self.loaded = False

    def secrets_of(self, tenant_id: str) -> tuple[bytes, bytes]:
        """Return the tenant's newest secret and the one before it; a decoy for each that is missing or unreadable."""
        return self._known.get(tenant_id, (self._decoy, self._decoy))

    def known(self, tenant_id: str) -> str | None:
        """Return the tenant's id if it is known and enabled, else None."""
        return tenant_id if tenant_id in self._known else None

    @property
    def names(self) -> AbstractSet[str]:
        """The ids of all tenants that are known and enabled."""
        return self._known.keys()

    @contextlib.asynccontextmanager
    async def kept_fresh(self) -> AsyncIterator[None]:
        """Read the tenants once a second until the block ends; wait for the first reading, for READ_TIMEOUT at most."""
        first = asyncio.Event()
        async with background.running(self._keep_fresh(first)):
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(READ_TIMEOUT):
                    await first.wait()
            yield

    async def _keep_fresh(self, first: asyncio.Event) -> None:
        while True:
            self._end_graces()
            try:
                async with asyncio.timeout(READ_TIMEOUT):
                    await self.refresh()
                self._log_change(None)
            except Exception as error:  # noqa: BLE001  (whatever it is: a reader that stops keeps old secrets for ever)
                self._log_change(failures.explain(error))
            first.set()
            await asyncio.sleep(POLL_SECONDS)

    async def refresh(self) -> None:
        """Read every enabled tenant. Raises a database error; the secrets then stay as they were."""
        now = time.monotonic()
        async with database.connection(self._engine) as connection:
            rows = await tenants.read_enabled(connection)
        self._decrypted = {text: secret for row in rows for text, secret in self._decrypt(row)}
        found = {row.tenant_id: [self._decrypted.get(text) for text in _texts(row)] for row in rows}
        self._known = {tenant_id: self._pair(secrets) for tenant_id, secrets in found.items()}
        self._ends = {row.tenant_id: now + row.grace_seconds for row in rows if row.grace_seconds is not None}
        self._report(frozenset(tenant_id for tenant_id, secrets in found.items() if None in secrets))
        self.loaded = True

    def _decrypt(self, row: tenants.EncryptedSecrets) -> Iterator[tuple[str, bytes]]:
        """Yield those of a tenant's secrets that can be read, each with its encrypted text."""
        for text in _texts(row):
            with contextlib.suppress(tenants.UnreadableSecretError):
                # Decrypting costs 30 µs and the texts seldom change.
                yield text, self._decrypted.get(text) or self._secrets.decrypt(text)

    def _pair(self, secrets: list[bytes | None]) -> tuple[bytes, bytes]:
        newest, previous = [*secrets, None][:2]
        return newest or self._decoy, previous or self._decoy

    def _end_graces(self) -> None:
        """Forget secrets whose grace is over, also while Postgres is away."""
        now = time.monotonic()
        for tenant_id in [tenant_id for tenant_id, ends in self._ends.items() if ends <= now]:
            self._known[tenant_id] = (self._known[tenant_id][0], self._decoy)
            del self._ends[tenant_id]

    def _report(self, unreadable: frozenset[str]) -> None:
        for tenant_id in unreadable - self.unreadable:
            error = (
                "a secret of its was encrypted with a key that is not in SECRETS_KEY: add the key, or rotate the secret"
            )
            logs.log(_logger, logging.ERROR, "tenant_unreadable", tenant_id=tenant_id, error=error)
        self.unreadable = unreadable

    def _log_change(self, trouble: str | None) -> None:
        """Log when reading begins to fail, and when it works again; not each failure.

        Why a server is not ready at its start, `server_waits` says.
        """
        if this_process.is_awaited():
            return
        if trouble and not self._trouble:
            logs.log(_logger, logging.WARNING, "tenants_not_read", error=trouble)
        elif self._trouble and not trouble:
            logs.log(_logger, logging.INFO, "tenants_read_again")
        self._trouble = trouble


def _texts(row: tenants.EncryptedSecrets) -> list[str]:
    return [text for text in (row.secret, row.previous_secret) if text]
