"""What came of a run? Tickets counted by what was done with them."""

import msgspec

COUNTED = ("seen", "already_there", "appended", "rejected", "gone", "failed")


class Summary(msgspec.Struct):
    """Resolved tickets that a run has `seen`, and what became of each.

    `error` is why it ended before its end, or which ticket it could not have.
    """

    seen: int = 0
    already_there: int = 0  # ticket_history, or the inbox, has it as it is
    appended: int = 0
    rejected: int = 0  # appended too, but it breaks our rules
    gone: int = 0  # deleted, or opened again, since it was listed
    failed: int = 0  # they could not be had, and are asked for again by later runs
    listed: int = 0  # tickets of any status
    total: int = 0  # that there were to list, as far as ServiceDesk Plus said
    is_complete: bool = False
    error: str | None = None

    def counts(self) -> dict[str, int]:
        """Give how many tickets there were of each outcome."""
        return {name: getattr(self, name) for name in COUNTED}
