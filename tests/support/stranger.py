"""A login that may connect to the database, and has no right on anything in it."""

import contextlib
import uuid
from collections.abc import Iterator
from typing import Any

import psycopg

from tests.support.system import Database

APPLICATION = "a stranger's"
Session = psycopg.Connection[tuple[Any, ...]]


@contextlib.contextmanager
def stranger(database: Database) -> Iterator[Session]:
    """Yield a session of such a role; session and role end with the block."""
    role, password = f"stranger_{uuid.uuid4().hex[:8]}", uuid.uuid4().hex
    database.query(f"CREATE ROLE {role} LOGIN PASSWORD '{password}'")
    try:
        with psycopg.connect(
            database.url, user=role, password=password, application_name=APPLICATION, autocommit=True
        ) as session:
            yield session
    finally:
        database.query(f"DROP ROLE {role}")
