"""What went wrong with Postgres: of which kind is an error, and what is it called in one line?"""

import asyncpg
import psycopg
from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from db.libpq import ParameterError
from db.session_rules import WrongSessionError

# Everything that a driver or the pool raises when Postgres is unreachable or refuses. OSError covers time-outs.
DatabaseError = (SQLAlchemyError, asyncpg.PostgresError, asyncpg.InterfaceError, psycopg.Error, OSError, ParameterError)

ENDED = ("08", "57P")  # SQLSTATE prefixes of errors that end the session: connection exception, shutdown

UNDEFINED_TABLE = "42P01"
INSUFFICIENT_PRIVILEGE = "42501"

# SQLSTATE prefixes of errors in a value: data exception, integrity violation, program limit exceeded.
FAULTS_OF_A_VALUE = ("22", "23", "54")


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


def explain(error: BaseException) -> str:
    """Return in one line what is wrong with Postgres, and what to do."""
    if isinstance(_driver_error(error), WrongSessionError | ParameterError):
        return str(_driver_error(error))
    if sqlstate(error) == UNDEFINED_TABLE:
        return "the database has no schema yet: run `ticket-inbox migrate`"
    if sqlstate(error) == INSUFFICIENT_PRIVILEGE:
        return f"Postgres says no: {reason(error)}. Let DATABASE_URL name the role that owns the tables"
    if notes := getattr(_driver_error(error), "__notes__", None):  # where a wrong password came from
        return f"Postgres says no: {reason(error)}; {notes[0]}"
    if sqlstate(error):
        return f"Postgres says no: {reason(error)}"
    return f"Postgres cannot be reached: {reason(error)}. Start it, or set DATABASE_URL to where it is"


def _driver_error(error: BaseException) -> BaseException:
    """Return the asyncpg or psycopg error that SQLAlchemy wrapped."""
    if not isinstance(error, DBAPIError) or error.orig is None:
        return error
    return error.orig.__cause__ or error.orig
