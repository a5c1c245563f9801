"""How do benchmarks of search get tickets and their words into a database, and how do they ask it?"""

import itertools
import json
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg

from tests.support.system import Database

INTO = "ticket_history (tenant_id, ticket_id, description, resolution, resolved_date, priority, tags)"
CHUNK = 10_000  # tickets of one COPY
BATCH = 1_000  # tickets whose words are made in one transaction, as in jobs/index.py
ASK = "SELECT lexemes, candidates, tickets FROM similar_answer(%s, %s, %s, %s, %s, NULL, NULL, NULL)"
FIRST_DAY = datetime(2024, 1, 1, tzinfo=UTC)


def store(database: Database, tenant_id: str, texts: Iterable[str], first: int = 0) -> int:
    """Copy tickets, whose ids are the texts' numbers from `first` on; return how many."""
    numbered = enumerate(texts, first)
    count = 0
    with database.on_one_connection() as connection:
        while chunk := list(itertools.islice(numbered, CHUNK)):
            count += len(chunk)
            with connection.cursor().copy(f"COPY {INTO} FROM STDIN") as copying:
                for number, text in chunk:
                    day = FIRST_DAY + timedelta(minutes=number % 1_000_000)
                    copying.write_row(
                        (tenant_id, str(number), text, f"Repaired as in article {number}.", day, "High", [])
                    )
    return count


def index(database: Database) -> None:
    """Make the words of all tickets that are due, in transactions of the size of the worker's."""
    with database.on_one_connection():
        if not database.value("SELECT to_regprocedure('search_index_batch(int)') IS NOT NULL"):
            return
        while database.value("SELECT search_index_batch(%s)", BATCH):
            pass


def connect(database: Database) -> psycopg.Connection[Any]:
    """Return a connection to ask on."""
    return psycopg.connect(database.url, autocommit=True)


def use_language(database: Database, tenant_id: str, language: str) -> None:
    """Have the words of a tenant that has no tickets yet made by a configuration of Postgres'."""
    added = "INSERT INTO search_indexes (tenant_id, configuration) VALUES (%s, %s)"
    database.query(added, tenant_id, f"pg_catalog.{language}")


def ask(
    connection: psycopg.Connection[Any], tenant_id: str, text: str, count: int, itself: int | None = None
) -> list[tuple[int, float]]:
    """Return the numbers and scores of the tickets that the server's function finds for a description."""
    without = None if itself is None else str(itself)
    row = connection.execute(ASK, [tenant_id, None, text, count, without]).fetchone()
    assert row is not None
    tickets = row["tickets"] if isinstance(row, dict) else row[2]
    found = json.loads(tickets) if isinstance(tickets, str) else tickets
    return [(int(one["ticket_id"]), float(one["score"])) for one in found]
