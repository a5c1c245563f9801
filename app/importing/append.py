"""How do the tickets of a file come into the inbox? A batch at a time, behind the webhooks, and no line twice.

The correlation id of each row names the file's bytes and the line, so the inbox itself tells which lines it has,
whoever was killed, and wherever the import goes on (docs/decisions/0028).
"""

import asyncio
import secrets
import signal
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Self

import msgspec
from sqlalchemy.ext.asyncio import AsyncConnection

from app import delivery as deliveries
from app import event
from app.delivery import Origin
from app.event.rules import Rules
from app.importing.ticket_file import Line
from db import imports, inbox, queue
from db.inbox import Delivery

DIGITS = 10  # of a line's number: all ids of a file are of one length, and so together in every order
AHEAD = 40  # most promote jobs that wait behind those of webhooks: 20,000 rows, which take some seconds
PAUSE = 0.05  # seconds until they are counted again
STUCK = 30.0  # seconds without fewer of them after which it is told, and told again


class UnknownTenantError(Exception):
    """There is no such tenant."""


class InterruptedImportError(Exception):
    """Ctrl-C was pressed; what was appended by then is counted."""


class Interrupt:
    """Heeds Ctrl-C between statements: one that is cancelled may have committed, and nobody would know.

    While it reads it does so at once: a pipe may be silent. A second Ctrl-C does not wait for a Postgres that is.
    """

    def __init__(self) -> None:
        self._came = self._reads = False
        self._former: Any = None

    def __enter__(self) -> Self:
        self._former = signal.signal(signal.SIGINT, self._come)
        return self

    def __exit__(self, *_: object) -> None:
        signal.signal(signal.SIGINT, self._former)

    def reading(self, given: Iterable[list[Delivery]]) -> Iterator[list[Delivery]]:
        """Give what is `given`. Raises InterruptedImportError in the midst of reading it."""
        batches = iter(given)
        while True:
            self._reads = True
            try:
                batch = next(batches, None)
            finally:
                self._reads = False
            if batch is None:
                return
            yield batch

    def raise_if_pressed(self) -> None:
        """Raise InterruptedImportError where Ctrl-C was pressed."""
        if self._came:
            raise InterruptedImportError

    def _come(self, *_: object) -> None:
        self._came = True
        signal.signal(signal.SIGINT, self._former)
        if self._reads:
            raise InterruptedImportError


class Tally(msgspec.Struct):
    """What became of the lines."""

    read: int = 0
    before: int = 0  # were appended by an import before this one
    appended: int = 0
    skipped: int = 0
    most_skipped: int | None = None

    @property
    def is_stopped(self) -> bool:
        """Whether more lines were bad than may be."""
        return self.most_skipped is not None and self.skipped > self.most_skipped


class ImportedFile(msgspec.Struct, frozen=True):
    """Which file of which tenant is imported."""

    tenant_id: str
    fingerprint: str

    def correlation_id(self, number: int) -> str:
        """Return the correlation id of the row that line `number` becomes."""
        return f"import-{self.fingerprint}-{number:0{DIGITS}}"


def imported_file(tenant_id: str, fingerprint: str | None) -> ImportedFile:
    """Return a tenant's file; one that comes through a pipe has no fingerprint, and is not recognized next time."""
    return ImportedFile(tenant_id, fingerprint or secrets.token_hex(8))


def batches(
    lines: Iterable[Line], file: ImportedFile, tally: Tally, rules: Rules, tell: Callable[[Line, str], None]
) -> Iterator[list[Delivery]]:
    """Give the deliveries of `lines`, and count them; `tell` is called for each line that is bad.

    A batch comes of so many lines that a job may hold; so it may be empty.
    """
    batch: list[Delivery] = []
    size = count = 0
    for line in lines:
        if (delivery := _delivery(line, file, tally, rules, tell)) is not None:
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
    line: Line, file: ImportedFile, tally: Tally, rules: Rules, tell: Callable[[Line, str], None]
) -> Delivery | None:
    """Read one line as a webhook is read; None for one that is bad."""
    tally.read += 1
    error = line.error
    if error is None:
        try:
            origin = Origin.untraced(file.correlation_id(line.number))
            delivery = deliveries.build_unsigned(inbox.BULK, line.payload, file.tenant_id, rules, origin)
            error = delivery.error
        except event.MalformedError as malformed:
            error = str(malformed)
    if error is not None:
        tally.skipped += 1
        tell(line, error)
        return None
    return delivery


async def is_known(connection: AsyncConnection, file: ImportedFile) -> bool:
    """Tell whether the inbox has anything of the file. Raises UnknownTenantError."""
    if not await imports.is_tenant(connection, file.tenant_id):
        raise UnknownTenantError
    first, last = file.correlation_id(0), file.correlation_id(10**DIGITS - 1)
    return await imports.is_known(connection, file.tenant_id, first, last)


async def append(
    connection: AsyncConnection,
    given: Iterable[list[Delivery]],
    tally: Tally,
    tell_stuck: Callable[[int], None] | None,
    *,
    is_known: bool,
) -> None:
    """Append each batch in one statement, which commits it with its job; of a file that `is_known`, what is not there.

    With `tell_stuck` it waits while promotion is behind; where it stays behind, that is called with the rows that wait.
    Raises InterruptedImportError.
    """
    with Interrupt() as interrupt:
        for each in interrupt.reading(given):
            batch = await _not_there(connection, each, tally) if is_known else each
            if batch:
                if tell_stuck:
                    await _make_way(connection, tell_stuck, interrupt)
                await inbox.append(connection, batch)
                tally.appended += len(batch)
            interrupt.raise_if_pressed()


async def _not_there(connection: AsyncConnection, batch: list[Delivery], tally: Tally) -> list[Delivery]:
    """Give what the inbox does not have of `batch`, and count the rest."""
    if not batch:
        return batch
    correlation_ids = [delivery.correlation_id for delivery in batch]
    there = await imports.imported(connection, batch[0].tenant_id, correlation_ids)
    tally.before += len(there)
    return [delivery for delivery in batch if delivery.correlation_id not in there]


async def _make_way(connection: AsyncConnection, tell_stuck: Callable[[int], None], interrupt: Interrupt) -> None:
    """Wait while too many rows of imports are to be promoted."""
    fewest, since = None, time.monotonic()
    while (waiting := await imports.count_waiting(connection)) >= AHEAD:
        if fewest is None or waiting < fewest:
            fewest, since = waiting, time.monotonic()
        elif time.monotonic() - since > STUCK:
            tell_stuck(waiting * queue.JOB_ROWS)
            since = time.monotonic()
        await asyncio.sleep(PAUSE)
        interrupt.raise_if_pressed()
