"""What was the outcome of a run? Its tickets, counted by what happened to each."""

from collections.abc import Iterator, Mapping, Sequence

import msgspec

from app.sdp.answers import Status

MOST_LABELS = 30  # statuses that are counted by name
OTHERS = "(others)"
PASSED_AS_DONE = (
    "passed over, although ServiceDesk Plus says that they are done: {}. If such a status means that a ticket is "
    "resolved, add it to RESOLVED_STATUSES, and run `ticket-inbox reconcile --since 1y`"
)
NONE_SHOWN = (
    "ServiceDesk Plus says that there are tickets, and lists none of them: "
    "see to it that the technician of our key may see all requests"
)
NONE_RESOLVED = "none resolved by RESOLVED_STATUSES"
COUNTED = ("seen", "already_there", "appended", "rejected", "gone", "failed")


class Summary(msgspec.Struct):
    """How many resolved tickets a run has `seen`, and how many had each outcome.

    `error` is why the run stopped early, or which ticket it could not fetch; `remarks` are what else is to be known.
    """

    seen: int = 0
    already_there: int = 0  # ticket_history or the inbox has the ticket as it is
    appended: int = 0
    rejected: int = 0  # appended too, but it breaks our rules
    gone: int = 0  # deleted, or opened again, since it was listed
    failed: int = 0  # could not be fetched; later runs try again
    archived: int = 0  # of those that were appended: ServiceDesk Plus has them in its archive
    named: int = 0  # tickets that we had without their display id, and that got it
    listed: int = 0  # rows of lists: tickets of any status
    passed_over: int = 0  # of those: tickets whose status is none of RESOLVED_STATUSES
    passed: dict[str, int] = {}  # the same by the name of their status
    done: dict[str, int] = {}  # of those: ServiceDesk Plus says that they are no more in progress
    put_off: int = 0  # of those: they are fetched after all others, as the row is odd, or an earlier run could not
    tried_last: int = 0  # tickets that were fetched after all others, whether or not this run listed them
    total: int = 0  # tickets to list, if ServiceDesk Plus says how many
    is_complete: bool = False
    error: str | None = None
    remarks: list[str] = []

    def counts(self) -> dict[str, int]:
        """Return the number of tickets of each outcome."""
        return {name: getattr(self, name) for name in COUNTED}

    @property
    def adds_up(self) -> bool:
        """Whether each ticket that was listed, or tried again, has one outcome."""
        outcomes = self.already_there + self.appended + self.rejected + self.gone + self.failed
        is_each = self.listed + self.tried_last == self.seen + self.passed_over + self.put_off
        return self.seen == outcomes and is_each and self.passed_over == sum(self.passed.values())

    def pass_over(self, status: Status) -> None:
        """Count a ticket of another status than those that count as resolved."""
        self.passed_over += 1
        _count(self.passed, status)
        if status.is_done:
            _count(self.done, status)

    def statuses(self) -> str:
        """Return how many tickets were listed, and by status how many of them were passed over, in words."""
        resolved = self.listed - self.passed_over - self.put_off
        parts = [f"{resolved:,} resolved"] if resolved else []
        parts += [f"{self.put_off:,} fetched last"] if self.put_off else []
        parts += [in_words(self.passed)] if self.passed else []
        return ", ".join([*parts, *([] if resolved or not parts else [NONE_RESOLVED])])

    def passed_as_done(self) -> Iterator[str]:
        """Yield, in words, which tickets were passed over although ServiceDesk Plus says that they are done."""
        if self.done:
            yield PASSED_AS_DONE.format(in_words(self.done))


def in_words(counts: Mapping[str, int]) -> str:
    """Return statuses and how many tickets have each, the most frequent first."""
    return ", ".join(f"{label} {count:,}" for label, count in in_order(counts))


def in_order(counts: Mapping[str, int]) -> Sequence[tuple[str, int]]:
    """Return the statuses with their counts, the most frequent first."""
    return sorted(counts.items(), key=lambda one: (-one[1], one[0]))


def _count(counts: dict[str, int], status: Status) -> None:
    label = status.label if status.label in counts or len(counts) < MOST_LABELS else OTHERS
    counts[label] = counts.get(label, 0) + 1
