"""What does a run do with each ticket that it lists? It skips those that we have, and fetches and appends the rest."""

import time
from collections.abc import AsyncIterator, Sequence
from typing import TYPE_CHECKING

from sqlalchemy.ext.asyncio import AsyncConnection

from app.event.rules import Rules
from app.sdp import append, epoch, fetch, pages
from app.sdp.errors import GoneError, LateError, SdpError
from app.sdp.fetch import Fetched
from app.sdp.listed import Row
from app.sdp.pages import Fresh
from app.sdp.plan import OVERLAP, Begin, Plan
from app.sdp.summary import Summary
from app.sdp.unsettled import Unsettled
from db import allowed, failures, inbox, ticket_history
from db.leases import Lease
from db.sdp import Config, Progress

if TYPE_CHECKING:
    from app.sdp.client import Client

SECOND = 1_000  # milliseconds
GRACE = 30.0  # seconds for the ticket that a run has begun with when its time is up; one answer may take 20
MOST_ROWS = 20_000  # that a run lists, if it has a time limit
MOST_LOOKED_AT = 20_000  # tickets that are stored as dealt with, the newest
FUTURE = "its `last_updated_time` ({}) lies more than a day ahead of ServiceDesk Plus' clock and ours"
TOO_MANY = (
    "more tickets have the very same `last_updated_time` ({}) than a run has time to list: "
    "`ticket-inbox reconcile --tenant {}` has no limit"
)


