"""How is one session with Postgres opened, in either driver?

One URL, as libpq writes it, serves both: psycopg takes it as it is, asyncpg takes it without the parameters that only
libpq knows.
"""

import itertools
from typing import Any
from urllib.parse import parse_qsl, quote, urlencode, urlsplit, urlunsplit

import asyncpg
import psycopg

CONNECT_TIMEOUT = 5.0  # seconds; a host that drops packets must not hold a request for the kernel's two minutes

# How long a process that froze in mid-transaction, or whose network swallows what it sends, keeps its locks. Our
# transactions take milliseconds.
IDLE_IN_TRANSACTION = "30s"

# Every frequent statement finds its rows by key. But a plan that was made while a table was small goes on scanning the
# whole table until it is analyzed: at 1,000 webhooks a second on a new database, storing one took a second instead of
# 13 ms. JIT is off, because compiling a statement takes longer than running any of ours.
PLANS = {"enable_seqscan": "off", "jit": "off"}

# Parameters of a libpq URL that asyncpg would send to Postgres as server settings.
LIBPQ_ONLY = {
    "application_name",
    "channel_binding",
    "client_encoding",
    "connect_timeout",
    "fallback_application_name",
    "gssencmode",
    "keepalives",
    "keepalives_count",
    "keepalives_idle",
    "keepalives_interval",
    "load_balance_hosts",
    "sslcompression",
    "sslsni",
    "tcp_user_timeout",
}


def asyncpg_url(url: str) -> str:
    """Return the libpq `url` without the parameters that asyncpg does not know."""
    parts = urlsplit(url)
    query = [pair for pair in parse_qsl(parts.query) if pair[0] not in LIBPQ_ONLY]
    return urlunsplit(parts._replace(query=urlencode(query, quote_via=quote)))


def conninfo(url: str, name: str) -> str:
    """Return the libpq `url` as a psycopg connection string; pg_stat_activity shows `name`.

    The connection ends within 15 seconds when its host silently disappears, unless the URL sets other limits.
    """
    noticed = {"keepalives_idle": 5, "keepalives_interval": 2, "keepalives_count": 5, "tcp_user_timeout": 15_000}
    noticed["connect_timeout"] = int(CONNECT_TIMEOUT)  # for each host; psycopg's own is more than two minutes
    given = psycopg.conninfo.conninfo_to_dict(url)
    missing = {parameter: value for parameter, value in noticed.items() if parameter not in given}
    # The last value wins, so that what the URL says stands.
    options = f"-c idle_in_transaction_session_timeout={IDLE_IN_TRANSACTION} {given.get('options') or ''}".strip()
    return psycopg.conninfo.make_conninfo(url, application_name=name, options=options, **missing)


class Connector:
    """Opens the sessions of one pool. It tries the hosts of the URL in turn, first the one that last succeeded."""

    def __init__(self, url: str, name: str, timeout: float) -> None:
        self._dsn, self._hosts = asyncpg_url(url), hosts_of(url)
        self._timeout = timeout
        self._settings = {
            "application_name": name,
            "statement_timeout": str(int(timeout * 1000)),
            # A process that hangs in mid-transaction must not hold its rows for ever.
            "idle_in_transaction_session_timeout": IDLE_IN_TRANSACTION,
            **PLANS,
        }

    async def connect(self) -> Any:  # noqa: ANN401  (asyncpg has no types)
        """Open a session on the first host that accepts it. If none does, raises the last host's error."""
        for place in list(self._hosts):
            try:
                session = await self._connect_to(*place)
            except (OSError, asyncpg.TargetServerAttributeNotMatched, asyncpg.CannotConnectNowError) as error:
                failed = error
            else:
                self._hosts.sort(key=place.__ne__)  # the next session tries this host first
                return session
        raise failed

    async def _connect_to(self, host: str | None, port: int | None) -> Any:  # noqa: ANN401
        return await asyncpg.connect(
            self._dsn,
            host=host,
            port=port,
            # asyncpg's own limit covers all hosts together: a silent host would use up the next host's time.
            timeout=min(self._timeout, CONNECT_TIMEOUT) / len(self._hosts),
            command_timeout=self._timeout,
            server_settings=self._settings,
        )


def hosts_of(url: str) -> list[tuple[str | None, int | None]]:
    """Return the (host, port) pairs that `url` names, as libpq reads them; None is the driver's default."""
    given = psycopg.conninfo.conninfo_to_dict(url)
    hosts, ports = (str(given.get(name) or "").split(",") for name in ("host", "port"))
    if len(hosts) == 1:
        return [(hosts[0] or None, int(ports[0]) if ports[0] else None)]
    return [(host, int(port or 5432)) for host, port in zip(hosts, itertools.cycle(ports), strict=False)]
