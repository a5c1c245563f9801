"""What was the outcome of a run? Its tickets, counted by what happened to each."""

import msgspec

COUNTED = ("seen", "already_there", "appended", "rejected", "gone", "failed")


class Summary(msgspec.Struct):
    """How many resolved tickets a run has `seen`, and how many had each outcome.

    `error` is why the run stopped early, or which ticket it could not fetch.
    """

    seen: int = 0
    already_there: int = 0  # ticket_history or the inbox has the ticket as it is
    appended: int = 0
    rejected: int = 0  # appended too, but it breaks our rules
    gone: int = 0  # deleted, or opened again, since it was listed
    failed: int = 0  # could not be fetched; later runs try again
    listed: int = 0  # tickets of any status
    total: int = 0  # tickets to list, if ServiceDesk Plus says how many
    is_complete: bool = False
    error: str | None = None

    def counts(self) -> dict[str, int]:
        """Return the number of tickets of each outcome."""
        return {name: getattr(self, name) for name in COUNTED}
