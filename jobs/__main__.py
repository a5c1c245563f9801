"""`python -m jobs`: the worker. It ends on SIGTERM and its like, after the jobs it has begun."""

import asyncio as runner
import contextlib

from app import stopping
from jobs import app, conninfo, settings, worker
from otel import export, logs, metrics

with contextlib.suppress(ImportError):  # there is no uvloop for Windows
    import uvloop as runner  # type: ignore[no-redef]

stopping.reap_orphans()
logs.configure(settings.log_level, settings.log_format)
try:
    stop_exporting = export.configure("ticket-inbox-worker")
    metrics.serve(settings.host, settings.worker_metrics_port)
except export.WrongTelemetryError as wrong:
    raise SystemExit(f"Error: {wrong}") from None
except OSError as error:
    address = f"{settings.host}:{settings.worker_metrics_port}"
    raise SystemExit(
        f"Error: cannot listen on {address} ({error.strerror}): free it, or set WORKER_METRICS_PORT"
    ) from None
runner.run(worker.run(app, conninfo, settings.shutdown_timeout_seconds))
stopping.handle_all(stopping.end_at_once)  # the jobs are finished: a second signal waits for no receiver of spans
stop_exporting()
