"""Which tenant sends much more than the others? Its rows are promoted after theirs (docs/decisions/0025)."""

from collections import Counter
from collections.abc import Iterable, Mapping

MANY = 3  # times what the others send on average, and a tenant is over its share
LEAST = 200  # webhooks since a few seconds, or since promotion fell behind; fewer are in no other tenant's way
UP_TO_DATE = 2.0  # seconds that the oldest pending row may wait


class FairShare:
    """Counts webhooks by tenant: over some seconds, or since promotion fell behind."""

    def __init__(self) -> None:
        self._counts: Counter[str] = Counter()
        self._total = 0

    def count(self, tenant_id: str) -> None:
        """Count a webhook that was verified."""
        self._counts[tenant_id] += 1
        self._total += 1

    def over(self, tenant_ids: Iterable[str]) -> list[str]:
        """Return those of `tenant_ids` that are over their share. A tenant that is alone is so too, and harms none."""
        return [tenant_id for tenant_id in set(tenant_ids) if self._is_over(self._counts[tenant_id])]

    def on_gauges(self, gauges: Mapping[str, float]) -> None:
        """Halve the counts, unless a backlog waits: then the tenant that made it must stay known."""
        if gauges["oldest_pending_seconds"] <= UP_TO_DATE:
            self._counts = Counter({name: count // 2 for name, count in self._counts.items() if count > 1})
            self._total = self._counts.total()

    def _is_over(self, count: int) -> bool:
        others = max(len(self._counts) - 1, 1)
        return count >= LEAST and count * others > MANY * (self._total - count)
