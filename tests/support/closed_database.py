"""A database that is closed for a while: its sessions end, and new ones are refused."""

import contextlib
from collections.abc import Iterator
from urllib.parse import urlsplit, urlunsplit

import psycopg

from tests.support.system import Database


@contextlib.contextmanager
def closed(database: Database) -> Iterator[None]:
    """Close the database for the block."""
    name = urlsplit(database.url).path[1:]
    with psycopg.connect(urlunsplit(urlsplit(database.url)._replace(path="/postgres")), autocommit=True) as connection:
        connection.execute(f'ALTER DATABASE "{name}" ALLOW_CONNECTIONS false')
        connection.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", [name])
        try:
            yield
        finally:
            connection.execute(f'ALTER DATABASE "{name}" ALLOW_CONNECTIONS true')