class TenantRun:
    """One run for one tenant.

    Every ticket updated before its progress' position has been dealt with, except those that are `unsettled`; `summary`
    counts them.
    """

    def __init__(  # noqa: PLR0913, PLR0917  (what a run has to do with)
        self,
        connection: AsyncConnection,
        client: "Client",
        rules: Rules,
        config: Config,
        plan: Plan,
        begin: Begin,
        lease: Lease,
    ) -> None:
        self._connection, self._client, self._rules = connection, client, rules
        self.tenant_id, self._plan, self._begin, self._lease = config.tenant_id, plan, begin, lease
        self._allowed = allowed.configured(config.created_at)
        self._deadline = time.monotonic() + (float("inf") if plan.seconds is None else plan.seconds)
        client.ends_at = self._deadline + GRACE + client.interval
        self._resolved = {name.casefold() for name in rules.resolved_statuses}
        self._tried: set[str] = set()
        first = epoch.milliseconds(min(begin.at, begin.of_pass - OVERLAP))
        self._looked_at = {one: updated for one, updated in begin.looked_at.items() if updated >= first}
        self._reached: int | None = None  # the update time of the last ticket that it dealt with
        self._has_listed_all = False
        self.unsettled = Unsettled(begin.failing, begin.reasons)
        self.summary = Summary()

    async def pages(self) -> AsyncIterator[Summary]:
        """Deal with the tickets that were updated since the begin, and yield the summary after each page.

        Ends when its time is up, or it has listed as many as it may. Raises SdpError, TenantGoneError, LostError, or a
        database error.
        """
        async for page in pages.updated_from(self._client, max(epoch.milliseconds(self._begin.at), 0)):
            self.summary.total = page.total or self.summary.total
            if not await self._meet_all(page):
                self._refuse_to_stay()
                return
            yield self.summary
        self._has_listed_all = True
        self.summary.is_complete = await self._retry_failing()

    def progress(self) -> Progress:
        """Return how far it has come."""
        newest = sorted(self._looked_at.items(), key=lambda one: one[1])[-MOST_LOOKED_AT:]
        begin, stopped = self._begin, None if self._reached is None else epoch.moment(self._reached)
        again = begin.of_pass - OVERLAP if begin.goes_on else None
        return Progress(
            position=stopped,
            begins_at=again if self._has_listed_all else stopped or begin.begins_at,
            pass_position=None if self._has_listed_all else begin.of_pass,
            failing=self.unsettled.failing,
            reasons=self.unsettled.reasons,
            looked_at=dict(newest),
            error=self.summary.error,
        )

    def _refuse_to_stay(self) -> None:
        """Raise SdpError if this run came no further in all its time, and so would the next."""
        if self.summary.listed and not self._tried and self._reached == epoch.milliseconds(self._begin.at):
            raise SdpError(TOO_MANY.format(epoch.words(self._reached), self.tenant_id))

    async def _meet_all(self, page: Fresh) -> bool:
        """Deal with the tickets of a page; return False when the run must end."""
        for odd in page.odd:
            self._remark(odd.ticket_id, odd.why)
        stored = await self._stored([row.id for row in page.rows if self._is_resolved(row.status)])
        met = [row.id for row in page.rows if row.id not in stored and self._looked_at.get(row.id) == row.updated]
        kept = {*stored, *(await inbox.open_tickets(self._connection, self.tenant_id, met) if met else ())}
        for row in page.rows:
            if self._is_over():
                return False
            await self._meet(row, stored.get(row.id), is_kept=row.id in kept)
            self._count(row)
        return True

    def _is_over(self) -> bool:
        is_bounded = self._plan.seconds is not None
        return time.monotonic() > self._deadline or (is_bounded and self.summary.listed >= MOST_ROWS)

    def _count(self, row: Row) -> None:
        """Count a row, and move on to its time; not to one that no clock can have written."""
        self.summary.listed += 1
        if row.updated <= self._client.latest:
            self._reached = max(self._reached or epoch.milliseconds(self._begin.at), row.updated)
        else:
            self.unsettled.remark(row.id, FUTURE.format(epoch.words(row.updated)))

    def _remark(self, ticket_id: str | None, why: str) -> None:
        """Note that a row is odd; its ticket is fetched last, as it may be in order."""
        self.unsettled.remark(ticket_id, why)
        if ticket_id and ticket_id not in self.unsettled.failing:
            self.unsettled.leave(ticket_id, why)

    async def _retry_failing(self) -> bool:
        """Fetch what earlier runs could not, last, as it may take all the time; return False when that is up."""
        for ticket_id in [one for one in self.unsettled.failing if one not in self._tried]:
            if self._is_over():
                return False
            self.summary.seen += 1
            await self._attempt(ticket_id)
        return True

    async def _stored(self, ticket_ids: Sequence[str]) -> dict[str, int]:
        """Return when those tickets that ticket_history has were resolved, in milliseconds since 1970, by their id."""
        keys = [(self.tenant_id, ticket_id) for ticket_id in ticket_ids]
        found = await ticket_history.standing(self._connection, keys)
        return {ticket_id: epoch.milliseconds(resolved) for (_, ticket_id), (resolved, _) in found.items()}

    async def _meet(self, row: Row, stored: int | None, *, is_kept: bool) -> None:
        """Deal with one ticket of a list; `is_kept` if ticket_history or the inbox has it."""
        if not self._is_resolved(row.status):
            return
        if row.id in self.unsettled.failing and row.id not in self._tried:
            return  # earlier runs could not fetch it, so it is fetched last
        self.summary.seen += 1
        # A ticket that was not updated after the stored resolution was not resolved after it either. What an earlier
        # run dealt with is believed only if we have it: the tenant may be new, or a part of a backup restored.
        if not _is_later(row.updated, stored) or (is_kept and self._looked_at.get(row.id) == row.updated):
            self.summary.already_there += 1
            return
        await self._attempt(row.id)
        if row.id not in self.unsettled.failing:
            self._looked_at[row.id] = row.updated

    async def _attempt(self, ticket_id: str) -> None:
        """Fetch a ticket and append it; if it cannot be fetched, leave it to later runs."""
        self._tried.add(ticket_id)
        try:
            await self._fetch(ticket_id)
        except LateError as late:
            self.unsettled.leave(ticket_id, str(late))  # else the next run might spend all its time on it again
            raise
        except SdpError as error:
            await self._leave(ticket_id, str(error))
        except failures.DatabaseError as error:
            if not failures.is_fault_of_a_value(error):
                raise
            await self._leave(ticket_id, f"Postgres cannot store it: {failures.reason(error)}")
        else:
            self.unsettled.settle(ticket_id)

    async def _fetch(self, ticket_id: str) -> None:
        """Fetch a ticket, and append it unless we have it. Raises SdpError, or a database error."""
        try:
            fetched = await fetch.ticket(self._client, self.tenant_id, ticket_id)
        except GoneError:
            self.summary.gone += 1
            return
        stored = await self._stored([ticket_id])  # a webhook may have come meanwhile
        if not self._is_resolved((fetched.times.status and fetched.times.status.name) or ""):
            self.summary.gone += 1
        elif ticket_id in stored and not _is_later(fetched.times.resolved, stored[ticket_id]):
            self.summary.already_there += 1
        else:
            await self._append(fetched)

    async def _leave(self, ticket_id: str, why: str) -> None:
        """Leave a ticket that cannot be fetched to later runs; raise SdpError if no ticket can be fetched now."""
        self.summary.failed += 1
        self.summary.error = f"ticket {ticket_id} cannot be fetched: {why}"
        try:
            await self._client.check()
        except LateError:
            self.unsettled.leave(ticket_id, why)
            raise
        except SdpError:
            raise SdpError(self.summary.error) from None
        self.unsettled.leave(ticket_id, why)

    async def _append(self, fetched: Fetched) -> None:
        """Append a ticket to the inbox, unless an earlier run did."""
        delivery = fetch.delivery(self._plan.source, fetched, self.tenant_id, self._rules)
        if await append.is_there(self._connection, delivery):
            self.summary.already_there += 1
            return
        if not self._plan.is_dry:
            await append.append(self._connection, delivery, fetched, self._lease, self._allowed)
        if delivery.error:
            self.summary.rejected += 1
        else:
            self.summary.appended += 1

    def _is_resolved(self, status: str) -> bool:
        return status.strip().casefold() in self._resolved


def _is_later(milliseconds: int | None, stored: int | None) -> bool:
    """Return True if `milliseconds` is later than `stored`, or if nothing is stored.

    If `stored` is in whole seconds, only seconds are compared: a webhook may have cut the fraction of the same time.
    """
    if stored is None or milliseconds is None:
        return stored is None
    return (milliseconds - milliseconds % SECOND if stored % SECOND == 0 else milliseconds) > stored
