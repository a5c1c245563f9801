"""How are thousands of refusals a second logged? The first hundred of each second one by one, the rest in one line.

A line and a span cost as much as all else of such a refusal, and nobody reads thousands of them.
"""

import asyncio
import logging
from collections import Counter

from otel import logs

EACH = 100  # refusals a second that have a line and a span of their own
NAMED = 10  # tenants in the line about the rest: a request that is refused here proved no name, and may invent many

_logger = logging.getLogger("ticket_inbox.webhook")


class RefusalLog:
    """Counts the refusals of one second, from its first on."""

    def __init__(self) -> None:
        self._count = 0
        self._unlogged: Counter[str] = Counter()

    def count(self, tenant_id: str) -> bool:
        """Count a refusal; return True if it should be logged and traced individually."""
        if not self._count:
            asyncio.get_running_loop().call_later(1, self._log_rest)
        self._count += 1
        if self._count <= EACH:
            return True
        self._unlogged[tenant_id] += 1
        return False

    def _log_rest(self) -> None:
        if rest := self._unlogged.total():
            tenants = {tenant_id[:100]: count for tenant_id, count in self._unlogged.most_common(NAMED)}
            logs.log(_logger, logging.ERROR, "webhooks_refused", count=rest, status=503, tenants=tenants)
        self._count, self._unlogged = 0, Counter()
