"""What does the worker log of an outage? One line when it begins, and one a minute for as long as nothing changes."""

import logging
import time

import psycopg
from procrastinate import exceptions

from db import failures
from db.session_rules import WrongSessionError
from otel import logs

FAULTS = (exceptions.ConnectorException, psycopg.Error, OSError, WrongSessionError)
AGAIN_AFTER = 60.0  # seconds until the same words are logged again
_logger = logging.getLogger("ticket_inbox.worker")


class OutageLog:
    """Logs why the worker waits, and shortens what libraries log of the same failure; the same once a minute."""

    def __init__(self) -> None:
        self._logged: dict[tuple[str, str], float] = {}
        self.newest: str | None = None  # why the worker waited last

    def waits(self, error: BaseException) -> None:
        """Log why the worker waits, and what to do."""
        self.newest = explain(error)
        if self._is_due("worker_waits", error):
            why = f"{self.newest}; the worker goes on by itself as soon as it can"
            logs.log(_logger, logging.WARNING, "worker_waits", error=why)

    def behind(self, trouble: str) -> None:
        """Log that a migration is due."""
        if self._has_turn(("schema_behind", "")):
            logs.log(_logger, logging.WARNING, "schema_behind", error=trouble)

    def forget(self) -> None:
        """Note that the outage is over: the next one is logged at once."""
        self._logged.clear()

    def filter(self, record: logging.LogRecord) -> bool:
        """Return True if a record is to be written: one about an error of Postgres once a minute, in one line.

        Each of several handlers asks, and gets the same answer.
        """
        if "is_due" not in record.__dict__:
            record.__dict__["is_due"] = self._judge(record)
        return bool(record.__dict__["is_due"])

    def _judge(self, record: logging.LogRecord) -> bool:
        error = _error_of(record)
        if error is None:
            # psycopg also warns without an error, as when its pool discards a closed session: another line says why.
            return not record.name.startswith("psycopg") or record.levelno == logging.DEBUG
        record.msg, record.args, record.exc_info = "postgres_failed", (), None
        record.fields = {"error": explain(error)}
        return self._is_due("postgres_failed", error)

    def _is_due(self, event: str, error: BaseException) -> bool:
        # One kind of failure has many words: "cannot execute … in a read-only transaction" names the statement.
        return self._has_turn((event, failures.kind(error.__cause__ or error).name))

    def _has_turn(self, kind: tuple[str, str]) -> bool:
        now = time.monotonic()
        is_due = now - self._logged.get(kind, float("-inf")) >= AGAIN_AFTER
        if is_due:
            self._logged[kind] = now
        return is_due


def explain(error: BaseException) -> str:
    """Return in one line what is wrong with Postgres; Procrastinate wraps the error that says so."""
    return failures.explain(error.__cause__ or error)


def _error_of(record: logging.LogRecord) -> BaseException | None:
    """Return the error of Postgres that a record is about; psycopg's pool has it among the arguments of its line."""
    raised = record.exc_info[1] if record.exc_info else None
    if isinstance(raised, FAULTS):
        return raised
    given = record.args if record.name.startswith("psycopg") and isinstance(record.args, tuple) else ()
    return next((one for one in given if isinstance(one, BaseException)), None)
