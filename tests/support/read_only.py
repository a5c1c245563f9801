"""A database that takes no writes for a while, and leaves sessions that take none: as after a failover behind a proxy."""

import contextlib
from collections.abc import Iterator
from urllib.parse import urlsplit

import psycopg

from tests.support.system import Database

OTHERS = "FROM pg_stat_activity WHERE datname = %s AND pid <> pg_backend_pid()"


def administrator(database: Database) -> psycopg.Connection[tuple[object, ...]]:
    """Open a session of the same Postgres that may write, whatever `database` says."""
    elsewhere = urlsplit(database.url)._replace(path="/postgres").geturl()
    return psycopg.connect(elsewhere, autocommit=True, options="-c default_transaction_read_only=off")


def name_of(database: Database) -> str:
    return urlsplit(database.url).path.removeprefix("/")


@contextlib.contextmanager
def read_only(database: Database) -> Iterator[None]:
    """End all sessions, and have each new one be read-only until the block ends; those open at its end stay so."""
    name = name_of(database)
    with administrator(database) as connection:
        connection.execute(f'ALTER DATABASE "{name}" SET default_transaction_read_only = on')
        connection.execute(f"SELECT pg_terminate_backend(pid) {OTHERS}", [name])
        try:
            yield
        finally:
            connection.execute(f'ALTER DATABASE "{name}" RESET default_transaction_read_only')


def sessions_opened(database: Database) -> int:
    """Return how many sessions the database has had; Postgres counts them with a delay of a second or so."""
    with administrator(database) as connection:
        row = connection.execute("SELECT sessions FROM pg_stat_database WHERE datname = %s", [name_of(database)])
        [count] = row.fetchone() or [0]
    return int(str(count))
