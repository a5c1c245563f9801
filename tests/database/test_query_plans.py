"""Statements find rows by key, whatever size the planner assumes: a plan may be older than the table's growth."""

import asyncio
from typing import Any

import pytest
import sqlalchemy as sa

from db import allowed, imports, inbox, queue, removal_statements, retention, selection, ticket_history
from tests.support.query_plans import plan
from tests.support.system import Database

STATEMENTS: dict[str, sa.Select[Any] | sa.TextClause] = {
    "append a webhook": inbox.append_if(allowed.ENABLED.query),
    "append a line of a file": inbox.append_if(allowed.KEPT.query, is_fenced=True),
    "append a fetched ticket": inbox.append_if(allowed.CONFIGURED, is_fenced=True),
    "next window of a removal": removal_statements.NEXT_WINDOW,
    "delete a tenant's deliveries": removal_statements.DELETE_DELIVERIES,
    "delete a tenant's tickets": removal_statements.DELETE_TICKETS,
    "claim": inbox.CLAIM,
    "held": inbox.HELD,
    "open tickets": inbox.OPEN_TICKETS,
    "mark": inbox.MARK,
    "take over": queue.TAKE_OVER,
    "upsert": ticket_history.UPSERT,
    "standing": ticket_history.STANDING,
    "is known": imports.IS_KNOWN,
    "imported": imports.IMPORTED,
    "next id": selection.NEXT_ID,
    "next id of a ticket": selection.NEXT_OF_TICKET,
    "next failed id": selection.NEXT_OPEN["failed"],
    "next window": retention.NEXT_ROWS,
    "delete old": retention.DELETE_ROWS,
    "next window of jobs": retention.NEXT_JOBS,
    "delete finished": retention.DELETE_JOBS,
}


@pytest.mark.parametrize("name", STATEMENTS)
def test_no_table_is_read_as_a_whole(database: Database, name: str) -> None:
    """On tables without statistics, with a plan that is not made for its values."""
    assert "Seq Scan" not in asyncio.run(plan(database, STATEMENTS[name]))
