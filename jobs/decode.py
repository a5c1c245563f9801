"""Which ticket does each claimed row hold, and which rows hold none?"""

from collections.abc import Sequence

import msgspec

from app import event
from app.event import ResolvedTicket
from app.event.rules import Rules
from db.inbox import ClaimedRow, Outcome
from db.ticket_history import Key, Standing, has_text
from jobs import settings

RULES = Rules.of(settings)


class ClaimedEvent(msgspec.Struct, frozen=True):
    """A claimed inbox row, the ticket that it holds, and the number that people know that by."""

    row: ClaimedRow
    ticket: ResolvedTicket
    display_id: str | None = None

    @property
    def key(self) -> Key:
        """Tenant and ticket; batches are sorted by it."""
        return self.row.tenant_id, self.ticket.ticket_id

    @property
    def age(self) -> Standing:
        """Of two events of a ticket, the one with the larger `age` is newer."""
        return Standing(self.ticket.resolved_date, has_text(self.ticket.resolution), self.row.id)


def decode(rows: Sequence[ClaimedRow]) -> tuple[list[ClaimedEvent], list[Outcome]]:
    """Return the events in `rows`, sorted by key and id, and an outcome for each row that holds no valid event."""
    read = [_read(row) for row in rows]
    events = [one for one in read if isinstance(one, ClaimedEvent)]
    return sorted(events, key=lambda one: (one.key, one.row.id)), [one for one in read if isinstance(one, Outcome)]


def _read(row: ClaimedRow) -> ClaimedEvent | Outcome:
    """Decode a row: today's rules apply to a rejected one; to any other, the rules under which it was accepted."""
    is_rejected = row.status == "rejected"
    status = "rejected" if is_rejected else "failed"
    try:
        parsed = event.check(row.payload, RULES if is_rejected else RULES.of_accepted)
        if not parsed.broken:
            return ClaimedEvent(row, parsed.ticket(), parsed.display_id)
    except ValueError:
        return Outcome(id=row.id, status=status, error="the payload is not a JSON object in UTF-8")
    error = parsed.error if is_rejected else f"the payload breaks its schema: {parsed.error}"
    return Outcome(id=row.id, status=status, ticket_id=parsed.ticket_id, display_id=parsed.display_id, error=error)
