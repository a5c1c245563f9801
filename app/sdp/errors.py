"""What can go wrong between us and a ServiceDesk Plus?

SdpError
├── TransientError   it may be otherwise in a moment: tried again
├── AccessError      it does not know us, or does not let us see tickets
└── GoneError        there is no such ticket

Each is one line for an operator, without a token in it.
"""

from collections.abc import Mapping
from email.utils import parsedate_to_datetime


class SdpError(Exception):
    """ServiceDesk Plus cannot be asked now, or says no; the message is why."""


class TransientError(SdpError):
    """It may be otherwise in a moment; not before `retry_after` seconds have passed."""

    def __init__(self, message: str, retry_after: float = 0.0) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class AccessError(SdpError):
    """ServiceDesk Plus does not know us, or does not let us see tickets."""


class GoneError(SdpError):
    """There is no such ticket, or there is none any more."""


def retry_after(headers: Mapping[str, str]) -> float:
    """Give the seconds that a Retry-After asks for, 0 for none. A date is reckoned by the clock of who wrote it."""
    asked = headers.get("retry-after", "")
    try:
        if asked.isdecimal():
            return float(asked)
        now, then = (parsedate_to_datetime(text) for text in (headers.get("date", ""), asked))
        return max((then - now).total_seconds(), 0.0)
    except (ValueError, TypeError):
        return 0.0
