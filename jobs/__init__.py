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

from procrastinate import App

from app import settings as environment
from app.settings import uses
from db import engine as database
from db import sessions, workers
from db.lost_answers import SessionsInUse
from jobs.connector import Connector
from jobs.job_recovery import JobsInHand
from jobs.middleware import abort_when_asked, keep_in_hand, refuse_wrong_arguments
from jobs.slots import Slots
from jobs.vital_signs import VitalSigns

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncEngine

settings = environment.load_or_exit(uses.JOBS, may_lack_key=True)
STATEMENT_TIMEOUT = 30.0  # seconds; a batch takes milliseconds, so this is a fault and the job is retried
# Seconds that the worker waits for a connection; then it is started again, on a new pool. workers.SILENT_AFTER is more.
POOL_TIMEOUT = 3.0
# Seconds that jobs in hand have to end when the worker begins anew; one on a dumb session never would. On SIGTERM they
# have SHUTDOWN_TIMEOUT_SECONDS.
HAND_OVER = 12.0

conninfo = sessions.conninfo(settings.database_url, "ticket-inbox worker")
slots = Slots(settings.worker_concurrency)

# The poll, once a second, finds a job whose wake-up was lost with its connection.
connections = Connector(
    conninfo=conninfo,
    timeout=POOL_TIMEOUT,
    # Each job and each of the worker's side tasks may need a connection at once: none waits for another.
    min_size=2,
    max_size=slots.total + 3,
)
app = App(
    connector=connections,
    import_paths=["jobs.promote", "jobs.reprocess", "jobs.housekeeping", "jobs.reconcile", "jobs.index"],
    worker_defaults={
        "concurrency": slots.total,  # never reached: each queue has its own limit
        "fetch_job_polling_interval": 1.0,
        "shutdown_graceful_timeout": HAND_OVER,
        "update_heartbeat_interval": workers.HEARTBEAT,
        "stalled_worker_timeout": workers.DEAD_AFTER,
        "delete_jobs": "successful",
        "worker_middleware": [keep_in_hand, abort_when_asked, refuse_wrong_arguments],
    },
)
signs = VitalSigns(slots.total)
in_use = SessionsInUse()
app.job_manager = jobs_in_hand = JobsInHand(app.connector, signs, in_use, slots)


@functools.cache
def engine() -> "AsyncEngine":
    """Return this process's pool: a connection for every job that runs at once."""
    made = database.create_engine(settings.database_url, "ticket-inbox worker", slots.total, STATEMENT_TIMEOUT)
    in_use.watch(made)
    connections.when_dumb = functools.partial(database.renew, made)
    return made
