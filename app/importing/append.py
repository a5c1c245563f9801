"""How are the tickets of a file appended to the inbox? A batch at a time, behind the webhooks, and no line twice.

The correlation id of each row has the file's fingerprint and the line's number. So the inbox itself says which lines it
has, whichever process was killed, and on whatever machine the import goes on (docs/decisions/0028).
"""

import asyncio
import contextlib
import secrets
import signal
import time
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from typing import Any, Self

import msgspec
from sqlalchemy.ext.asyncio import AsyncConnection

from app import delivery as deliveries
from app import event
from app.delivery import Origin
from app.event.rules import Rules
from app.importing import ids
from app.importing.ticket_file import Line
from db import imports, inbox, lease_keeper, queue
from db.allowed import KEPT
from db.inbox import Delivery
from db.leases import HeldError, Lease

DIGITS = 10  # of a line's number: all ids of a file have one length, and so sort together in every collation
AHEAD = 40  # most jobs of imports that may wait behind those of webhooks: 20,000 rows, which take some seconds
PAUSE = 0.05  # seconds until they are counted again
STUCK = 30.0  # seconds without fewer waiting jobs, after which the import reports that it is stuck, and again
TURN = 0.5  # seconds until it is tried again whether another import of the file has ended


class UnknownTenantError(Exception):
    """There is no such tenant, or it is being removed."""


class InterruptedImportError(Exception):
    """Ctrl-C was pressed; the tally has what was appended by then."""


class Interrupt:
    """Acts on Ctrl-C between statements: a cancelled statement may have committed, and would not be counted.

    While a batch is read it acts at once, because a pipe may be silent. A second Ctrl-C does not wait for a statement
    either, because Postgres may be silent.
    """

    def __init__(self) -> None:
        self._is_pressed = self._is_reading = False
        self._former: Any = None

    def __enter__(self) -> Self:
        self._former = signal.signal(signal.SIGINT, self._on_signal)
        return self

    def __exit__(self, *_: object) -> None:
        signal.signal(signal.SIGINT, self._former)

    def reading(self, given: Iterable[list[Delivery]]) -> Iterator[list[Delivery]]:
        """Yield the batches of `given`. Raises InterruptedImportError while it reads one."""
        batches = iter(given)
        while True:
            self._is_reading = True
            try:
                batch = next(batches, None)
            finally:
                self._is_reading = False
            if batch is None:
                return
            yield batch

    def raise_if_pressed(self) -> None:
        """Raise InterruptedImportError if Ctrl-C was pressed."""
        if self._is_pressed:
            raise InterruptedImportError

    def _on_signal(self, *_: object) -> None:
        self._is_pressed = True
        signal.signal(signal.SIGINT, self._former)
        if self._is_reading:
            raise InterruptedImportError


class Tally(msgspec.Struct):
    """How many lines had which outcome; `most_skipped` is how many may be bad."""

    read: int = 0
    before: int = 0  # were appended by an earlier import
    appended: int = 0
    skipped: int = 0
    most_skipped: int | None = None

    @property
    def is_stopped(self) -> bool:
        """Whether more than `most_skipped` lines were bad."""
        return self.most_skipped is not None and self.skipped > self.most_skipped


class ImportedFile(msgspec.Struct, frozen=True):
    """A tenant's file that is imported."""

    tenant_id: str
    fingerprint: str

    @property
    def lease(self) -> str:
        """The name of the lease that one import of this file at a time has; other files may be imported meanwhile."""
        return f"import:{self.tenant_id}:{self.fingerprint}"

    def correlation_id(self, number: int) -> str:
        """Return the correlation id of the row that line `number` becomes."""
        return f"import-{self.fingerprint}-{number:0{DIGITS}}"


def imported_file(tenant_id: str, fingerprint: str | None) -> ImportedFile:
    """Return a tenant's file. One from a pipe has no fingerprint, so that the next import does not recognize it."""
    return ImportedFile(tenant_id, fingerprint or secrets.token_hex(8))


def batches(
    lines: Iterable[Line], file: ImportedFile, tally: Tally, rules: Rules, on_bad_line: Callable[[Line, str], None]
) -> Iterator[list[Delivery]]:
    """Yield the deliveries of `lines`, and count the lines; `on_bad_line` is called for each that is bad.

    A batch comes from as many lines as one job may hold; if all of these are bad, it is empty.
    """
    batch: list[Delivery] = []
    size = count = 0
    for line in lines:
        if (delivery := _delivery(line, file, tally, rules, on_bad_line)) is not None:
            batch.append(delivery)
            size += len(delivery.payload)
        count += 1
        if count == queue.JOB_ROWS or size >= queue.JOB_BYTES:
            yield batch
            batch, size, count = [], 0, 0
        if tally.is_stopped:
            break
    yield batch


