"""What does a run do with each ticket that it lists? It skips those that we have, and fetches and appends the rest."""

import logging
import time
from collections.abc import AsyncIterator, Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

import msgspec
from opentelemetry.trace import SpanKind
from sqlalchemy.ext.asyncio import AsyncConnection

from app.event.rules import Rules
from app.sdp import epoch, fetch, pages
from app.sdp.answers import Named, Row
from app.sdp.errors import GoneError, SdpError
from app.sdp.fetch import Fetched
from app.sdp.summary import Summary
from db import failure_in_span, failures, inbox, ticket_history
from db.inbox import Delivery
from db.leases import Lease
from db.sdp import Config
from otel import logs, tracing

if TYPE_CHECKING:
    from app.sdp.client import Client

# A ticket may become visible a while after its update time: its transaction took long, or another node's clock is
# behind. So each run reads the last ten minutes again; a ticket that we have costs only its row in a list.
OVERLAP = timedelta(minutes=10)
SECOND = 1_000  # milliseconds
MOST_FAILING = 100  # tickets; if there are more, it is not the tickets that are at fault
APPEND_SPAN = "append inbox"
_logger = logging.getLogger("ticket_inbox.sdp")


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """What a run does: where it begins, as which source, for how many seconds at most, and what it may change."""

    source: str = inbox.API
    since: datetime | None = None
    seconds: float | None = None
    is_dry: bool = False
    moves_cursor: bool = True


class Begin(msgspec.Struct, frozen=True):
    """Where a run begins: the cursor, and what earlier runs left behind."""

    position: datetime
    failing: Sequence[str] = ()  # tickets that could not be fetched
    looked_at: dict[str, int] = {}  # tickets that were dealt with, and their update times; the run adds to it


