"""What can go wrong between us and a ServiceDesk Plus?

SdpError
├── TransientError   a later try may succeed: retried
├── AccessError      it refuses our credentials, or does not let us see tickets
├── GoneError        there is no such ticket
└── LateError        the time of the run is up
TenantGoneError      no fault of ServiceDesk Plus: the run is to end

Each message is one line for an operator, without a token in it.
"""

from collections.abc import Mapping
from email.utils import parsedate_to_datetime


class SdpError(Exception):
    """ServiceDesk Plus cannot be asked now, or refuses; the message is why."""


class TenantGoneError(Exception):
    """The tenant was disabled or removed, or its ServiceDesk Plus was forgotten, since the run began."""


class TransientError(SdpError):
    """A later try may succeed, but not before `retry_after` seconds have passed."""

    def __init__(self, message: str, retry_after: float = 0.0) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class AccessError(SdpError):
    """ServiceDesk Plus refuses our credentials, or does not let us see tickets."""


class GoneError(SdpError):
    """There is no such ticket, or no longer."""


class LateError(SdpError):
    """No answer came before the time of the run was up: whose fault that is, is not known."""


def retry_after(headers: Mapping[str, str]) -> float:
    """Return the seconds that Retry-After asks for, 0 without one. A date is compared with the answer's own Date."""
    asked = headers.get("retry-after", "")
    try:
        if asked.isdecimal():
            return float(asked)
        now, then = (parsedate_to_datetime(text) for text in (headers.get("date", ""), asked))
        return max((then - now).total_seconds(), 0.0)
    except (ValueError, TypeError):
        return 0.0
