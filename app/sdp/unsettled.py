"""Which tickets is a run not done with? Those that could not be fetched, and those that are odd, each with a reason."""

from collections.abc import Mapping, Sequence

from app.sdp.errors import SdpError

MOST = 100  # tickets of each kind; if there are more, it is not the tickets that are at fault
NO_ID = "(no id)"  # stands for the tickets whose id cannot be read


class Unsettled:
    """The tickets that are `failing`, in the order in which they are fetched again, and why; and the odd ones.

    `failing` and `reasons` are those of earlier runs. The odd ones are those that this run has listed.
    """

    def __init__(self, failing: Sequence[str], reasons: Mapping[str, str]) -> None:
        self.failing = list(failing)
        self._reasons = {one: reasons[one] for one in failing if one in reasons}
        self._odd: dict[str, str] = {}

    @property
    def reasons(self) -> dict[str, str]:
        """What is wrong with each of the tickets."""
        return self._odd | self._reasons

    @property
    def error(self) -> str | None:
        """What is wrong, in a line; None if nothing is."""
        if self.failing:
            return f"tickets that could not be fetched yet: {len(self.failing)}; next is {self.failing[0]}"
        others = f"; and {len(self._odd) - 1} more: see `ticket-inbox tenant sdp show`" if len(self._odd) > 1 else ""
        return next((f"ticket {one}: {why}{others}" for one, why in self._odd.items()), None)

    def remark(self, ticket_id: str | None, why: str) -> None:
        """Note that a ticket is odd, which is no reason not to fetch it: beyond the first hundred it is not noted."""
        if len(self._odd) < MOST:
            self._odd[ticket_id or NO_ID] = why

    def refuse(self, ticket_id: str, why: str) -> None:
        """Note that a ticket is so odd that the run cannot follow it. Raises SdpError if too many are."""
        self._odd[ticket_id] = why
        if len(self._odd) > MOST:
            raise SdpError(f"ticket {ticket_id}: {why}; and {MOST} before it are odd too")

    def leave(self, ticket_id: str, why: str) -> None:
        """Leave a ticket to later runs, which fetch it after all others. Raises SdpError if too many are left."""
        others = [one for one in self.failing if one != ticket_id]
        if len(others) == MOST:
            raise SdpError(f"ticket {ticket_id} cannot be fetched: {why}; nor can {MOST} before it")
        self.failing = [*others, ticket_id]
        self._reasons[ticket_id] = why

    def settle(self, ticket_id: str) -> None:
        """Note that a ticket was dealt with."""
        self.failing = [one for one in self.failing if one != ticket_id]
        self._reasons.pop(ticket_id, None)
