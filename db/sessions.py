"""How is one session with Postgres opened, in either driver?

One URL, as libpq writes it, serves both. db/parameters.py reads it, and gives each driver every value: what a driver
would read for itself, from variables or from the user's home, the other would not.
"""

import asyncio
import contextlib
import os
import random
import socket
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import asyncpg

from db import passfile, session_rules, tls
from db.parameters import complete, home
from db.session_rules import CHECK, refuse_wrong

if TYPE_CHECKING:
    import psycopg

STATEMENT_TIMEOUT = 30.0  # seconds; of psycopg's sessions, whose statements take milliseconds

# Every frequent statement finds its rows by key. But a plan that was made while a table was small goes on scanning the
# whole table until it is analyzed: at 1,000 webhooks a second on a new database, storing one took a second instead of
# 13 ms. JIT is off, because compiling a statement takes longer than running any of ours.
PLANS = {"enable_seqscan": "off", "jit": "off"}

# The socket options that libpq's parameters stand for, where the system has them.
KEEPALIVES = {
    "keepalives_idle": "TCP_KEEPIDLE",
    "keepalives_interval": "TCP_KEEPINTVL",
    "keepalives_count": "TCP_KEEPCNT",
    "tcp_user_timeout": "TCP_USER_TIMEOUT",
}
# A host that refuses, does not answer, breaks the connection off, starts up, or is not of the wanted kind.
NEXT_HOST = (
    OSError,
    asyncpg.PostgresConnectionError,
    asyncpg.CannotConnectNowError,
    asyncpg.TargetServerAttributeNotMatched,
)
Place = tuple[str, str, int]  # the host's name, the address to connect to, the port


def conninfo(url: str, name: str, statement_timeout: float = STATEMENT_TIMEOUT) -> str:
    """Return the libpq `url` as a psycopg connection string; pg_stat_activity shows `name`.

    `statement_timeout` (seconds; 0 for none) bounds each statement. Raises ParameterError.
    """
    import psycopg  # noqa: PLC0415  (a command that reads by asyncpg alone starts without it)

    found = complete(url) | {"application_name": name, "client_encoding": "UTF8", "gssencmode": "disable"}
    found["options"] = session_rules.options(found.get("options", ""), statement_timeout)
    if "sslcert" not in found:
        found["sslcertmode"] = "disable"  # or libpq would look for one in the user's home
    known = {str(one.keyword, "ascii") for one in psycopg.pq.Conninfo.get_defaults()}
    return psycopg.conninfo.make_conninfo(**{key: value for key, value in found.items() if key in known})


async def check(connection: "psycopg.AsyncConnection[Any]") -> None:
    """Check that a new session is what it must be. Raises WrongSessionError. Made for psycopg_pool's `configure`."""
    row = await (await connection.execute(CHECK)).fetchone()
    await connection.commit()
    refuse_wrong(_values(row))


def check_sync(connection: "psycopg.Connection[Any]") -> None:
    """Check that a new session is what it must be. Raises WrongSessionError."""
    row = connection.execute(CHECK).fetchone()
    connection.commit()
    refuse_wrong(_values(row))


def open_sync(url: str, name: str, statement_timeout: float = STATEMENT_TIMEOUT) -> "psycopg.Connection[Any]":
    """Open a session with psycopg, and check it. Raises ParameterError, WrongSessionError or psycopg.Error."""
    import psycopg  # noqa: PLC0415

    try:
        connection = psycopg.connect(conninfo(url, name, statement_timeout))
    except psycopg.OperationalError as error:
        if error.pgconn and (error.pgconn.used_password or error.pgconn.needs_password):
            error.add_note(password_source(complete(url)))
        raise
    try:
        check_sync(connection)
    except BaseException:
        connection.close()
        raise
    return connection


