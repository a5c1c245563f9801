"""How does ServiceDesk Plus write a time, and what time is it there? Times are milliseconds since 1970."""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
AHEAD = timedelta(hours=24)  # what a time may lie in the future: clocks of its machines differ, and so do time zones
# The most by which its clock may differ from ours and still be believed; else one wrong Date would move the cursor on.
APART = timedelta(days=7)


class Clock:
    """How far a ServiceDesk Plus' clock is ahead of ours, by the Date of its last answer; 0 without one."""

    def __init__(self) -> None:
        self._ahead = timedelta(0)

    def read(self, headers: Mapping[str, str]) -> None:
        """Compare the Date of an answer that has just come with our clock."""
        try:
            ahead = parsedate_to_datetime(headers.get("date", "")) - datetime.now(UTC)
        except (ValueError, TypeError, OverflowError):
            return
        self._ahead = ahead if abs(ahead) <= APART else timedelta(0)

    def latest(self) -> int:
        """Return the latest time that it can have written, in milliseconds."""
        return milliseconds(datetime.now(UTC) + max(self._ahead, timedelta(0)) + AHEAD)


def latest_ever() -> datetime:
    """Return the latest time that any clock that is believed can have written."""
    return datetime.now(UTC) + APART + AHEAD


def moment(milliseconds: int) -> datetime:
    """Return the time, in UTC, of so many milliseconds. Raises OverflowError past the year 9999."""
    return _EPOCH + timedelta(milliseconds=milliseconds)


def milliseconds(when: datetime) -> int:
    """Return the whole milliseconds of a time; of one before 1970 they are below 0."""
    return (when - _EPOCH) // timedelta(milliseconds=1)


def words(milliseconds: int) -> str:
    """Return a time as a person reads it, in UTC; of one that no calendar has, its milliseconds."""
    try:
        return f"{moment(milliseconds):%Y-%m-%d %H:%M}"
    except OverflowError:
        return f"{milliseconds} ms"
