"""Does this worker still work? It writes heartbeats, its fetches come back, and its event loop turns."""

import asyncio
import contextlib
import time
from collections.abc import Iterator

STEP = 1.0  # seconds between two looks
SILENT_STEPS = 10  # looks without a new heartbeat, after which the work begins anew
FRESH = 10.0  # seconds for which a heartbeat and a fetch count as lately
HANGS_AFTER = 60.0  # seconds for which the event loop may stand still; decoding a large batch takes two


class VitalSigns:
    """When the worker last wrote a heartbeat, fetched and turned, by the monotonic clock; and its jobs in hand."""

    def __init__(self, slots: int) -> None:
        self.slots = slots
        self.in_hand: set[asyncio.Task[object]] = set()
        self.fetched_at = float("-inf")
        self.beat_at = self.began_at = self.turned_at = time.monotonic()
        self.is_stopping = False
        self.was_ready = False  # since the process started

    def begin(self) -> None:
        """Note that the worker tries to begin, or to begin anew."""
        self.began_at = time.monotonic()

    def beat(self) -> None:
        """Note that a heartbeat was written."""
        self.beat_at = time.monotonic()

    def fetched(self) -> None:
        """Note that a fetch came back, with a job or without."""
        self.fetched_at = time.monotonic()

    @contextlib.contextmanager
    def job_in_hand(self) -> Iterator[None]:
        """Count the current task as a job in hand until the block ends."""
        task = asyncio.current_task()
        assert task is not None  # noqa: S101  (a job is a task)
        self.in_hand.add(task)
        try:
            yield
        finally:
            self.in_hand.discard(task)

    async def turn(self) -> None:
        """Note, for ever, that the event loop turns."""
        while True:
            self.turned_at = time.monotonic()
            self.was_ready = self.was_ready or not self.why_not_ready()
            await asyncio.sleep(STEP)

    async def silence(self) -> None:
        """Return once no heartbeat was written for SILENT_STEPS looks, since the worker began and wrote the first one.

        Looks are counted, and not seconds: a process that was frozen first gets the time to write one.
        """
        missed, last = 0, self.beat_at
        while missed < SILENT_STEPS:
            await asyncio.sleep(STEP)
            missed = missed + 1 if self.began_at < self.beat_at == last else 0
            last = self.beat_at

    async def idle(self, seconds: float) -> None:
        """Return once no job has been in hand for `seconds`."""
        since = time.monotonic()
        while time.monotonic() - since < seconds:
            await asyncio.sleep(STEP / 10)
            since = time.monotonic() if self.in_hand else since

    def let_go(self) -> None:
        """Cancel the jobs in hand."""
        for task in self.in_hand:
            task.cancel()

    def heartbeat_age(self) -> float:
        """Return the seconds since the last heartbeat was written, or since the process started."""
        return time.monotonic() - self.beat_at

    def has_worked(self) -> bool:
        """Return True if a fetch came back since the worker last tried to begin."""
        return self.fetched_at > self.began_at

    def why_not_live(self) -> str:
        """Return why only a restart can help, or an empty text. Postgres being away is no reason."""
        stands = time.monotonic() - self.turned_at
        return f"the event loop has stood still for {stands:.0f} s" if stands > HANGS_AFTER else ""

    def why_not_ready(self) -> str:
        """Return why the worker promotes nothing now, or an empty text."""
        if self.is_stopping:
            return "the worker is stopping"
        if self.heartbeat_age() > FRESH:
            return f"no heartbeat was written for {self.heartbeat_age():.0f} s"
        if time.monotonic() - self.fetched_at > FRESH and len(self.in_hand) < self.slots:
            return f"no fetch came back in the last {FRESH:.0f} s"
        return ""
