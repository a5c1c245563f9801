"""How does ServiceDesk Plus write a time? As milliseconds since 1970."""

from datetime import UTC, datetime, timedelta

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def moment(milliseconds: int) -> datetime:
    """Return the time, in UTC, of so many milliseconds. Raises OverflowError past the year 9999."""
    return _EPOCH + timedelta(milliseconds=milliseconds)


def milliseconds(when: datetime) -> int:
    """Return the whole milliseconds of a time; of one before 1970 they are below 0."""
    return (when - _EPOCH) // timedelta(milliseconds=1)
