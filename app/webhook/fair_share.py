"""Who sends much more than the others? Its rows are promoted when nobody else's wait (docs/decisions/0025)."""

from collections import Counter
from collections.abc import Iterable, Mapping

MANY = 3  # times what the others send on average, and a tenant is over its share
LEAST = 200  # webhooks since a few seconds, or since promotion fell behind; below that nobody is in anybody's way
UP_TO_DATE = 2.0  # seconds that the oldest pending row may wait


class Shares:
    """Counts webhooks by tenant: over some seconds, and where promotion has fallen behind, since then."""

    def __init__(self) -> None:
        self._counts: Counter[str] = Counter()
        self._total = 0

    def count(self, tenant_id: str) -> None:
        """Count a webhook that was verified."""
        self._counts[tenant_id] += 1
        self._total += 1

    def over(self, tenant_ids: Iterable[str]) -> list[str]:
        """Give those of `tenant_ids` that are over their share. Who is alone is so too, and in nobody's way."""
        return [tenant_id for tenant_id in set(tenant_ids) if self._is_over(self._counts[tenant_id])]

    def heed(self, gauges: Mapping[str, float]) -> None:
        """Forget half of what was counted, unless a backlog waits: then who made it is still to be known."""
        if gauges["oldest_pending_seconds"] <= UP_TO_DATE:
            self._counts = Counter({name: count // 2 for name, count in self._counts.items() if count > 1})
            self._total = self._counts.total()

    def _is_over(self, count: int) -> bool:
        others = max(len(self._counts) - 1, 1)
        return count >= LEAST and count * others > MANY * (self._total - count)
