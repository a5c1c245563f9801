"""How do the two processes reach Postgres?

One URL, as libpq writes it, serves both drivers: psycopg takes it as it is, asyncpg takes it without the
parameters that only libpq knows. After a restart of Postgres both pools connect again by themselves.
"""

import itertools
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import parse_qsl, quote, urlencode, urlsplit, urlunsplit

import asyncpg
import psycopg
import sqlalchemy as sa
from sqlalchemy.exc import DBAPIError, DisconnectionError, SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

# Everything that a driver or the pool raises when Postgres is unreachable or refuses. OSError covers time-outs.
DatabaseError = (SQLAlchemyError, asyncpg.PostgresError, asyncpg.InterfaceError, psycopg.Error, OSError)

ENDED = ("08", "57P")  # SQLSTATE prefixes of errors that end the session: connection exception, shutdown

# SQLSTATE prefixes of errors in a value: data exception, integrity violation, program limit exceeded.
FAULTS_OF_A_VALUE = ("22", "23", "54")

CONNECT_TIMEOUT = 5.0  # seconds; a host that drops packets must not hold a request for the kernel's two minutes

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
    given = psycopg.conninfo.conninfo_to_dict(url)
    missing = {parameter: value for parameter, value in noticed.items() if parameter not in given}
    return psycopg.conninfo.make_conninfo(url, application_name=name, **missing)


def create_engine(url: str, name: str, connections: int, timeout: float) -> AsyncEngine:
    """Return a pool of at most `connections` to the database at `url`, which it opens when they are needed.

    pg_stat_activity shows `name`. `timeout` (seconds) bounds the wait for a free connection, and each
    statement. Each statement commits by itself, except in `engine.begin()`.
    """
    engine = create_async_engine(
        "postgresql+asyncpg://",
        async_creator=Connector(url, name, timeout).connect,
        pool_size=connections,
        max_overflow=0,
        pool_timeout=timeout,
        pool_use_lifo=True,
        hide_parameters=True,  # they contain ticket text
    )
    sa.event.listen(engine.sync_engine, "checkout", _refuse_closed)
    return engine


class Connector:
    """Opens the sessions of one pool. It tries the hosts of the URL in turn, first the one that last succeeded."""

    def __init__(self, url: str, name: str, timeout: float) -> None:
        self._dsn, self._hosts = asyncpg_url(url), hosts_of(url)
        self._timeout = timeout
        self._settings = {
            "application_name": name,
            "statement_timeout": str(int(timeout * 1000)),
            # A process that hangs in mid-transaction must not hold its rows for ever.
            "idle_in_transaction_session_timeout": "60s",
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


def _refuse_closed(connection: Any, _record: object, _proxy: object) -> None:  # noqa: ANN401
    """Make the pool replace a connection that Postgres closed while it was idle; costs no round trip."""
    if connection.driver_connection.is_closed():
        raise DisconnectionError


@asynccontextmanager
async def transaction(engine: AsyncEngine) -> AsyncIterator[AsyncConnection]:
    """Yield a connection in a transaction, which commits at the end of the block; an exception rolls it back."""
    async with connection(engine, "READ COMMITTED") as connected, connected.begin():
        yield connected


@asynccontextmanager
async def connection(engine: AsyncEngine, isolation: str = "AUTOCOMMIT") -> AsyncIterator[AsyncConnection]:
    """Yield a connection on which each statement commits by itself, unless `isolation` says otherwise.

    A connection whose statement was interrupted is closed and does not return to the pool: it may still hold
    its locks (https://github.com/sqlalchemy/sqlalchemy/issues/12077).
    """
    async with engine.connect() as connected:
        await connected.execution_options(isolation_level=isolation)
        try:
            yield connected
        except DatabaseError as error:
            if not isinstance(error, DBAPIError) or (sqlstate(error) or ENDED[0]).startswith(ENDED):
                await connected.invalidate()
            raise
        except BaseException:
            await connected.invalidate()
            raise


def sqlstate(error: BaseException) -> str | None:
    """Return the SQLSTATE of `error`, or None if the error does not come from Postgres."""
    code = getattr(_driver_error(error), "sqlstate", None)
    return str(code) if code else None


def is_fault_of_a_value(error: BaseException) -> bool:
    """Return True if Postgres refused a value, and nothing is wrong with Postgres or the session."""
    return (sqlstate(error) or "").startswith(FAULTS_OF_A_VALUE)


def reason(error: BaseException) -> str:
    """Return `error` as one line of at most 300 characters, without the row's values (Postgres' DETAIL has them)."""
    cause = _driver_error(error)
    if isinstance(cause, TimeoutError):
        return "no answer in time"
    words = str(cause.args[0] if isinstance(cause, asyncpg.PostgresError) else cause)
    return words.splitlines()[0][:300] if words else type(cause).__name__


def _driver_error(error: BaseException) -> BaseException:
    """Return the asyncpg or psycopg error that SQLAlchemy wrapped."""
    if not isinstance(error, DBAPIError) or error.orig is None:
        return error
    return error.orig.__cause__ or error.orig
