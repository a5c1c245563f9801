"""Which ticket people mean by a number is one question, whether its delivery is promoted, pending or pruned."""

import asyncio
import functools
from collections.abc import Awaitable, Callable, Iterator
from typing import TypeVar

import pytest
from sqlalchemy.ext.asyncio import AsyncConnection

from db import display_ids, ticket_history
from db import engine as engines
from tests.support.system import Database

pytestmark = pytest.mark.one_postgres

Returned = TypeVar("Returned")
TICKET = """
INSERT INTO ticket_history (tenant_id, ticket_id, display_id, description, resolution, resolved_date, priority)
VALUES (%s, %s, %s, 'd', 'r', '2026-01-01', 'p')
"""
DELIVERY = """
INSERT INTO inbox (tenant_id, ticket_id, display_id, correlation_id, payload, signature, status)
VALUES (%s, %s, %s, 'c', '', 's', %s)
"""


def ask(database: Database, act: Callable[[AsyncConnection], Awaitable[Returned]]) -> Returned:
    async def on_connection() -> Returned:
        engine = engines.create_engine(database.url, "test", 1, 30.0)
        try:
            async with engines.connection(engine) as connection:
                return await act(connection)
        finally:
            await engine.dispose()

    return asyncio.run(on_connection())


@pytest.fixture
def filled(database: Database) -> Iterator[Database]:
    with database.on_one_connection():
        for row in (("acme", "155", "1"), ("acme", "156", "2"), ("globex", "157", "1"), ("acme", "158", None)):
            database.query(TICKET, *row)
        for delivery in (
            ("acme", "155", "1", "promoted"), ("acme", "159", "3", "pending"), ("acme", "160", "2", "rejected"),
            ("acme", None, "4", "rejected"), ("globex", "161", "3", "promoted"),
        ):  # fmt: skip
            database.query(DELIVERY, *delivery)
        yield database


def test_tickets_are_found_and_an_ambiguous_number_names_all_of_them(filled: Database) -> None:
    found = ask(filled, lambda one: display_ids.tickets(one, "acme", ["1", "2", "3", "4", "5", "2"]))
    assert found == {"1": ["155"], "2": ["156", "160"], "3": ["159"]}
    assert ask(filled, lambda one: display_ids.tickets(one, "globex", ["1", "2", "3"])) == {"1": ["157"], "3": ["161"]}
    assert ask(filled, lambda one: display_ids.tickets(one, "acme", [])) == {}


def test_whether_a_tenants_numbers_are_its_ids(filled: Database) -> None:
    filled.query(TICKET, "initech", "7", "7")
    filled.query(TICKET, "initech", "8", None)
    for tenant_id, differ in {"acme": True, "globex": True, "initech": False, "nobody": False}.items():
        assert ask(filled, functools.partial(display_ids.differ_from_ids, tenant_id=tenant_id)) is differ, tenant_id


def test_only_tickets_without_one_are_given_one(filled: Database) -> None:
    given = {("acme", "158"): "9", ("acme", "155"): "8", ("globex", "158"): "7"}
    ask(filled, lambda one: ticket_history.give_display_ids(one, given))
    rows = filled.query("SELECT tenant_id, ticket_id, display_id FROM ticket_history ORDER BY id")
    assert [tuple(row.values()) for row in rows] == [
        ("acme", "155", "1"), ("acme", "156", "2"), ("globex", "157", "1"), ("acme", "158", "9"),
    ]  # fmt: skip
