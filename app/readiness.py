"""Has this process been ready since its start, why not, and for how long does it wait?

What is wrong at a start (no such database, no schema) mostly stays so until a person comes; what is wrong later is an
outage, which ends by itself. So only a process that never was ready gives up (docs/decisions/0044).
"""

import logging
import time

from otel import logs

EVERY = 60.0  # seconds between two lines about a process that is not ready yet


class Readiness:
    """What the last looks at Postgres and the schema have shown."""

    def __init__(self) -> None:
        self.was_ready = False
        self.is_logged = False  # while it is not: then no other line needs to say why
        self.trouble: str | None = None  # by the last look; None before the first, and where there is none

    def is_awaited(self) -> bool:
        """Return True while a line a minute says why this process is not ready yet."""
        return self.is_logged and not self.was_ready

    def note(self, trouble: str | None) -> None:
        """Note what a look has shown: why this process is not ready, or None."""
        self.trouble = trouble
        self.was_ready = self.was_ready or trouble is None


class Patience:
    """The wait of a process, or of several, for its first moment of readiness; `seconds` of 0 are for ever."""

    def __init__(self, seconds: float, every: float = EVERY) -> None:
        self._seconds, self._every = seconds, every
        self._began, self._logged_at = time.monotonic(), float("-inf")

    def is_over(self) -> bool:
        """Return True once the time is over."""
        return 0 < self._seconds < time.monotonic() - self._began

    def log(self, logger: logging.Logger, trouble: str | None) -> None:
        """Log why the server waits, now and then once a minute."""
        if trouble and time.monotonic() - self._logged_at >= self._every:
            self._logged_at = time.monotonic()
            logs.log(logger, logging.WARNING, "server_waits", error=trouble)

    def log_end(self, logger: logging.Logger, trouble: str | None) -> None:
        """Log why the process ends."""
        why = trouble or "it has not begun to work"
        error = f"never ready in {self._seconds:g} s since the start (START_PATIENCE_SECONDS): {why}"
        logs.log(logger, logging.ERROR, "start_given_up", error=error)


this_process = Readiness()
