"""Which settings are there, and what may each hold?"""

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

NEW_KEY = 'python -c "import base64, os; print(base64.urlsafe_b64encode(os.urandom(32)).decode())"'  # a Fernet key


def _meta(what: str, rule: str, ge: float | None = None, le: float | None = None) -> Meta:
    return Meta(description=what, extra={"rule": rule}, ge=ge, le=le)


def _number(what: str, ge: float, le: int) -> Meta:
    return _meta(what, f"a number from {ge} to {le}", ge, le)


def _whole(what: str, ge: int, le: int) -> Meta:
    return _meta(what, f"a whole number from {ge} to {le}", ge, le)


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """Every setting. Its environment variables are its name in capitals, and that after TICKET_INBOX_.

    A command that does not use a setting does not read it: the field is unset, and asking for it raises AttributeError.
    """

    database_url: Annotated[
        str,
        _meta(
            "The Postgres of both processes, as libpq writes it; the URLs of both drivers are derived from it.",
            "a URL like postgresql://user:password@host:5432/database, with %40 for @ and the like in the password",
        ),
    ] = "postgresql://localhost:5432/ticket_inbox"
    secrets_key: Annotated[
        str,
        _meta(
            "Encrypts the tenants' secrets. Several, comma separated: the first encrypts, each decrypts. "
            "No default, but `dev` makes its own.",
            f"32 random bytes in URL-safe base64, made by: {NEW_KEY}",
        ),
    ] = ""
    host: Annotated[
        str,
        _meta(
            "Address the server listens on; `::` is every address of IPv6 and of IPv4.",
            "a host name or an IP address, without a port",
        ),
    ] = "127.0.0.1"
    port: Annotated[
        int,
        _whole("Port the server listens on; 0 takes a free one.", 0, 65535),
    ] = 8000
    max_body_bytes: Annotated[
        int,
        _whole("Longest request body, in bytes; a longer one is answered 413.", 1024, 67108864),
    ] = 1024 * 1024
    max_header_bytes: Annotated[
        int, _whole("Longest request line and headers together, in bytes; longer ones are answered 431.", 4096, 1024**2)
    ] = 64 * 1024
    request_timeout_seconds: Annotated[
        float,
        _number("How long a request may take to arrive: then its connection is closed, or answered 408.", 1, 3600),
    ] = 30.0
    idle_timeout_seconds: Annotated[
        float, _number("How long a connection is kept open for a next request.", 1, 3600)
    ] = 5.0
    max_connections: Annotated[
        int,
        _whole("Most connections of one server process; one more closes the one waited for longest.", 10, 100_000),
    ] = 2000
    # The worst subject and description of that length that we could construct take 0.46 MB of a tsvector's 1 MB.
    max_description_chars: Annotated[
        int,
        _whole(
            "Longest `description`, in characters; a longer one is rejected with 422, that of a native request cut. "
            "The bound keeps every accepted ticket below what a full-text index entry can hold.",
            1,
            50_000,
        ),
    ] = 10_000
    resolved_statuses: Annotated[
        str,
        Meta(
            description="Statuses of a native request that count as resolved, by their `name` or their "
            "`internal_name`, comma separated, in any case: they are free text in ServiceDesk Plus.",
            extra={"rule": "names, comma separated, without quotes"},
            pattern=r"[^,\s]",
        ),
    ] = "Resolved,Closed"
    append_timeout_seconds: Annotated[
        float,
        _number("How long a webhook waits for Postgres before it is answered 503.", 0.1, 30),
    ] = 5.0
    append_queue: Annotated[
        int,
        _whole(
            "Most webhooks that may wait for Postgres at once in one server process, fewer while they wait long; "
            "one more is answered 503 at once.",
            1,
            100_000,
        ),
    ] = 1000
    append_queue_bytes: Annotated[
        int,
        _whole(
            "Most bytes of webhooks that may wait for Postgres at once in one server process; "
            "one more is answered 503 at once.",
            1024**2,
            4 * 1024**3,
        ),
    ] = 64 * 1024 * 1024
    tenant_rate: Annotated[
        float,
        _number(
            "Webhooks a second that one tenant may send to one server process in the long run, and 10 seconds of them "
            "at once; more is answered 429. 0 for any number. As many questions for similar tickets, counted apart.",
            0,
            100_000,
        ),
    ] = 0.0
    server_connections: Annotated[
        int,
        _whole("Most Postgres connections of one server process.", 1, 500),
    ] = 10
    search_pool_size: Annotated[
        int,
        _whole(
            "Most Postgres connections of one server process that search similar tickets, beside SERVER_CONNECTIONS; "
            "four times as many questions wait, one more is answered 503. 0 turns the search off.",
            0,
            100,
        ),
    ] = 4
    worker_concurrency: Annotated[
        int,
        _whole("Promoting jobs that one worker runs at once; up to six of other kinds beside them.", 2, 100),
    ] = 2
    signed_timestamp_seconds: Annotated[
        int,
        _whole(
            "How far the signed X-ServiceDesk-Timestamp of a webhook may be from now, in seconds; "
            "0 asks for no timestamp and signs the body alone.",
            0,
            86_400,
        ),
    ] = 0
    sdp_requests_per_minute: Annotated[
        int, _whole("Most requests that one run sends to a tenant's ServiceDesk Plus in a minute.", 1, 6000)
    ] = 25
    shutdown_timeout_seconds: Annotated[
        int,
        _whole("How long a stopping server or worker finishes what it has begun.", 1, 3600),
    ] = 25
    drain_delay_seconds: Annotated[
        float,
        _number(
            "How long a stopping server answers webhooks while /health/ready says 503, before it closes its port.",
            0,
            3600,
        ),
    ] = 0.0
    start_patience_seconds: Annotated[
        int,
        _whole(
            "How long a server or a worker that was not ready since its start waits for Postgres and the schema; then "
            "it ends with exit code 1. 0 waits for ever.",
            0,
            86_400,
        ),
    ] = 300
    retention_days: Annotated[
        int,
        _whole("Days that promoted inbox rows are kept; 0 keeps them for ever.", 0, 36500),
    ] = 90
    job_retention_days: Annotated[
        int,
        _whole(
            "Days that finished jobs are kept (those that succeeded are deleted at once); 0 keeps them for ever.",
            0,
            36500,
        ),
    ] = 7
    worker_metrics_port: Annotated[
        int,
        _whole("Port of the worker's own /metrics and /health/…, on HOST; 0 for none.", 0, 65535),
    ] = 0
    jaeger_url: Annotated[
        str,
        _meta(
            "Where Jaeger's pages are; `ticket-inbox trace` links to them, and asks there whether the trace exists.",
            "a URL like http://localhost:16686",
        ),
    ] = ""
    log_level: Annotated[
        Literal["debug", "info", "warning", "error", "critical"],
        _meta("Least level that is logged.", "one of debug, info, warning, error, critical"),
    ] = "info"
    log_format: Annotated[
        Literal["json", "console"],
        _meta("One JSON object a line, or lines for a person.", "one of json, console"),
    ] = "json"
    dev_dir: Annotated[
        str,
        _meta(
            "Where `dev` keeps its database and its key.", "a directory's path, without quotes or line breaks around it"
        ),
    ] = ".ticket-inbox"

    def __repr__(self) -> str:
        """Show no value: the database's password and the key are among them."""
        return "Settings(…)"