class TenantRun:
    """One run for one tenant.

    Every ticket updated before `position` has been dealt with, except those that are `failing`; `summary` counts them.
    """

    def __init__(
        self, connection: AsyncConnection, client: "Client", rules: Rules, config: Config, plan: Plan, lease: Lease
    ) -> None:
        self._connection, self._client, self._rules = connection, client, rules
        self.tenant_id, self._plan, self._lease = config.tenant_id, plan, lease
        self._deadline = time.monotonic() + (float("inf") if plan.seconds is None else plan.seconds)
        self._resolved = {name.casefold() for name in rules.resolved_statuses}
        self._tried: set[str] = set()
        self._looked_at: dict[str, int] = {}
        self.summary = Summary()
        self.position: datetime | None = None
        self.failing: list[str] = []

    async def pages(self, begin: Begin) -> AsyncIterator[Summary]:
        """Deal with the tickets that were updated since `begin`, and yield the summary after each page.

        Ends when its time is up, but not before it is past where earlier runs ended: else every run might end there.
        Raises SdpError, or a database error.
        """
        self.failing, self._looked_at = list(begin.failing), begin.looked_at
        reached = epoch.milliseconds(begin.position)
        async for page in pages.updated_from(self._client, max(epoch.milliseconds(begin.position - OVERLAP), 0)):
            self.summary.total = page.total or self.summary.total
            if not await self._meet_all(page.rows, reached):
                return
            yield self.summary
        self.summary.is_complete = await self._retry_failing()

    async def _meet_all(self, rows: Sequence[Row], reached: int) -> bool:
        """Deal with the tickets of a page; return False when the time is up and the page is past `reached`."""
        stored = await self._stored([row.id for row in rows if self._is_resolved(row.status)])
        for row in rows:
            if time.monotonic() > self._deadline and row.updated > reached:
                return False
            await self._meet(row, stored.get(row.id))
            self.summary.listed += 1
            self.position = epoch.moment(row.updated)
        return True

    async def _retry_failing(self) -> bool:
        """Fetch what earlier runs could not, last, as it may take all the time; return False when that is up."""
        for ticket_id in [one for one in self.failing if one not in self._tried]:
            if time.monotonic() > self._deadline:
                return False
            self.summary.seen += 1
            await self._attempt(ticket_id)
        return True

    async def _stored(self, ticket_ids: Sequence[str]) -> dict[str, int]:
        """Return when those tickets that ticket_history has were resolved, in milliseconds since 1970, by their id."""
        keys = [(self.tenant_id, ticket_id) for ticket_id in ticket_ids]
        found = await ticket_history.standing(self._connection, keys)
        return {ticket_id: epoch.milliseconds(resolved) for (_, ticket_id), (resolved, _) in found.items()}

    async def _meet(self, row: Row, stored: int | None) -> None:
        """Deal with one ticket of a list."""
        if not self._is_resolved(row.status):
            return
        if row.id in self.failing and row.id not in self._tried:
            return  # earlier runs could not fetch it, so it is fetched last
        self.summary.seen += 1
        # A ticket that was not updated after the stored resolution was not resolved after it either.
        if not _is_later(row.updated, stored) or self._looked_at.get(row.id) == row.updated:
            self.summary.already_there += 1
            return
        await self._attempt(row.id)
        if row.id not in self.failing:
            self._looked_at[row.id] = row.updated

    async def _attempt(self, ticket_id: str) -> None:
        """Fetch a ticket and append it; if it cannot be fetched, leave it to later runs."""
        self._tried.add(ticket_id)
        try:
            await self._fetch(ticket_id)
        except SdpError as error:
            await self._leave(ticket_id, error)
        else:
            self.failing = [one for one in self.failing if one != ticket_id]

    async def _fetch(self, ticket_id: str) -> None:
        """Fetch a ticket, and append it unless we have it. Raises SdpError."""
        try:
            fetched = await fetch.ticket(self._client, self.tenant_id, ticket_id)
        except GoneError:
            self.summary.gone += 1
            return
        stored = await self._stored([ticket_id])  # a webhook may have come meanwhile
        if not self._is_resolved(fetched.times.status):
            self.summary.gone += 1
        elif ticket_id in stored and not _is_later(fetched.times.resolved, stored[ticket_id]):
            self.summary.already_there += 1
        else:
            await self._append(fetched)

    async def _leave(self, ticket_id: str, error: SdpError) -> None:
        """Leave a ticket that cannot be fetched to later runs; raise SdpError if no ticket can be fetched now."""
        self.summary.failed += 1
        self.summary.error = f"ticket {ticket_id} cannot be fetched: {error}"
        try:
            await self._client.check()
        except SdpError:
            raise SdpError(self.summary.error) from None
        others = [one for one in self.failing if one != ticket_id]
        if len(others) == MOST_FAILING:
            raise SdpError(f"{self.summary.error}; nor can {MOST_FAILING} before it")
        self.failing = [*others, ticket_id]  # last, so that the next run begins with another one

    async def _append(self, fetched: Fetched) -> None:
        """Append a ticket to the inbox, unless an earlier run appended it, byte for byte."""
        delivery = fetch.delivery(self._plan.source, fetched, self.tenant_id, self._rules)
        if await inbox.holds(self._connection, delivery):
            self.summary.already_there += 1
            return
        inbox_id = None if self._plan.is_dry else await self._write(delivery, fetched)
        if delivery.error:
            self.summary.rejected += 1
        else:
            self.summary.appended += 1
        if inbox_id:
            _log(delivery, inbox_id)

    async def _write(self, delivery: Delivery, fetched: Fetched) -> int:
        """Write a delivery and its job, which promotes it after webhooks; return the inbox id."""
        since = time.time_ns()
        known = tracing.identity(delivery.correlation_id, self.tenant_id, delivery.ticket_id)
        attributes: dict[str, str | int] = {**tracing.APPENDING, **known}
        position = tracing.position_below(fetched.origin.position.context)
        try:
            [inbox_id] = await inbox.append(self._connection, [delivery], [self.tenant_id], self._lease)
        except failures.DatabaseError as error:
            failure = failure_in_span.of(error)
            tracing.record(position, APPEND_SPAN, SpanKind.PRODUCER, since, attributes, error=failure)
            raise
        attributes["inbox_id"] = inbox_id
        tracing.record(position, APPEND_SPAN, SpanKind.PRODUCER, since, attributes)
        return inbox_id

    def _is_resolved(self, status: Named | None) -> bool:
        return ((status and status.name) or "").strip().casefold() in self._resolved


def _is_later(milliseconds: int | None, stored: int | None) -> bool:
    """Return True if `milliseconds` is later than `stored`, or if nothing is stored.

    If `stored` is in whole seconds, only seconds are compared: a webhook may have cut the fraction of the same time.
    """
    if stored is None or milliseconds is None:
        return stored is None
    return (milliseconds - milliseconds % SECOND if stored % SECOND == 0 else milliseconds) > stored


def _log(delivery: Delivery, inbox_id: int) -> None:
    trace_id, span_id = tracing.ids_of(delivery.traceparent)
    logs.log(
        _logger,
        logging.INFO,
        "ticket_fetched",
        correlation_id=delivery.correlation_id,
        trace_id=trace_id,
        span_id=span_id,
        tenant_id=delivery.tenant_id,
        ticket_id=delivery.ticket_id,
        inbox_id=inbox_id,
        source=delivery.source,
        status=delivery.status,
        error=delivery.error,
    )
