"""How many webhooks may wait for Postgres at once, and whose? What is beyond that is refused at once.

As many as were answered soon of late: a limit that no measurement moves is too high for a slow disk or too low for a
fast one (docs/decisions/0025).
"""

import asyncio
from collections import Counter

TARGET = 0.05  # seconds that a webhook may wait for its commit; reading and answering it take their time too
PERIOD = 0.1  # seconds for which all wait longer before the limit falls: a burst or one slow commit is no overload
FALL, RISE = 0.2, 0.05  # least that is left of it then; and by what part of a batch that was soon committed it rises
CALM = 5.0  # seconds without a crowd, after which the limit is what it was: the next burst is none of this one's
LEAST = 100  # rows that may always wait; a Postgres that stood still for a while must not refuse a trickle


class Room:
    """Counts what waits, in all and by tenant, and tells who may still come."""

    def __init__(self, rows: int, size: int) -> None:
        self._most, self._most_bytes = rows, size
        self._limit = float(rows)
        self._rows = self._bytes = 0
        self._coming = 0  # let in during this turn of the loop, and not yet among the rows
        self._held: Counter[str] = Counter()
        self._well_at = float("-inf")  # when something was soon committed, or the limit fell
        self._crowd_came = False  # since something was last committed
        self._crowded_at = float("-inf")

    @property
    def limit(self) -> int:
        """How many may wait now."""
        return int(self._limit)

    @property
    def is_crowded(self) -> bool:
        """Whether not everybody may come."""
        return self._rows + self._coming >= self._limit

    def expect(self) -> None:
        """Count one that was let in, until it has had its turn."""
        if not self._coming:
            asyncio.get_running_loop().call_soon(self._forget_coming)
        self._coming += 1

    def has_place(self, tenant_id: str, size: int) -> bool:
        """Tell whether one more of the tenant's, of `size` bytes, may wait.

        Past the limit only for whom less waits than its share, up to twice the limit: a tenant that fills it, as long
        as nobody else is there, is not to keep the others out.
        """
        if self._bytes + size > self._most_bytes:
            return False
        if not self.is_crowded:
            return True
        self._crowd_came = True
        held = self._held[tenant_id]
        tenants = len(self._held) + (not held)
        return held < self._limit / tenants and self._rows + self._coming < 2 * self._limit

    def enter(self, tenant_id: str, size: int) -> None:
        """Count one that waits."""
        self._rows += 1
        self._bytes += size
        self._held[tenant_id] += 1

    def leave(self, tenant_id: str, size: int) -> None:
        """Count one less."""
        self._rows -= 1
        self._bytes -= size
        self._held[tenant_id] -= 1
        if not self._held[tenant_id]:
            del self._held[tenant_id]

    def learn(self, rows: int, waited: float, now: float) -> None:
        """Take note that `rows` were dealt with, the first of which had waited that long."""
        if self._crowd_came:
            self._crowd_came, self._crowded_at = False, now
        elif now - self._crowded_at > CALM:
            self._limit = self._most
        if waited <= TARGET:
            self._well_at = now
            self._limit = min(self._most, self._limit + RISE * rows)
        elif now - self._well_at > PERIOD:
            self._well_at = now
            self._limit = max(min(LEAST, self._most), self._limit * max(TARGET / waited, FALL))

    def _forget_coming(self) -> None:
        self._coming = 0
