"""Which of a ticket's events in a batch stands, and what did each of them do? Pure functions."""

from collections.abc import Iterator, Sequence

import msgspec

from app import event
from db.inbox import ClaimedRow
from db.ticket_history import Key, Standing, Winner


class Event(msgspec.Struct, frozen=True):
    """A claimed inbox row and the ticket that it holds."""

    row: ClaimedRow
    ticket: event.ResolvedTicket

    @property
    def key(self) -> Key:
        """Tenant and ticket; batches are sorted by it."""
        return self.row.tenant_id, self.ticket.ticket_id

    @property
    def age(self) -> Standing:
        """What decides which of two events is newer."""
        return self.ticket.resolved_date, self.row.id


def winner(group: Sequence[Event]) -> Winner:
    """Choose what a ticket's events, which are in order of id, would store.

    The first sets what is only ever inserted, the newest the rest.
    """
    first, newest = group[0], max(group, key=lambda one: one.age)
    return Winner(
        tenant_id=first.row.tenant_id,
        ticket_id=first.ticket.ticket_id,
        description=first.ticket.description,
        priority=first.ticket.priority,
        tags=first.ticket.tags,
        resolution=newest.ticket.resolution,
        resolved_date=newest.ticket.resolved_date,
        source=newest.row.source,
        inbox_id=newest.row.id,
    )


def actions(group: Sequence[Event], before: Standing | None, written: str | None) -> Iterator[tuple[int, str]]:
    """Tell for each of a ticket's events, in order of id, what it did, as if they had been promoted one by one."""
    stands = before
    for place, one in enumerate(group):
        if written is None:
            yield one.row.id, "stale"
        elif written == "inserted" and place == 0:
            yield one.row.id, "inserted"
            stands = one.age
        elif stands is None or one.age > stands or one.row.id == stands[1]:
            yield one.row.id, "updated"
            stands = one.age
        else:
            yield one.row.id, "stale"
