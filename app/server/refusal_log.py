"""How are thousands of refusals a second told? The first hundred of each second one by one, the rest in one line.

A line and a span cost as much as all else of such a refusal, and whoever drowns in them learns nothing.
"""

import asyncio
import logging
from collections import Counter

from otel import logs

EACH = 100  # refusals a second that leave a line and a span of their own
NAMED = 10  # tenants in the line that tells of the rest: who is refused here has proved no name, and may make up many

_logger = logging.getLogger("ticket_inbox.webhook")


class Crowd:
    """Those that were refused within the same second, since its first."""

    def __init__(self) -> None:
        self._came = 0
        self._untold: Counter[str] = Counter()

    def is_told(self, tenant_id: str) -> bool:
        """Count one more of a tenant's, and tell whether it leaves a line and a span of its own."""
        if not self._came:
            asyncio.get_running_loop().call_later(1, self._disperse)
        self._came += 1
        if self._came <= EACH:
            return True
        self._untold[tenant_id] += 1
        return False

    def _disperse(self) -> None:
        if untold := self._untold.total():
            tenants = {tenant_id[:100]: count for tenant_id, count in self._untold.most_common(NAMED)}
            logs.log(_logger, logging.ERROR, "webhooks_refused", count=untold, status=503, tenants=tenants)
        self._came, self._untold = 0, Counter()
