"""What went wrong with Postgres: of which kind is an error, and what is it called in one line?"""

import asyncio
import socket
import ssl
import sys
from typing import TYPE_CHECKING

from db import failure_kinds as kinds
from db.failure_kinds import Kind
from db.libpq import ParameterError
from db.session_rules import WrongSessionError


class ReadOnlyError(Exception):
    """Postgres takes no writes, as a standby doesn't."""

    sqlstate = "25006"

    def __init__(self) -> None:
        super().__init__("its sessions are read-only")


class NotificationsFullError(Exception):
    """Postgres' queue of notifications is full, so it takes no job."""

    sqlstate = "54000"

    def __init__(self) -> None:
        super().__init__("too many notifications in the NOTIFY queue")


class MigrationError(Exception):
    """The schema cannot be migrated; the message says why, and what to do."""


class PoolUsedUpError(Exception):
    """All connections of a pool are in use, for longer than the one who needs one can wait."""


OURS = (NotificationsFullError, ParameterError, PoolUsedUpError, ReadOnlyError, WrongSessionError)
if TYPE_CHECKING:
    DatabaseError: tuple[type[Exception], ...]


def __getattr__(name: str) -> tuple[type[BaseException], ...]:
    """Return `DatabaseError`: all that a driver or the pool raises when Postgres is unreachable or refuses.

    OSError covers time-outs. Of the libraries, only those that are imported can have raised anything; so this module
    imports none, and a command that needs one of them alone starts in a third of the time. Ask for it where an error is
    caught, by `except failures.DatabaseError`, and never at an import, when a library may still be missing.
    """
    if name != "DatabaseError":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    drivers = (*_of("asyncpg", "PostgresError", "InterfaceError"), *_of("psycopg", "Error"))
    return (*_of("sqlalchemy.exc", "SQLAlchemyError"), *drivers, OSError, *OURS)


def _of(library: str, *names: str) -> tuple[type[BaseException], ...]:
    """Return errors of a library by name; none where it is not imported."""
    found = sys.modules.get(library)
    return tuple(getattr(found, name) for name in names) if found else ()


# SQLSTATE prefixes of errors after which a session is closed: connection exception, shutdown, a time limit of it.
ENDED = ("08", "57P", "25P03", "25P04")

# SQLSTATE prefixes of errors in a value: data exception, integrity violation, program limit exceeded.
FAULTS_OF_A_VALUE = ("22", "23", "54")


def sqlstate(error: BaseException) -> str | None:
    """Return the SQLSTATE of `error`, or None if the error does not come from Postgres."""
    code = getattr(_driver_error(error), "sqlstate", None)
    return str(code) if code else None


def is_fault_of_a_value(error: BaseException) -> bool:
    """Return True if Postgres refused a value, and nothing is wrong with Postgres or the session."""
    return (sqlstate(error) or "").startswith(FAULTS_OF_A_VALUE) and kind(error) is not kinds.NOTIFICATIONS


def is_read_only(error: BaseException) -> bool:
    """Return True if `error` shows that the session's Postgres takes no writes; a new one may reach one that does."""
    return kind(error) is kinds.READ_ONLY


def ends_session(error: BaseException) -> bool:
    """Return True if `error` shows that its session is no good for another statement, or may not be.

    Not every error from Postgres has a SQLSTATE: without one, the driver lost the connection, or nothing answered.
    """
    return (sqlstate(error) or ENDED[0]).startswith(ENDED) or is_read_only(error)


def reason(error: BaseException) -> str:
    """Return `error` as one line of at most 300 characters, without the row's values (Postgres' DETAIL has them)."""
    cause = _driver_error(error)
    if isinstance(cause, TimeoutError):
        return "no answer in time"
    if isinstance(cause, OSError) and cause.filename:
        return f"{cause.filename}: {cause.strerror}"
    words = str(cause.args[0] if isinstance(cause, _of("asyncpg", "PostgresError")) else cause)
    return words.splitlines()[0][:300] if words else type(cause).__name__


def explain(error: BaseException) -> str:
    """Return in one line what is wrong with Postgres, and what to do."""
    cause = _driver_error(error)
    if isinstance(cause, WrongSessionError | ParameterError):
        return str(cause)
    found, why = kind(error), reason(error)
    notes = getattr(cause, "__notes__", None)  # where a wrong password came from
    return f"{found.what}: {why}. {notes[0] if notes else found.cure}"


def kind(error: BaseException) -> Kind:
    """Return the kind of `error`: by its SQLSTATE, without one by its words, else by its type."""
    cause, code = _driver_error(error), sqlstate(error)
    if isinstance(cause, WrongSessionError | ParameterError):
        return kinds.SESSION if isinstance(cause, WrongSessionError) else kinds.URL
    words = str(cause).lower()
    if code is None:
        return next((found for part, found in kinds.BY_WORDS if part in words), None) or _by_type(cause)
    for prefix, part, found in kinds.BY_BOTH:
        if code.startswith(prefix) and part in words:
            return found
    prefixes = [code[:length] for length in (5, 3, 2)]
    return next((kinds.BY_SQLSTATE[one] for one in prefixes if one in kinds.BY_SQLSTATE), kinds.OTHER)


def _by_type(error: BaseException) -> Kind:
    """Return the kind of an error that Postgres did not send."""
    table: list[tuple[type[BaseException] | tuple[type[BaseException], ...], Kind]] = [
        ((PoolUsedUpError, *_of("sqlalchemy.exc", "TimeoutError")), kinds.POOL_USED_UP),
        (TimeoutError, kinds.SILENT),
        (socket.gaierror, kinds.UNKNOWN_HOST),
        (ssl.SSLError, kinds.TLS),
        ((ConnectionResetError, BrokenPipeError, *_of("asyncpg", "InterfaceError"), asyncio.CancelledError), kinds.CUT),
    ]
    if isinstance(error, OSError) and error.filename:
        return kinds.NO_FILE
    return next((found for types, found in table if isinstance(error, types)), kinds.AWAY)


def _driver_error(error: BaseException) -> BaseException:
    """Return the asyncpg or psycopg error that SQLAlchemy wrapped."""
    wrapped = getattr(error, "orig", None) if isinstance(error, _of("sqlalchemy.exc", "DBAPIError")) else None
    return error if wrapped is None else wrapped.__cause__ or wrapped