class Connector:
    """Opens the sessions of one pool. It tries the hosts of the URL in turn, first the one that last succeeded."""

    def __init__(self, url: str, name: str, timeout: float, patience: float = 0) -> None:
        self._parameters = complete(url)
        self._hosts = hosts_of(self._parameters)
        self._timeout, self._patience = timeout, patience
        options = {"options": self._parameters["options"]} if "options" in self._parameters else {}
        self._settings = {"application_name": name, **options, **session_rules.server_settings(timeout), **PLANS}

    async def connect(self) -> Any:  # noqa: ANN401  (asyncpg has no types)
        """Open a session on the first host that accepts it, and check it.

        If none accepts it, raises the last host's error. Raises WrongSessionError.
        """
        if self._parameters["load_balance_hosts"] == "random":
            random.shuffle(self._hosts)
        for place in list(self._hosts):
            try:
                # One limit for all hosts: a silent host would use up the next host's time.
                async with asyncio.timeout(self._limit()):
                    session = await self._connect_to(place)
            except NEXT_HOST as error:
                failed = error
            else:
                self._hosts.sort(key=place.__ne__)  # the next session tries this host first
                return session
        raise failed

    def _limit(self) -> float:
        """Return how many seconds one host may take."""
        given = int(self._parameters["connect_timeout"])
        return min(self._timeout, given if given > 0 else self._timeout) / len(self._hosts)

    async def _connect_to(self, place: Place) -> Any:  # noqa: ANN401
        """Open a session on one host, with TLS and without where `sslmode` leaves the choice."""
        *others, last = tls.attempts(self._parameters, place[0] or place[1])
        for attempt in others:
            try:
                return await self._open(place, attempt)
            except (OSError, asyncpg.PostgresError) as error:
                if not tls.is_worth_another(error):
                    raise
        return await self._open(place, last)

    async def _open(self, place: Place, encryption: Any) -> Any:  # noqa: ANN401
        host, address, port = place
        parameters = self._parameters
        # What is None here asyncpg would read from the environment.
        connecting = asyncpg.connect(
            host=address,
            port=port,
            user=parameters["user"],
            password=password_for(parameters, host or address, port),
            database=parameters["dbname"],
            ssl=encryption,
            direct_tls=encryption is not False and parameters["sslnegotiation"] == "direct",
            target_session_attrs=parameters["target_session_attrs"],
            krbsrvname="postgres",
            gsslib="gssapi",
            timeout=self._timeout,
            command_timeout=self._timeout + self._patience,
            server_settings=self._settings,
        )
        try:
            session = await connecting
        except asyncpg.InvalidPasswordError as error:
            error.add_note(password_source(parameters))
            raise
        try:
            notice_silence(session._transport.get_extra_info("socket"), parameters)  # noqa: SLF001
            row = _values(await session.fetchrow(CHECK))
            if session_rules.has_other_isolation(row):
                await session.execute(session_rules.SET_ISOLATION)
                row = _values(await session.fetchrow(CHECK))
            refuse_wrong(row)
        except BaseException:
            session.terminate()
            raise
        return session


def hosts_of(parameters: Mapping[str, str]) -> list[Place]:
    """Return the hosts that a session may be opened on, in their order."""
    hosts, addresses = (parameters.get(name, "").split(",") for name in ("host", "hostaddr"))
    ports = parameters["port"].split(",")
    count = max(len(hosts), len(addresses))
    hosts, addresses, ports = (one * count if len(one) == 1 else one for one in (hosts, addresses, ports))
    return [
        (host, address or host or "localhost", int(port or 5432))
        for host, address, port in zip(hosts, addresses, ports, strict=True)
    ]


def password_for(parameters: Mapping[str, str], host: str, port: int) -> str:
    """Return the password for a session on a host: the URL's, else the passfile's; "" if there is none."""
    if given := parameters.get("password"):
        return given
    path = passfile_of(parameters)
    return passfile.password(path, host, str(port), parameters["dbname"], parameters["user"]) if path else ""


def password_source(parameters: Mapping[str, str]) -> str:
    """Return in words where the password came from that Postgres did not accept, and what to do."""
    path = passfile_of(parameters)
    if parameters.get("password"):
        return "the password is the one in DATABASE_URL or PGPASSWORD: set the role's"
    if path and passfile.is_too_open(path):
        return f"{path} is ignored, because other users may read it: `chmod 600 {path}`"
    if any(password_for(parameters, host or address, port) for host, address, port in hosts_of(parameters)):
        return f"the password is the one in {path}, which is read for each new session: write the role's there"
    return f"DATABASE_URL has no password, and no line of {path} is for this host, port, database and role"


def passfile_of(parameters: Mapping[str, str]) -> str | None:
    """Return the file that passwords are read from, whether or not it exists; None without a home."""
    directory = home()
    return parameters.get("passfile") or (str(directory / ".pgpass") if directory else None)


def notice_silence(connected: Any, parameters: Mapping[str, str]) -> None:  # noqa: ANN401
    """Make a TCP connection end when its host silently disappears, as libpq does; a local socket has no need."""
    if connected is None or connected.family == socket.AF_UNIX:
        return
    with contextlib.suppress(OSError), socket.socket(fileno=os.dup(connected.fileno())) as one:
        one.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, int(parameters["keepalives"]))
        for name, option in KEEPALIVES.items():
            if hasattr(socket, option) and int(parameters[name]) > 0:
                one.setsockopt(socket.IPPROTO_TCP, getattr(socket, option), int(parameters[name]))


def _values(row: Any) -> Sequence[str]:  # noqa: ANN401
    """Return a row's values, whichever the driver and its row factory."""
    return list(row.values()) if hasattr(row, "values") else list(row)
