"""What is a run to do, and where does it begin? Shortly before the cursor, or where the last run stopped early."""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta

import msgspec

from db import inbox

# A ticket may become visible a while after its update time: its transaction took long, or another node's clock is
# behind. So each run reads the last ten minutes again; a ticket that we have costs only its row in a list.
OVERLAP = timedelta(minutes=10)


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """What a run does: where it begins, as which source, for how many seconds at most, and what it may change.

    `reads_archive` where it looks back so far that ServiceDesk Plus may have archived tickets since.
    """

    source: str = inbox.API
    since: datetime | None = None
    seconds: float | None = None
    is_dry: bool = False
    moves_cursor: bool = True
    reads_archive: bool = False


class Begin(msgspec.Struct, frozen=True, kw_only=True):
    """Where a run begins: the cursor, and what earlier runs left behind.

    Runs that end early make one pass between them: each begins where the one before it stopped. The pass after it reads
    all of it again, from ten minutes before where the cursor was when it began: tickets may have become visible since.
    """

    position: datetime
    begins_at: datetime | None = None  # where the last run stopped early, or a pass in several runs is read again from
    pass_position: datetime | None = None  # the cursor when the pass began that the last run belongs to
    failing: Sequence[str] = ()  # tickets that could not be fetched
    reasons: Mapping[str, str] = {}  # why
    looked_at: Mapping[str, int] = {}  # tickets that were dealt with, and their update times
    since: datetime | None = None  # where the first run began
    archive_position: datetime | None = None  # how far runs have read the archive

    @property
    def at(self) -> datetime:
        """Where this run begins."""
        return self.begins_at or self.position - OVERLAP

    @property
    def goes_on(self) -> bool:
        """Return True if this run goes on with a pass."""
        return self.pass_position is not None

    @property
    def of_pass(self) -> datetime:
        """The cursor when the pass began."""
        return self.pass_position or self.position
