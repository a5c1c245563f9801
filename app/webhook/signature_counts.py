"""How many signatures failed, and when did one last verify? Counted in memory by tenant, and written every ten seconds.

No request waits for Postgres here, and what is kept has one entry for each tenant that the keyring knows, whatever
names are sent. All names that it does not know, such as those of disabled tenants, are one entry, under None.
"""

import asyncio
import contextlib
import logging
import time
from collections.abc import AsyncIterator
from typing import Literal

import msgspec
from sqlalchemy.ext.asyncio import AsyncEngine

from app import background
from app.webhook import signature
from app.webhook.keyring import Keyring
from db import engine as database
from db import failures, signature_counts
from db.signature_counts import Counted
from otel import logs, metrics

WRITE_EVERY = 10.0  # seconds
_logger = logging.getLogger("ticket_inbox.signatures")

Why = Literal["absent", "malformed", "untimely", "wrong"]


class Tally(msgspec.Struct):
    """What was counted of one tenant; times by the monotonic clock, 0 where there was none."""

    absent: int = 0
    malformed: int = 0
    untimely: int = 0
    wrong: int = 0
    failed_at: float = 0
    verified_at: float = 0
    previous_at: float = 0

    @property
    def failures(self) -> int:
        """How many failed."""
        return self.absent + self.malformed + self.untimely + self.wrong

    def add(self, other: "Tally") -> None:
        """Add the counts of `other`, and keep the later of each time."""
        for name in ("absent", "malformed", "untimely", "wrong"):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        for name in ("failed_at", "verified_at", "previous_at"):
            setattr(self, name, max(getattr(self, name), getattr(other, name)))


class SignatureCounts:
    """The counts of this process. `failed` and `verified` are all that a request calls: each sets numbers in memory."""

    def __init__(self, keyring: Keyring) -> None:
        self._keyring = keyring
        self._new: dict[str | None, Tally] = {}  # since the metric was last counted up
        self._unwritten: dict[str | None, Tally] = {}
        self._trouble: str | None = None

    def failed(self, tenant_id: str, why: Why) -> None:
        """Count a signature that did not verify for the tenant that the body names; one that names none is nobody's.

        It takes the same work whether or not the tenant is known.
        """
        if tenant_id:
            tally = self._of(self._keyring.known(tenant_id))
            tally.failed_at = time.monotonic()
            setattr(tally, why, getattr(tally, why) + 1)

    def verified(self, tenant_id: str, *, by_previous: bool) -> None:
        """Note that a signature of the tenant verified, by its newest secret or by the one before it."""
        tally = self._of(tenant_id)
        tally.verified_at = now = time.monotonic()
        if by_previous:
            tally.previous_at = now

    @contextlib.asynccontextmanager
    async def kept_written(self, engine: AsyncEngine) -> AsyncIterator[None]:
        """Write what changed every ten seconds until the block ends, and the last of it then, if that is quick."""
        async with background.writing(self._write_forever(engine), lambda: self.write(engine)):
            yield

    async def _write_forever(self, engine: AsyncEngine) -> None:
        while True:
            try:
                await self.write(engine)
                self._note_written()
            except Exception as error:  # noqa: BLE001  (whatever it is: the next try has the counts of this one)
                self._log_once(error)
            await asyncio.sleep(WRITE_EVERY)

    async def write(self, engine: AsyncEngine) -> None:
        """Count the metric up, and add what changed to the rows of Postgres.

        Raises a database error; the counts are then kept for the next try. Where only the answer to a commit was lost,
        they are added twice.
        """
        new, self._new = self._new, {}
        metrics.signatures_failed({tenant_id: tally.failures for tenant_id, tally in new.items()}, self._keyring.names)
        for tenant_id, tally in new.items():
            self._unwritten.setdefault(tenant_id, Tally()).add(tally)
        self._unwritten = {name: kept for name, kept in self._unwritten.items() if self._is_worth_keeping(name)}
        if not self._unwritten:
            return
        now = time.monotonic()
        async with database.transaction(engine) as connection:
            await signature_counts.add(connection, [_counted(*one, now) for one in self._unwritten.items()])
        self._unwritten = {}

    def _of(self, tenant_id: str | None) -> Tally:
        tally = self._new.get(tenant_id)
        if tally is None:
            tally = self._new[tenant_id] = Tally()
        return tally

    def _is_worth_keeping(self, tenant_id: str | None) -> bool:
        return tenant_id is None or self._keyring.known(tenant_id) is not None

    def _note_written(self) -> None:
        """Log that the counts are written again, where a line said that they could not be."""
        if self._trouble is not None:
            logs.log(_logger, logging.INFO, "signatures_written")
            self._trouble = None

    def _log_once(self, error: Exception) -> None:
        """Log why the counts cannot be written, until they can. That Postgres is away the keyring logs."""
        trouble = failures.explain(error) if failures.sqlstate(error) else repr(error)
        is_away = isinstance(error, failures.DatabaseError) and not failures.sqlstate(error)
        if self._trouble is None and not is_away:
            logs.log(_logger, logging.WARNING, "signatures_not_written", error=trouble)
            self._trouble = trouble


def why_not_signed(header: str, *, is_timely: bool) -> Why:
    """Return why a signature did not verify: from the headers alone, whatever is known of the tenant."""
    if not header:
        return "absent"
    if not signature.is_well_formed(header):
        return "malformed"
    return "wrong" if is_timely else "untimely"


def _counted(tenant_id: str | None, tally: Tally, now: float) -> Counted:
    return Counted(
        tenant_id=tenant_id,
        absent=tally.absent,
        malformed=tally.malformed,
        untimely=tally.untimely,
        wrong=tally.wrong,
        failed_age=_age(tally.failed_at, now),
        verified_age=_age(tally.verified_at, now),
        previous_age=_age(tally.previous_at, now),
    )


def _age(moment: float, now: float) -> float | None:
    return now - moment if moment else None
