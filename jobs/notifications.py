"""When does a worker log that Postgres' notifications pile up, and that they no longer do? It looks now and then."""

import logging

from procrastinate.connector import BaseConnector

from db import notifications
from otel import logs

_logger = logging.getLogger("ticket_inbox.jobs")


class Notifications:
    """Looks how full the queue of notifications is, which also drops what every listener has read."""

    def __init__(self, connector: BaseConnector) -> None:
        self._connector = connector
        self._pile_up = False

    async def look(self) -> None:
        """Look, and log once when they begin to pile up, and when that is over. Raises ConnectorException."""
        [found] = await self._connector.execute_query_all_async(query=notifications.SHARE)
        was, self._pile_up = self._pile_up, found["share"] >= notifications.PILED_UP
        if self._pile_up and not was:
            logs.log(_logger, logging.ERROR, "notifications_pile_up", error=notifications.piled_up(found["share"]))
        elif was and not self._pile_up:
            logs.log(_logger, logging.INFO, "notifications_read")
