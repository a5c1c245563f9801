"""What does a red span say of an error? A kind that docs/operations.md lists, the SQLSTATE, and the error in words."""

from db import failures
from otel.tracing import Failure


def of(error: BaseException) -> Failure:
    """Return what a span says of `error`: of Postgres its kind (db/failure_kinds.py), else its type.

    An error that is not of Postgres is not quoted, because its own words may hold anything.
    """
    if not isinstance(error, failures.DatabaseError):
        return Failure(type(error).__name__, type(error).__name__)
    return Failure(failures.kind(error).name, failures.reason(error), failures.sqlstate(error))
