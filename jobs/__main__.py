"""`python -m jobs`: the worker. It ends on SIGTERM and its like, after the jobs it has begun."""

import asyncio as runner
import contextlib

from app import database_url, stopping
from app import settings as environment
from app.readiness import Patience
from app.server import ports
from app.settings import uses
from jobs import app, conninfo, health_port, settings, signs, worker
from otel import export, logs, metrics, variables
from otel.escaped import printable

with contextlib.suppress(ImportError):  # there is no uvloop for Windows
    import uvloop as runner  # type: ignore[no-redef]

own = environment.load_or_exit(uses.LOGS | {"worker_metrics_port", "start_patience_seconds"})
logs.configure(own.log_level, own.log_format)
environment.log_remarks(uses.WORKER)
database_url.log_ignored()
stopping.reap_orphans()
try:
    stop_exporting = export.configure("ticket-inbox-worker")
    metrics.worker_heartbeat.watch(signs.heartbeat_age)
    if port := own.worker_metrics_port:
        host = environment.load_or_exit({"host"}).host
        health_port.serve(ports.listen(host, port, "WORKER_METRICS_PORT"), signs)
except (variables.WrongTelemetryError, ports.ListenError) as error:
    raise SystemExit(printable(f"Error: {error}")) from None
try:
    patience = Patience(own.start_patience_seconds)
    runner.run(worker.run(app, conninfo, settings.shutdown_timeout_seconds, patience))
finally:
    stopping.handle_all(stopping.end_at_once)  # no job is under way: a second signal waits for no receiver of spans
    stop_exporting()