def _delivery(
    line: Line, file: ImportedFile, tally: Tally, rules: Rules, on_bad_line: Callable[[Line, str], None]
) -> Delivery | None:
    """Return the delivery of a line, which is read as a webhook is; None if the line is bad."""
    tally.read += 1
    error = line.error
    if error is None:
        try:
            origin = Origin.untraced(file.correlation_id(line.number))
            delivery = deliveries.build_unsigned(inbox.BULK, line.payload, file.tenant_id, rules, origin)
            error = delivery.error or (ids.damage(delivery.ticket_id) if delivery.ticket_id else None)
        except event.MalformedError as malformed:
            error = str(malformed)
    if error is not None:
        tally.skipped += 1
        on_bad_line(line, error)
        return None
    return delivery


async def require_tenant(connection: AsyncConnection, tenant_id: str) -> None:
    """Raise UnknownTenantError if there is no such tenant."""
    if not await imports.is_tenant(connection, tenant_id):
        raise UnknownTenantError


async def is_known(connection: AsyncConnection, file: ImportedFile) -> bool:
    """Return True if the inbox has a line of the file. Raises UnknownTenantError."""
    await require_tenant(connection, file.tenant_id)
    first, last = file.correlation_id(0), file.correlation_id(10**DIGITS - 1)
    return await imports.is_known(connection, file.tenant_id, first, last)


@contextlib.asynccontextmanager
async def turn(
    url: str, connection: AsyncConnection, file: ImportedFile, on_held: Callable[[str], None] | None
) -> AsyncIterator[Lease]:
    """Take the file's lease for the block. While another import has it, wait for its end; first call `on_held`.

    Without `on_held`, raises HeldError instead of waiting.
    """
    is_first = True
    async with contextlib.AsyncExitStack() as stack:
        while True:
            try:
                lease = await stack.enter_async_context(lease_keeper.held(url, connection, file.lease))
                break
            except HeldError as held:
                if on_held is None:
                    raise
                if is_first:
                    on_held(str(held))
            is_first = False
            await asyncio.sleep(TURN)
        yield lease


async def append(
    connection: AsyncConnection,
    given: Iterable[list[Delivery]],
    tally: Tally,
    on_stuck: Callable[[int], None] | None,
    lease: Lease,
    *,
    is_known: bool,
) -> None:
    """Append each batch in one statement, which commits it with its job; if the file `is_known`, only missing lines.

    With `on_stuck` it waits while promotion is behind; if promotion stays behind, `on_stuck` is called with the number
    of rows that wait. Raises InterruptedImportError, LostError if another import has the `lease` by now, and
    UnknownTenantError if the tenant was removed meanwhile.
    """
    with Interrupt() as interrupt:
        for each in interrupt.reading(given):
            batch = await _not_there(connection, each, tally) if is_known else each
            if batch:
                if on_stuck:
                    await _make_way(connection, on_stuck, interrupt)
                if None in await inbox.append(connection, batch, lease=lease, allowed=KEPT):  # one tenant: all or none
                    raise UnknownTenantError
                tally.appended += len(batch)
            interrupt.raise_if_pressed()


async def _not_there(connection: AsyncConnection, batch: list[Delivery], tally: Tally) -> list[Delivery]:
    """Return the deliveries of `batch` that the inbox does not have, and count the rest."""
    if not batch:
        return batch
    correlation_ids = [delivery.correlation_id for delivery in batch]
    there = await imports.imported(connection, batch[0].tenant_id, correlation_ids)
    tally.before += len(there)
    return [delivery for delivery in batch if delivery.correlation_id not in there]


async def _make_way(connection: AsyncConnection, on_stuck: Callable[[int], None], interrupt: Interrupt) -> None:
    """Wait while too many jobs of imports wait for promotion."""
    fewest, since = None, time.monotonic()
    while (waiting := await imports.count_waiting(connection)) >= AHEAD:
        if fewest is None or waiting < fewest:
            fewest, since = waiting, time.monotonic()
        elif time.monotonic() - since > STUCK:
            on_stuck(waiting * queue.JOB_ROWS)
            since = time.monotonic()
        await asyncio.sleep(PAUSE)
        interrupt.raise_if_pressed()
