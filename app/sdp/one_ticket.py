"""What becomes of one ticket? It is fetched where the list lacks something of it, appended, or left to later runs."""

import asyncio
import functools
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING

from sqlalchemy.ext.asyncio import AsyncConnection

from app import event
from app.event.rules import Rules
from app.sdp import answers, append, comparison, epoch, fetch
from app.sdp.answers import Status
from app.sdp.comparison import Known
from app.sdp.errors import AccessError, GoneError, LateError, NowhereError, PausedError, SdpError
from app.sdp.fetch import Fetched
from app.sdp.listed import ARCHIVE, REQUESTS, Row
from app.sdp.plan import Plan
from app.sdp.summary import Summary
from app.sdp.unsettled import Unsettled
from db import allowed, failures, inbox, ticket_history
from db.inbox import Delivery
from db.leases import Lease
from db.sdp import Config
from db.ticket_history import Stored, has_text

if TYPE_CHECKING:
    from app.sdp.client import Client

LONG_BYTES = 256 * 1024  # of a ticket
TURNS = 3  # in which a ticket is read again, as deliveries of it come meanwhile
MARGIN = 10.0  # seconds: a delivery's row has the time at which its transaction began
RESTLESS = f"while it was read, other deliveries of it came, {TURNS} times in turn"
HasCome = Callable[[], Awaitable[bool]]


async def _read(found: event.Event, body: bytes) -> event.ResolvedTicket:
    """Return the ticket of an event whose `body` breaks no rule."""
    # Reading long HTML takes a while, and in a worker other jobs and the heartbeat share this thread.
    return await asyncio.to_thread(found.ticket) if len(body) > LONG_BYTES else found.ticket()


