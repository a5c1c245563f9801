"""How many webhooks may wait for Postgres at once, and whose? The server refuses what is beyond that at once.

As many as were answered soon of late: a limit that no measurement moves is too high for a slow disk or too low for a
fast one (docs/decisions/0025).
"""

import asyncio
from collections import Counter

TARGET = 0.05  # seconds that a webhook may wait for its commit; reading and answering it take their time too
PERIOD = 0.1  # seconds for which all wait longer before the limit falls: a burst or one slow commit is no overload
FALL, RISE = 0.2, 0.05  # least that is left of it then; and by what part of a batch that was soon committed it rises
CALM = 5.0  # seconds without a crowd after which the limit is what it was: this crowd says nothing of the next burst
LEAST = 100  # rows that may always wait; a Postgres that stood still for a while must not refuse a trickle


class AdaptiveLimit:
    """How many rows may wait: it falls while commits take long under a crowd, and rises while they are quick."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._rows = float(most)
        self._well_at = float("-inf")  # when something was soon committed, or the limit fell
        self._crowd_came = False  # since something was last committed
        self._crowded_at = float("-inf")

    @property
    def rows(self) -> float:
        """How many may wait now."""
        return self._rows

    def note_crowd(self) -> None:
        """Note that a webhook came while the limit was reached."""
        self._crowd_came = True

    def learn(self, rows: int, waited: float, now: float) -> None:
        """Learn that `rows` were committed or failed, the first of which had waited so many seconds."""
        if self._crowd_came:
            self._crowd_came, self._crowded_at = False, now
        elif now - self._crowded_at > CALM:
            self._rows = self._most
        if waited <= TARGET:
            self._well_at = now
            self._rows = min(self._most, self._rows + RISE * rows)
        elif now - self._well_at > PERIOD:
            self._well_at = now
            self._rows = max(min(LEAST, self._most), self._rows * max(TARGET / waited, FALL))


class Admission:
    """Counts the webhooks that wait, in all and by tenant, and decides whether one more may."""

    def __init__(self, rows: int, size: int) -> None:
        self.limit = AdaptiveLimit(rows)
        self._most_bytes = size
        self._rows = self._bytes = 0
        self._coming = 0  # let in during this turn of the loop, and not yet among the rows
        self._held: Counter[str] = Counter()

    @property
    def is_crowded(self) -> bool:
        """Whether a tenant's share now decides which webhooks may wait."""
        return self._rows + self._coming >= self.limit.rows

    def expect(self) -> None:
        """Count a request that was let in; it is among the rows, or refused, by the loop's next turn."""
        if not self._coming:
            asyncio.get_running_loop().call_soon(self._forget_coming)
        self._coming += 1

    def has_place(self, tenant_id: str, size: int) -> bool:
        """Return whether one more of the tenant's, of `size` bytes, may wait.

        Past the limit, up to twice of it, only a tenant that holds less than its share: one that filled the limit
        while no other was there must not keep the others out.
        """
        if self._bytes + size > self._most_bytes:
            return False
        if not self.is_crowded:
            return True
        self.limit.note_crowd()
        held = self._held[tenant_id]
        tenants = len(self._held) + (not held)
        return held < self.limit.rows / tenants and self._rows + self._coming < 2 * self.limit.rows

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

    def _forget_coming(self) -> None:
        self._coming = 0
