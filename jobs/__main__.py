"""`python -m jobs`: the worker. It ends on SIGTERM or SIGINT, after the jobs it has begun."""

from jobs import app, settings
from otel import logs

logs.configure(settings.log_level, settings.log_format)
app.run_worker()
