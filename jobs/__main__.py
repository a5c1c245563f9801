"""`python -m jobs`: the worker. It ends on SIGTERM or SIGINT, after the jobs it has begun."""

import asyncio as runner
import contextlib

from jobs import app, conninfo, health_port, settings, signs, worker
from otel import export, logs, metrics

with contextlib.suppress(ImportError):  # there is no uvloop for Windows
    import uvloop as runner  # type: ignore[no-redef]

logs.configure(settings.log_level, settings.log_format)
try:
    stop_exporting = export.configure("ticket-inbox-worker")
    metrics.worker_heartbeat.watch(signs.heartbeat_age)
    health_port.serve(settings.host, settings.worker_metrics_port, signs)
except export.WrongTelemetryError as wrong:
    raise SystemExit(f"Error: {wrong}") from None
except OSError as error:
    address = f"{settings.host}:{settings.worker_metrics_port}"
    raise SystemExit(
        f"Error: cannot listen on {address} ({error.strerror}): free it, or set WORKER_METRICS_PORT"
    ) from None
runner.run(worker.run(app, conninfo, settings.shutdown_timeout_seconds))
stop_exporting()
