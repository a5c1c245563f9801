"""How are the events of a batch stored, even if Postgres refuses one of them?"""

import itertools
from collections.abc import Sequence

from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection

from db import failures, ticket_history
from db.inbox import Outcome
from jobs import actions, merge
from jobs.decode import ClaimedEvent


async def store(connection: AsyncConnection, events: Sequence[ClaimedEvent]) -> list[Outcome]:
    """Upsert `events`, which are sorted by key and id, and return the outcome of each.

    If Postgres refuses a value, the batch is halved until the event that holds it is alone, and only that event fails.
    Raises all other errors of Postgres.
    """
    outcomes: list[Outcome] = []
    parts = [events] if events else []
    while parts:
        part = parts.pop()
        try:
            async with connection.begin_nested():
                outcomes += await _upsert(connection, part)
        except DBAPIError as error:
            if not failures.is_fault_of_a_value(error):
                raise
            if len(part) > 1:
                half = len(part) // 2
                parts += [part[half:], part[:half]]
                continue
            [one] = part
            refused = f"Postgres refuses it: {failures.reason(error)}"
            ids = {"ticket_id": one.ticket.ticket_id, "display_id": one.display_id}
            outcomes.append(Outcome(id=one.row.id, status="failed", error=refused, **ids))
    return outcomes


async def _upsert(connection: AsyncConnection, events: Sequence[ClaimedEvent]) -> list[Outcome]:
    tickets = {key: list(group) for key, group in itertools.groupby(events, key=lambda one: one.key)}
    winners = [merge.winner(group) for group in tickets.values()]
    # What stood before matters only to a ticket with several events in this batch: their actions depend on it.
    before = await ticket_history.standing(connection, [key for key, group in tickets.items() if len(group) > 1])
    written = await ticket_history.upsert(connection, winners, [one.row.id for one in events])
    # A row without a display id gets it also from an event that changes nothing else.
    stale = {one.key: one.display_id for one in winners if one.display_id and one.key not in written}
    await ticket_history.give_display_ids(connection, stale)
    found = (actions.outcomes(group, before.get(key), written.get(key)) for key, group in tickets.items())
    return list(itertools.chain.from_iterable(found))
