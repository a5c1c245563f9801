"""Does a tenant send more than it may? A token bucket for each, kept as the moment when it is full again."""

BURST_SECONDS = 10  # of its rate that a tenant may send at once: a technician resolves a hundred tickets by one click

ROUNDING = 1e-6  # seconds


class TenantRate:
    """Allows each tenant `rate` webhooks a second in the long run; 0 allows any number."""

    def __init__(self, rate: float) -> None:
        self._each = 1 / rate if rate else 0.0
        self._burst = max(BURST_SECONDS, self._each)
        self._full_at: dict[str, float] = {}  # of tenants that verified, and only of them

    def spend(self, tenant_id: str, now: float) -> float:
        """Take one webhook out of the tenant's bucket and return 0, or return the seconds until there is one."""
        if not self._each:
            return 0
        full_at = max(self._full_at.get(tenant_id, now), now) + self._each
        if (early := full_at - now - self._burst) > ROUNDING:
            return early
        self._full_at[tenant_id] = full_at
        return 0
