"""What would the first tickets of a report be, as they would be stored?"""

from collections.abc import Iterable, Iterator
from itertools import islice
from typing import TYPE_CHECKING

from app import event

if TYPE_CHECKING:
    from app.event.rules import ResolvedTicket, Rules
    from db.inbox import Delivery

SHOWN = 3  # tickets
WIDEST = 200  # characters of a text


class Preview:
    """Keeps the first good deliveries of a file."""

    def __init__(self) -> None:
        self._first: list[Delivery] = []

    def seen(self, batches: "Iterable[list[Delivery]]") -> "Iterator[list[Delivery]]":
        """Yield the batches."""
        for batch in batches:
            self._first += islice(batch, SHOWN - len(self._first))
            yield batch

    def lines(self, rules: "Rules") -> Iterator[str]:
        """Yield the tickets in words, each in some lines."""
        for delivery in self._first:
            yield from _lines_of(event.decode(delivery.payload, rules))


def _lines_of(ticket: "ResolvedTicket") -> Iterator[str]:
    subject, _, description = ticket.description.partition("\n\n")
    resolved, priority = ticket.resolved_date.isoformat(), ticket.priority or "(none)"
    yield f"ticket {ticket.ticket_id}, resolved {resolved}, priority {priority}"
    if ticket.tags:
        yield f"  tags: {', '.join(ticket.tags)}"
    for name, text in (("subject", subject), ("description", description), ("resolution", ticket.resolution)):
        yield f"  {name}: {' '.join(text.split())[:WIDEST] or '(empty)'}"
