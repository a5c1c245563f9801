"""Which action did each of a ticket's events in a batch have: `inserted`, `updated` or `stale`?"""

from collections.abc import Iterator, Sequence

from db.inbox import Outcome
from db.ticket_history import Standing
from jobs.decode import ClaimedEvent


def outcomes(group: Sequence[ClaimedEvent], before: Standing | None, written: str | None) -> Iterator[Outcome]:
    """Yield the outcome of each of a ticket's events, in order of id, as if they had been promoted one by one.

    `before` is what stood in ticket_history; None if nothing did, or if it does not matter and was not read.
    `written` is what the batch did to the ticket as a whole: `inserted`, `updated`, or None if something newer stands.
    """
    stands = None if written == "inserted" else before
    for one in group:
        if written is None:
            action = "stale"
        elif stands is None or one.age > stands or one.row.id == stands.inbox_id:
            action = "inserted" if written == "inserted" and one is group[0] else "updated"
            stands = one.age
        else:
            action = "stale"
        ids = {"ticket_id": one.ticket.ticket_id, "display_id": one.display_id}
        yield Outcome(id=one.row.id, status="promoted", action=action, **ids)
