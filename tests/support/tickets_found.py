"""How does a test store tickets, have them indexed, and ask which are similar?"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import msgspec

from tests.support.system import Database

ADD = """
INSERT INTO ticket_history (tenant_id, ticket_id, description, resolution, resolved_date, priority, tags)
VALUES (%s, %s, %s, %s, %s, %s, %s)
"""
ASK = "SELECT lexemes, candidates, tickets FROM similar_answer(%s, %s, %s, %s, %s, %s, %s, %s)"


class Ticket(msgspec.Struct, frozen=True):
    """A ticket as a test stores it."""

    id: str
    text: str
    resolution: str = "Mended."
    day: str = "2024-01-01"
    priority: str = "High"
    tags: tuple[str, ...] = ()


class Answer(NamedTuple):
    """What a question was answered."""

    lexemes: int
    candidates: int
    tickets: list[dict[str, Any]]

    @property
    def ids(self) -> list[str]:
        return [one["ticket_id"] for one in self.tickets]

    @property
    def scores(self) -> Mapping[str, float]:
        return {one["ticket_id"]: one["score"] for one in self.tickets}


def add_tenant(database: Database, tenant_id: str, language: str = "english") -> None:
    """Add a tenant whose tickets are found by words of a language."""
    database.query("INSERT INTO tenant_configs (tenant_id, secret) VALUES (%s, 's')", tenant_id)
    database.query("INSERT INTO search_indexes (tenant_id, configuration) VALUES (%s, %s)", tenant_id, language)


def add(database: Database, tenant_id: str, *tickets: Ticket) -> None:
    with database.on_one_connection():
        for one in tickets:
            values = one.id, one.text, one.resolution, one.day, one.priority, list(one.tags)
            database.query(ADD, tenant_id, *values)


def index(database: Database, most: int = 1000) -> None:
    """Bring all that is due into the index, as the worker's job does."""
    with database.on_one_connection():
        while database.value("SELECT search_index_batch(%s)", most):
            pass


def ask(database: Database, tenant_id: str, text: str, limit: int = 50, **filters: object) -> Answer:
    """Ask as the server does, with the text as the description."""
    names = ("exclude_ticket_id", "resolved_after", "priority", "tags")
    values = [filters.pop(name, None) for name in names]
    [row] = database.query(ASK, tenant_id, filters.pop("subject", None), text, limit, *values)
    assert not filters
    return Answer(row["lexemes"], row["candidates"], row["tickets"])
