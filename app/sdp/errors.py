"""What can go wrong between us and a ServiceDesk Plus?

SdpError
├── TransientError      a later try may succeed: retried
│   ├── AwayError       it does not answer at all, or not now
│   └── DeniedError     Zoho gives no token now
├── PausedError         it asked us to pause, and the time is not up
├── AccessError         it refuses our credentials, or does not let us see tickets
├── GoneError           there is no such ticket
├── RefusedError        it refuses this request, and would again
│   └── NowhereError    nothing of it is at this address
├── TooLongError        its answer is longer than we read
└── LateError           the time of the run is up
TenantGoneError         no fault of ServiceDesk Plus: the run is to end

Each message is one line for an operator, without a token in it.
"""

from collections.abc import Mapping
from email.utils import parsedate_to_datetime

LONGEST_PAUSE = 3600.0  # seconds that a Retry-After may ask for: a gateway's mistake must not stop a tenant for days
PAUSE = 300.0  # seconds for which a portal locks those who asked too often, if it does not say so itself


class SdpError(Exception):
    """ServiceDesk Plus cannot be asked now, or refuses; the message is why."""


class TenantGoneError(Exception):
    """The tenant was disabled or removed, or its ServiceDesk Plus was forgotten, since the run began."""


class TransientError(SdpError):
    """A later try may succeed, but not before `retry_after` seconds have passed."""

    def __init__(self, message: str, retry_after: float = 0.0) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class AwayError(TransientError):
    """ServiceDesk Plus does not answer, or not now; a request for less would fare no better."""


class DeniedError(TransientError):
    """Zoho gives no token now, because too many were asked for."""


class PausedError(SdpError):
    """ServiceDesk Plus, or Zoho, asked us to pause; no ticket is at fault."""


class AccessError(SdpError):
    """ServiceDesk Plus refuses our credentials, or does not let us see tickets."""


class GoneError(SdpError):
    """There is no such ticket, or no longer."""


class RefusedError(SdpError):
    """ServiceDesk Plus refuses this request, and would refuse it again."""


class NowhereError(RefusedError):
    """A 404 without a word of ServiceDesk Plus: it comes from a gateway, or the address is wrong."""


class TooLongError(SdpError):
    """An answer is longer than we read."""


class LateError(SdpError):
    """No answer came before the time of the run was up: whose fault that is, is not known."""


def retry_after(headers: Mapping[str, str], otherwise: float = 0.0) -> float:
    """Return the seconds that Retry-After asks for; `otherwise` without one that can be read.

    A date is compared with the answer's own Date.
    """
    asked = headers.get("retry-after", "")
    try:
        if asked.isdecimal():
            return min(float(asked), LONGEST_PAUSE)
        now, then = (parsedate_to_datetime(text) for text in (headers.get("date", ""), asked))
        return min(max((then - now).total_seconds(), 0.0), LONGEST_PAUSE)
    except (ValueError, TypeError):
        return otherwise
