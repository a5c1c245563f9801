"""Whose advisory locks does a worker go on without? It logs each, once in a process."""

import functools
import logging

from procrastinate.connector import BaseConnector

from db import advisory_locks
from db.advisory_locks import Holder
from otel import logs

_logger = logging.getLogger("ticket_inbox.jobs")


@functools.lru_cache(maxsize=100)
def log_ignored(holder: Holder) -> None:
    """Log an advisory lock with one of our numbers that this process does not wait for."""
    lock = f"an advisory lock with our number for {advisory_locks.WORDS[holder.number]}"
    words = f"{holder} {holder.has} {lock}, and has no right to our work"
    logs.log(_logger, logging.WARNING, "lock_ignored", error=words)


async def log_of_workers(connector: BaseConnector) -> None:
    """Log which strangers have advisory locks of workers, or wait for them. Raises ConnectorException."""
    query = advisory_locks.holders(f"number = {advisory_locks.WORKER}")
    for holder in [Holder(**row) for row in await connector.execute_query_all_async(query=query)]:
        if not holder.may_do_it:
            log_ignored(holder)
