"""What is done with each ticket that a run meets? What is there is passed; what is not is fetched and appended."""

import logging
import time
from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime, timedelta

import msgspec
from opentelemetry.trace import SpanKind
from sqlalchemy.ext.asyncio import AsyncConnection

from app.rules import Rules
from app.sdp import fetch, pages
from app.sdp.answers import Named, Row
from app.sdp.client import Client
from app.sdp.errors import GoneError, SdpError
from app.sdp.fetch import Fetched
from app.sdp.summary import Summary
from db import inbox, ticket_history
from db.inbox import Delivery
from otel import logs, tracing

SECOND = 1_000  # milliseconds
APPEND_SPAN = "append inbox"
APPEND = {
    "messaging.system": "procrastinate",
    "messaging.operation.name": "append",
    "messaging.operation.type": "send",
    "messaging.destination.name": "inbox",
}
_logger = logging.getLogger("ticket_inbox.sdp")


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """What a run does: from where on, as which source, for how long at most; and whether it changes anything."""

    source: str = inbox.API
    since: datetime | None = None
    seconds: float | None = None
    is_dry: bool = False
    moves_cursor: bool = True


class Run:
    """One run for one tenant. `position` is a time before which every ticket has been dealt with."""

    def __init__(self, connection: AsyncConnection, client: Client, rules: Rules, tenant_id: str, plan: Plan) -> None:
        self.connection, self._client, self._rules = connection, client, rules
        self._tenant_id, self._plan = tenant_id, plan
        self._ends = time.monotonic() + (float("inf") if plan.seconds is None else plan.seconds)
        self._resolved = {name.casefold() for name in rules.resolved_statuses}
        self.summary = Summary()
        self.position: datetime | None = None

    async def pages(self, begin: int) -> AsyncIterator[None]:
        """Deal with the tickets that were last updated at `begin` (milliseconds) or later, a page at a time.

        Ends when its time is up. Raises SdpError, or a database error.
        """
        async for page in pages.updated_from(self._client, begin):
            self.summary.total = page.total or self.summary.total
            stored = await self._stored(page.rows)
            for row in page.rows:
                if time.monotonic() > self._ends:
                    return
                await self._meet(row, stored.get(row.id))
                self.summary.listed += 1
                self.position = _moment(row.updated)
            yield
        self.summary.is_complete = True

    async def _stored(self, rows: Sequence[Row]) -> dict[str, int]:
        """Read when those of the tickets that are known were resolved, in milliseconds."""
        keys = [(self._tenant_id, row.id) for row in rows if self._is_resolved(row.status)]
        found = await ticket_history.standing(self.connection, keys)
        return {ticket_id: _milliseconds(resolved) for (_, ticket_id), (resolved, _) in found.items()}

    async def _meet(self, row: Row, stored: int | None) -> None:
        """Deal with one ticket."""
        if not self._is_resolved(row.status):
            return
        self.summary.seen += 1
        if not _is_later(row.updated, stored):  # then it was not resolved later either
            self.summary.already_there += 1
            return
        try:
            fetched = await fetch.ticket(self._client, self._tenant_id, row.id)
        except GoneError:
            self.summary.gone += 1
            return
        except SdpError as error:
            self.summary.failed += 1
            raise SdpError(f"ticket {row.id} cannot be had: {error}") from None
        stored = (await self._stored([row])).get(row.id)  # a webhook may have come meanwhile
        if not self._is_resolved(fetched.times.status):
            self.summary.gone += 1
        elif stored is not None and not _is_later(fetched.times.resolved, stored):
            self.summary.already_there += 1
        else:
            await self._append(fetched)

    async def _append(self, fetched: Fetched) -> None:
        """Append a ticket to the inbox, unless that has it from an earlier run, byte for byte."""
        delivery = fetch.delivery(fetched, self._tenant_id, self._rules)
        if await inbox.holds(self.connection, delivery, self._plan.source):
            self.summary.already_there += 1
            return
        inbox_id = None if self._plan.is_dry else await self._write(delivery, fetched)
        if delivery.error:
            self.summary.rejected += 1
        else:
            self.summary.appended += 1
        if inbox_id:
            _log(delivery, inbox_id, self._plan.source)

    async def _write(self, delivery: Delivery, fetched: Fetched) -> int:
        """Write it, and the job that promotes it after what webhooks brought."""
        since = time.time_ns()
        [inbox_id] = await inbox.append(
            self.connection, [delivery], over_share=[self._tenant_id], source=self._plan.source
        )
        known = tracing.identity(delivery.correlation_id, self._tenant_id, delivery.ticket_id)
        place = tracing.place_below(fetched.place.context)
        tracing.record(place, APPEND_SPAN, SpanKind.PRODUCER, since, {**APPEND, **known, "inbox_id": inbox_id})
        return inbox_id

    def _is_resolved(self, status: Named | None) -> bool:
        return ((status and status.name) or "").strip().casefold() in self._resolved


def _is_later(milliseconds: int | None, stored: int | None) -> bool:
    """Tell whether a time is later than what is stored; whole seconds may be what a webhook made of the same time."""
    if stored is None or milliseconds is None:
        return stored is None
    return (milliseconds - milliseconds % SECOND if stored % SECOND == 0 else milliseconds) > stored


def _moment(milliseconds: int) -> datetime:
    return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=milliseconds)


def _milliseconds(moment: datetime) -> int:
    return (moment - _moment(0)) // timedelta(milliseconds=1)


def _log(delivery: Delivery, inbox_id: int, source: str) -> None:
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
        source=source,
        status=delivery.status,
        error=delivery.error,
    )
