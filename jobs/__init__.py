"""How is the worker process set up? `jobs.app` is its Procrastinate app: `procrastinate --app=jobs.app …`.

Every task is in a module of `import_paths`; Procrastinate imports these when it opens the app.
"""

import functools
import sys
from typing import TYPE_CHECKING

from app import stopping

# While Python looks for what `python -m jobs` shall run, this file is the first of it, and what follows takes a second.
if sys.argv[:1] == ["-m"]:
    stopping.from_the_start("worker")

from procrastinate import App, PsycopgConnector

from app import settings as environment
from app.settings import uses
from db import engine as database
from db import sessions, workers
from jobs.job_recovery import JobsInHand
from jobs.middleware import abort_when_asked, refuse_wrong_arguments

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncEngine

settings = environment.load_or_exit(uses.JOBS, may_lack_key=True)
STATEMENT_TIMEOUT = 30.0  # seconds; a batch takes milliseconds, so this is a fault and the job is retried
# Seconds that the worker waits for a connection; then it is started again, on a new pool. workers.SILENT_AFTER is more.
POOL_TIMEOUT = 3.0

conninfo = sessions.conninfo(settings.database_url, "ticket-inbox worker")

# Concurrency is at least 2: a worker with one slot can sleep through a wake-up until its next poll
# (docs/decisions/0006). The poll also finds a job whose wake-up was lost with its connection.
app = App(
    connector=PsycopgConnector(
        conninfo=conninfo,
        timeout=POOL_TIMEOUT,
        # Each job and each of the worker's side tasks may need a connection at once: none waits for another.
        min_size=2,
        max_size=settings.worker_concurrency + 3,
        configure=sessions.check,
    ),
    import_paths=["jobs.promote", "jobs.reprocess", "jobs.housekeeping", "jobs.reconcile"],
    worker_defaults={
        "concurrency": settings.worker_concurrency,
        "fetch_job_polling_interval": 1.0,
        "shutdown_graceful_timeout": settings.shutdown_timeout_seconds,
        "update_heartbeat_interval": workers.HEARTBEAT,
        "stalled_worker_timeout": workers.DEAD_AFTER,
        "delete_jobs": "successful",
        "worker_middleware": [abort_when_asked, refuse_wrong_arguments],
    },
)
app.job_manager = jobs_in_hand = JobsInHand(app.connector)


@functools.cache
def engine() -> "AsyncEngine":
    """Return this process's pool: a connection for every job that runs at once."""
    return database.create_engine(
        settings.database_url, "ticket-inbox worker", settings.worker_concurrency, STATEMENT_TIMEOUT
    )
