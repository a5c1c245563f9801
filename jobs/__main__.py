"""`python -m jobs`: the worker. It ends on SIGTERM or SIGINT, after the jobs it has begun."""

import logging
import sys

import psycopg
from procrastinate.exceptions import ConnectorException

from db import engine as database
from jobs import app, settings
from otel import logs

logs.configure(settings.log_level, settings.log_format)
try:
    app.run_worker()
except (ConnectorException, psycopg.Error) as error:
    why = database.reason(error.__cause__ or error)
    logs.log(
        logging.getLogger("ticket_inbox.worker"),
        logging.CRITICAL,
        "worker_ended",
        error=f"Postgres cannot be reached, or has no schema yet ({why}): start it, set DATABASE_URL, or migrate",
    )
    sys.exit(1)
