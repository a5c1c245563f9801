"""Which settings does each command use? It reads these, and no wrong value of another stops it.

What is missing here cannot be overlooked: the field is unset then, and the command that asks for it fails.
"""

DATABASE = frozenset({"database_url"})
KEY = frozenset({"secrets_key"})
LOGS = frozenset({"log_level", "log_format"})
ADDRESS = frozenset({"host", "port"})
EVENTS = frozenset({"max_description_chars", "resolved_statuses"})  # app.event.rules.Rules
STATUSES = frozenset({"resolved_statuses"})
SDP_CLIENT = frozenset({"sdp_requests_per_minute"})
RECONCILE = DATABASE | KEY | EVENTS | SDP_CLIENT
# A server whose port another opens, such as bare `litestar run`.
SERVER = (
    DATABASE
    | KEY
    | LOGS
    | EVENTS
    | {
        "max_body_bytes",
        "max_header_bytes",
        "request_timeout_seconds",
        "idle_timeout_seconds",
        "max_connections",
        "append_timeout_seconds",
        "append_queue",
        "append_queue_bytes",
        "tenant_rate",
        "server_connections",
        "search_pool_size",
        "signed_timestamp_seconds",
        "shutdown_timeout_seconds",
        "drain_delay_seconds",
    }
)
SERVE = SERVER | ADDRESS | {"start_patience_seconds"}
# `jobs.app`, whichever process has it: the worker, or Procrastinate's own commands.
JOBS = RECONCILE | {"worker_concurrency", "shutdown_timeout_seconds", "retention_days", "job_retention_days"}
WORKER = JOBS | LOGS | {"worker_metrics_port", "start_patience_seconds"}  # and HOST, where that port is set
DEV = SERVE | WORKER | {"dev_dir"}
