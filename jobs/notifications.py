"""Do Postgres' notifications pile up? Whoever may connect can send them, and keep them from being dropped."""

import logging

from procrastinate.connector import BaseConnector

from db import queue
from otel import logs

_logger = logging.getLogger("ticket_inbox.jobs")


class Notifications:
    """Looks how full the queue of notifications is, which also drops what every listener has read."""

    def __init__(self, connector: BaseConnector) -> None:
        self._connector = connector
        self._pile_up = False

    async def look(self) -> None:
        """Look, and log once when they begin to pile up. Raises ConnectorException."""
        [found] = await self._connector.execute_query_all_async(query=queue.NOTIFICATIONS)
        was, self._pile_up = self._pile_up, found["share"] >= queue.PILED_UP
        if self._pile_up and not was:
            logs.log(_logger, logging.ERROR, "notifications_pile_up", error=queue.piled_up(found["share"]))
