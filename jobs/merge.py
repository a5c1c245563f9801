"""What would the events of one ticket in a batch store together? Pure functions."""

from collections.abc import Sequence

from db.ticket_history import Winner
from jobs.decode import ClaimedEvent


def winner(group: Sequence[ClaimedEvent]) -> Winner:
    """Return what a ticket's events, given in order of id, would store.

    The first event sets what is only ever inserted, the newest sets the rest; but of the display ids the first counts.
    """
    first, newest = group[0], max(group, key=lambda one: one.age)
    return Winner(
        tenant_id=first.row.tenant_id,
        ticket_id=first.ticket.ticket_id,
        display_id=next((one.display_id for one in group if one.display_id), None),
        description=first.ticket.description,
        priority=first.ticket.priority,
        tags=first.ticket.tags,
        resolution=newest.ticket.resolution,
        resolved_date=newest.ticket.resolved_date,
        source=newest.row.source,
        inbox_id=newest.row.id,
    )
