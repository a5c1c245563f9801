"""What does a run do with each ticket that it lists? It skips those that we have, and fetches and appends the rest."""

import time
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING

from sqlalchemy.ext.asyncio import AsyncConnection

from app.event.rules import Rules
from app.sdp import comparison, epoch, pages
from app.sdp.comparison import Known
from app.sdp.errors import AccessError, GoneError, RefusedError, SdpError
from app.sdp.listed import ARCHIVE, NO_STATUS, REQUESTS, OddRow, Row
from app.sdp.one_ticket import Tickets
from app.sdp.pages import Fresh
from app.sdp.plan import OVERLAP, Begin, Plan
from app.sdp.summary import NONE_SHOWN, Summary
from app.sdp.unedited import NOT_LISTED, Unedited
from app.sdp.unsettled import Unsettled
from db import inbox
from db.leases import Lease
from db.sdp import Config, Progress

if TYPE_CHECKING:
    from app.sdp.client import Client

GRACE = 30.0  # seconds for the ticket that a run has begun with when its time is up; one answer may take 20
MOST_ROWS = 20_000  # that a run lists, if it has a time limit
MOST_LOOKED_AT = 20_000  # tickets that are stored as dealt with, the newest
FUTURE = "its `last_updated_time` ({}) lies more than a day ahead of ServiceDesk Plus' clock and ours"
TOO_MANY = (
    "more tickets have the very same `last_updated_time` ({}) than a run has time to list: "
    "`ticket-inbox reconcile --tenant {}` has no limit"
)
MOST_PUT_OFF = 50  # tickets that are fetched after all others; those beyond are fetched at once
UNEDITED = "it was never edited, and its list says no time"
NO_ARCHIVE, PART_OF_ARCHIVE = "archived tickets were not read: {}", "not all archived tickets were read: {}"


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
        self._connection, self._client = connection, client
        self.tenant_id, self._plan, self._begin = config.tenant_id, plan, begin
        self._deadline = time.monotonic() + (float("inf") if plan.seconds is None else plan.seconds)
        client.ends_at = self._deadline + GRACE + client.interval
        first = epoch.milliseconds(min(begin.at, begin.of_pass - OVERLAP))
        self._looked_at = {one: updated for one, updated in begin.looked_at.items() if updated >= first}
        self._reached: int | None = None  # the update time of the last ticket that it dealt with
        self._unedited = Unedited(client, max(epoch.milliseconds(begin.at), 0))
        self._archive_reached: int | None = None  # the same, of the archive's tickets
        self._has_listed_all = False
        self.unsettled = Unsettled(begin.failing, begin.reasons)
        self._tickets = Tickets(connection, client, rules, config, plan, lease, self.unsettled)
        self.summary = self._tickets.summary

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
        if self.summary.total and not self.summary.listed:
            self.summary.remarks.append(NONE_SHOWN)
        if not await self._meet_unedited(float("inf")):
            return
        if self._unedited.trouble:
            self.summary.remarks.append(NOT_LISTED.format(self._unedited.trouble))
        self._has_listed_all = True
        if self._plan.reads_archive:
            async for summary in self._read_archive():
                yield summary
        self.summary.is_complete = await self._retry_failing()

    def progress(self) -> Progress:
        """Return how far it has come."""
        newest = sorted(self._looked_at.items(), key=lambda one: one[1])[-MOST_LOOKED_AT:]
        begin = self._begin
        reached = (self._reached, self._archive_reached)
        stopped, archived = (None if one is None else epoch.moment(one) for one in reached)
        again = begin.of_pass - OVERLAP if begin.goes_on else None
        return Progress(
            position=stopped,
            begins_at=again if self._has_listed_all else stopped or begin.begins_at,
            pass_position=None if self._has_listed_all else begin.of_pass,
            failing=self.unsettled.failing,
            reasons=self.unsettled.reasons,
            looked_at=dict(newest),
            archive_position=archived,
            error=self.summary.error,
        )

    def _refuse_to_stay(self) -> None:
        """Raise SdpError if this run came no further in all its time, and so would the next."""
        if self.summary.listed and not self._tickets.tried and self._reached == epoch.milliseconds(self._begin.at):
            raise SdpError(TOO_MANY.format(epoch.words(self._reached), self.tenant_id))

    async def _meet_all(self, page: Fresh) -> bool:
        """Deal with the tickets of a page; return False when the run must end."""
        for odd in page.odd:
            await self._meet_odd(odd)
        known, kept = await self._known(page)
        for row in page.rows:
            if not await self._meet_unedited(row.updated) or self._is_over():
                return False
            await self._meet(row, known.get(row.id), is_kept=row.id in kept)
            self._reach(row)
        return True

    async def _meet_unedited(self, moment: float) -> bool:
        """Deal with the tickets that were created up to `moment` and never edited; return False when the run must end.

        They come before the tickets that were updated then, so that the run may move on to that time.
        """
        async for page in self._unedited.until(moment):
            if not await self._meet_others(page):
                return False
            if page.rows and moment < self._client.latest:
                created = min(page.rows[-1].updated, int(moment))
                self._reached = max(self._reached or epoch.milliseconds(self._begin.at), created)
        return True

    async def _known(self, page: Fresh) -> tuple[dict[str, Known], set[str]]:
        """Return those tickets of a page that ticket_history has, and the ids of those that it or the inbox has.

        Those that ticket_history has without a display id get it.
        """
        await self._tickets.give_display_ids(page.rows)
        known = await self._tickets.known([row.id for row in page.rows if self._tickets.may_be_resolved(row.status)])
        met = [row.id for row in page.rows if row.id not in known and self._looked_at.get(row.id) == row.updated]
        return known, {*known, *(await inbox.open_tickets(self._connection, self.tenant_id, met) if met else ())}

    def _is_over(self) -> bool:
        is_bounded = self._plan.seconds is not None
        return time.monotonic() > self._deadline or (is_bounded and self.summary.listed >= MOST_ROWS)

    def _reach(self, row: Row) -> None:
        """Move on to a row's time; not to one that no clock can have written."""
        if row.updated <= self._client.latest:
            self._reached = max(self._reached or epoch.milliseconds(self._begin.at), row.updated)
        else:
            self.unsettled.refuse(row.id, FUTURE.format(epoch.words(row.updated)))

    async def _meet_odd(self, odd: OddRow) -> None:
        """Note that a row is odd; its ticket is fetched last, as it may be in order, or now where many are left."""
        self.summary.listed += 1
        if odd.why:
            self.unsettled.remark(odd.ticket_id, odd.why)
        if odd.ticket_id and odd.ticket_id not in self.unsettled.failing:
            if len(self.unsettled.failing) >= MOST_PUT_OFF:
                await self._tickets.attempt(odd.ticket_id)
                return
            self.unsettled.leave(odd.ticket_id, odd.why or UNEDITED)
        self.summary.put_off += 1

    async def _retry_failing(self) -> bool:
        """Fetch what earlier runs could not, last, as it may take all the time; return False when that is up."""
        for ticket_id in [one for one in self.unsettled.failing if one not in self._tickets.tried]:
            if self._is_over():
                return False
            self.summary.tried_last += 1
            await self._tickets.attempt(ticket_id)
        return True

    async def _meet(self, row: Row, known: Known | None, *, is_kept: bool, where: str = REQUESTS) -> None:
        """Deal with one ticket of a list; `is_kept` if ticket_history or the inbox has it."""
        if row.status is None:
            await self._meet_odd(OddRow(row.id, NO_STATUS))
            return
        self.summary.listed += 1
        if not self._tickets.may_be_resolved(row.status):
            self.summary.pass_over(row.status)
        elif row.id in self.unsettled.failing and row.id not in self._tickets.tried:
            self.summary.put_off += 1  # earlier runs could not fetch it, so it is fetched last
        elif await self._has(row, known, is_kept=is_kept):
            self.summary.seen += 1
            self.summary.already_there += 1
        else:
            await self._tickets.attempt(row.id, row, where)
            if row.id not in self.unsettled.failing and where == REQUESTS:
                self._looked_at[row.id] = row.updated

    async def _has(self, row: Row, known: Known | None, *, is_kept: bool) -> bool:
        """Return True if ticket_history has a ticket as the list shows it, or an earlier run has dealt with it.

        How a ticket was resolved that was not updated after the stored date is stored, unless nothing is: that may be
        said elsewhere in the ticket. What an earlier run dealt with is believed only if we have it: the tenant may be
        new, or a part of a backup restored.
        """
        if is_kept and self._looked_at.get(row.id) == row.updated:
            return True
        if known is None:
            return False
        is_later = comparison.is_later(row.updated, known.resolved)
        return (known.has_text and not is_later) or await self._tickets.is_as_stored(row)

    async def _read_archive(self) -> AsyncIterator[Summary]:
        """Deal with the tickets in ServiceDesk Plus' archive, and yield the summary after each page.

        Where there is none, or none that we may read, a remark says so.
        """
        before = self.summary.listed
        begin = epoch.milliseconds(self._begin.archive_position or self._begin.since or self._begin.at)
        try:
            async for page in pages.updated_from(self._client, max(begin, 0), ARCHIVE):
                if not await self._meet_others(page, ARCHIVE):
                    return
                yield self.summary
            first = epoch.milliseconds(self._begin.since or self._begin.at)
            async for page in Unedited(self._client, max(first, 0), ARCHIVE).until(float("inf")):
                if not await self._meet_others(page, ARCHIVE):
                    return
                yield self.summary
        except (RefusedError, AccessError, GoneError) as error:
            words = PART_OF_ARCHIVE if self.summary.listed > before else NO_ARCHIVE
            self.summary.remarks.append(words.format(error))

    async def _meet_others(self, page: Fresh, where: str = REQUESTS) -> bool:
        """Deal with the tickets of a page of another list; return False when the run must end."""
        for odd in page.odd:
            if odd.ticket_id not in self._tickets.tried and odd.ticket_id not in self.unsettled.failing:
                await self._meet_odd(odd)
        known, kept = await self._known(page)
        for row in page.rows:
            if self._is_over():
                return False
            await self._meet(row, known.get(row.id), is_kept=row.id in kept, where=where)
            if where == ARCHIVE and row.is_edited:
                self._archive_reached = min(row.updated, self._client.latest)
        return True
