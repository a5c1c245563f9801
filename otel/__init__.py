"""What can be seen of the processes from outside? Logs, traces and metrics."""

import os

# OpenTelemetry reads it while it is imported, in any command, and logs a traceback if it names nothing there is.
os.environ.pop("OTEL_PYTHON_CONTEXT", None)
