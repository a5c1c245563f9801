"""`python -m jobs`: the worker. It ends on SIGTERM or SIGINT, after the jobs it has begun."""

import asyncio

from jobs import app, conninfo, settings, worker
from otel import logs

logs.configure(settings.log_level, settings.log_format)
asyncio.run(worker.run(app, conninfo))