class Tickets:
    """Deals with one ticket after the other, counts them in `summary`, and keeps those that are `unsettled`.

    `tried` are the ids of those that it has begun with.
    """

    def __init__(  # noqa: PLR0913, PLR0917  (what a ticket has to do with)
        self,
        connection: AsyncConnection,
        client: "Client",
        rules: Rules,
        config: Config,
        plan: Plan,
        lease: Lease,
        unsettled: Unsettled,
    ) -> None:
        self._connection, self._client, self._rules = connection, client, rules
        self._tenant_id, self._plan, self._lease = config.tenant_id, plan, lease
        self._allowed = allowed.configured(config.created_at)
        self._resolved = rules.resolved_statuses
        self._is_without_tags = False  # a whole ticket has none: that a list has none says nothing
        self._has_archive = True
        self.unsettled, self.summary = unsettled, Summary()
        self.tried: set[str] = set()

    def is_resolved(self, status: Status | None) -> bool:
        """Return True if a status counts as resolved; one that cannot be read does not."""
        return status is not None and status.is_one_of(self._resolved)

    def may_be_resolved(self, status: Status | None) -> bool:
        """Return True if a list's status counts as resolved, or has no name: then the whole ticket may say more."""
        return status is not None and (not status.is_named or self.is_resolved(status))

    async def known(self, ticket_ids: Sequence[str]) -> dict[str, Known]:
        """Return those of the tickets that ticket_history has, by their id."""
        found = await ticket_history.standing(self._connection, [(self._tenant_id, one) for one in ticket_ids])
        return {
            ticket_id: Known(epoch.milliseconds(one.resolved_date), one.has_text)
            for (_, ticket_id), one in found.items()
        }

    async def give_display_ids(self, rows: Sequence[Row]) -> None:
        """Give tickets of a list that ticket_history has without a display id the one in the list, and count them.

        An earlier version stored none, and a flat payload may name none.
        """
        if not self._plan.is_dry:
            found = {(self._tenant_id, row.id): row.display_id for row in rows}
            known = {key: one for key, one in found.items() if one}
            self.summary.named += await ticket_history.give_display_ids(self._connection, known)

    async def is_as_stored(self, row: Row) -> bool:
        """Return True if a list brought how a ticket was resolved, and when, and ticket_history has it so, or newer."""
        if {"resolution", "resolved_time"} & row.lacks():
            return False
        return not await self._is_news(row.id, fetch.payload(self._tenant_id, row.ticket))

    async def attempt(self, ticket_id: str, row: Row | None = None, where: str = REQUESTS) -> None:
        """Append a ticket that is in `where`, from its row of a list or fetched; if it cannot be, leave it to later.

        It counts as seen. Raises SdpError if none can be fetched now, TenantGoneError, LostError, or a database error.
        """
        self.tried.add(ticket_id)
        self.summary.seen += 1
        try:
            await self._deal_with(ticket_id, row, where)
        except (LateError, PausedError) as error:
            self.summary.failed += 1
            if isinstance(error, LateError):  # else the next run might spend all its time on it again
                self.unsettled.leave(ticket_id, str(error))
            raise
        except SdpError as error:
            await self._leave(ticket_id, str(error))
        except failures.DatabaseError as error:
            if not failures.is_fault_of_a_value(error):
                raise
            await self._leave(ticket_id, f"Postgres cannot store it: {failures.reason(error)}")
        else:
            self.unsettled.settle(ticket_id)

    async def _deal_with(self, ticket_id: str, row: Row | None, where: str) -> None:
        """Append a ticket unless we have it. Raises SdpError, or a database error.

        Of two deliveries of one date the later stands. One that came since the ticket was read may be of a later state,
        which must not be followed by what was read before it: then the ticket is read again.
        """
        brought = self._brought(row, where) if row else None
        if row and brought and await self._settle(brought, functools.partial(self._came_lately, row)):
            return
        for _ in range(TURNS):
            before = await inbox.deliveries_of(self._connection, self._tenant_id, ticket_id)
            try:
                fetched = await self._whole(ticket_id, where)
            except GoneError:
                self.summary.gone += 1
                return
            if await self._settle(fetched, functools.partial(self._came, ticket_id, before)):
                return
        raise SdpError(RESTLESS)

    async def _settle(self, fetched: Fetched, has_come: HasCome) -> bool:
        """Count a ticket, and append it if it is news; return False if another delivery of it came meanwhile."""
        status = answers.read_status(fetched.times.status)
        if status and not self.is_resolved(status):
            self.summary.gone += 1
            return True
        delivery = fetch.delivery(self._plan.source, fetched, self._tenant_id, self._rules)
        is_news = delivery.error or await self._is_news(fetched.ticket_id, fetched.body)
        if not is_news or await append.is_there(self._connection, delivery):
            self.summary.already_there += 1
            return True
        if await has_come():
            return False
        await self._append(delivery, fetched)
        return True

    async def _is_news(self, ticket_id: str, body: bytes) -> bool:
        """Return True if a ticket's payload would change what ticket_history has of it, or breaks a rule."""
        stored = await ticket_history.stored(self._connection, self._tenant_id, ticket_id)
        found = event.check(body, self._rules)
        if stored is None or found.broken:
            return True
        ticket = await _read(found, body)
        if not comparison.is_news(ticket, stored) or not has_text(stored.resolution):
            return comparison.is_news(ticket, stored)
        anew = await self._read_anew(stored)
        return comparison.is_news(ticket, anew or stored, by_letters=anew is None)

    async def _read_anew(self, stored: Stored) -> Stored | None:
        """Return what stands with its resolution read anew from its delivery, or None if that cannot be read.

        An earlier version may have read it otherwise, and without this each such ticket would be appended once more.
        """
        payload = await ticket_history.payload(self._connection, stored)
        found = event.check(payload, self._rules.of_accepted) if payload else None
        if payload is None or found is None or found.broken:
            return None
        return stored._replace(resolution=(await _read(found, payload)).resolution)

    async def _came(self, ticket_id: str, before: tuple[int, ...]) -> bool:
        return await inbox.deliveries_of(self._connection, self._tenant_id, ticket_id) != before

    async def _came_lately(self, row: Row) -> bool:
        seconds = (time.time_ns() - row.began) / 1e9 + MARGIN
        return await inbox.came_lately(self._connection, self._tenant_id, row.id, seconds)

    def _brought(self, row: Row, where: str) -> Fetched | None:
        """Return a ticket that a list brought; None where it lacks something that the whole ticket may have."""
        if row.lacks() - ({"tags"} if self._is_without_tags else set()):
            return None
        brought = fetch.listed(self._client, self._tenant_id, row, where)
        found = event.check(brought.body, self._rules)
        return None if found.broken or found.ignored else brought

    async def _whole(self, ticket_id: str, where: str) -> Fetched:
        """Fetch a ticket, from the archive where it is no more among the others. Raises SdpError."""
        try:
            fetched = await fetch.ticket(self._client, self._tenant_id, ticket_id, where)
        except GoneError:
            if where == ARCHIVE or not self._has_archive:
                raise
            fetched = await self._archived(ticket_id)
        self._is_without_tags |= not fetched.has_tags
        return fetched

    async def _archived(self, ticket_id: str) -> Fetched:
        """Fetch a ticket from the archive. Raises GoneError if it is not there, or there is none that may be read."""
        try:
            return await fetch.ticket(self._client, self._tenant_id, ticket_id, ARCHIVE)
        except (AccessError, NowhereError) as error:
            self._has_archive = False
            raise GoneError(str(error)) from None

    async def _leave(self, ticket_id: str, why: str) -> None:
        """Leave a ticket that cannot be fetched to later runs; raise SdpError if no ticket can be fetched now."""
        self.summary.failed += 1
        self.summary.error = f"ticket {ticket_id} cannot be fetched: {why}"
        try:
            await self._client.reach()
        except LateError:
            self.unsettled.leave(ticket_id, why)
            raise
        except PausedError:
            raise
        except SdpError:
            raise SdpError(self.summary.error) from None
        self.unsettled.leave(ticket_id, why)

    async def _append(self, delivery: Delivery, fetched: Fetched) -> None:
        """Append a ticket to the inbox, if this run may."""
        if not self._plan.is_dry:
            await append.append(self._connection, delivery, fetched, self._lease, self._allowed)
        self.summary.archived += fetched.where == ARCHIVE
        if delivery.error:
            self.summary.rejected += 1
        else:
            self.summary.appended += 1
