"""Statements find rows by key, whatever size the planner assumes: a plan may be older than the table's growth."""

import asyncio
import re
from typing import Any

import pytest
import sqlalchemy as sa

from db import (
    allowed,
    display_ids,
    imports,
    inbox,
    queue,
    removal_statements,
    retention,
    selection,
    ticket_history,
    trace_search,
)
from db.statement import Statement
from tests.support.query_plans import plan
from tests.support.system import Database

STATEMENTS: dict[str, sa.Select[Any] | sa.TextClause | Statement] = {
    "append a webhook": inbox.append_if(allowed.ENABLED.query),
    "append a line of a file": inbox.append_if(allowed.KEPT.query, is_fenced=True),
    "append a fetched ticket": inbox.append_if(allowed.CONFIGURED, is_fenced=True),
    "next window of a removal": removal_statements.NEXT_WINDOW,
    "delete a tenant's deliveries": removal_statements.DELETE_DELIVERIES,
    "delete a tenant's tickets": removal_statements.DELETE_TICKETS,
    "claim": inbox.CLAIM,
    "held": inbox.HELD,
    "open tickets": inbox.OPEN_TICKETS,
    "deliveries of a ticket": inbox.DELIVERIES,
    "came lately": inbox.CAME_LATELY,
    "mark": inbox.MARK,
    "take over": queue.TAKE_OVER,
    "upsert": ticket_history.UPSERT,
    "standing": ticket_history.STANDING,
    "give display ids": ticket_history.GIVE_DISPLAY_IDS,
    "tickets by display id": display_ids.TICKETS,
    "whether display ids differ": display_ids.DIFFER,
    "trace": trace_search.BY_ID,
    "has ticket": inbox.HAS_TICKET,
    "stored": ticket_history.STORED,
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


ROWS = """
INSERT INTO inbox (tenant_id, ticket_id, display_id, correlation_id, payload, signature, status)
SELECT 'tenant ' || mod(n, 10), n / 3, mod(n, 3000), md5(CAST(n AS text)), 'p', 's', CASE WHEN mod(n, 500) = 0 THEN 'failed' ELSE 'promoted' END
FROM generate_series(1, 30000) AS n
"""
TICKETS = """
INSERT INTO ticket_history (tenant_id, ticket_id, display_id, description, resolution, resolved_date, priority)
SELECT DISTINCT ON (tenant_id, ticket_id) tenant_id, ticket_id, display_id, '', '', now(), '' FROM inbox
"""
WINDOW = selection.Window(10_000, 30_000)
OF_A_TENANT = selection.Selection(tenant_id="tenant 1")
OF_A_TICKET = selection.Selection(tenant_id="tenant 1", ticket_id="77")
OF_TICKETS = {"inbox_ticket_id_idx", "inbox_display_id_idx", "ticket_history_display_id_idx"}
BY_ONE_INDEX: dict[str, tuple[sa.Select[Any] | sa.TextClause | Statement, set[str]]] = {
    "held": (inbox.HELD, {"inbox_ticket_id_idx"}),
    "open tickets": (inbox.OPEN_TICKETS, {"inbox_ticket_id_idx"}),
    "deliveries of a ticket": (inbox.DELIVERIES, {"inbox_ticket_id_idx"}),
    "came lately": (inbox.CAME_LATELY, {"inbox_ticket_id_idx"}),
    "imported": (imports.IMPORTED, {"inbox_correlation_id_idx"}),
    "next id of a ticket": (selection.NEXT_OF_TICKET, OF_TICKETS),
    "count a ticket's": (selection.counted(OF_A_TICKET, WINDOW), {*OF_TICKETS, "inbox_pkey"}),
    "claim a ticket's": (selection.claimed(OF_A_TICKET, WINDOW, 500, 1000), {*OF_TICKETS, "inbox_pkey"}),
    "trace": (trace_search.BY_ID, {*OF_TICKETS, "inbox_correlation_id_idx", "tenant_configs_pkey"}),
    "tickets by display id": (display_ids.TICKETS, {"inbox_display_id_idx", "ticket_history_display_id_idx"}),
    "whether display ids differ": (display_ids.DIFFER, {"ticket_history_display_id_idx"}),
    "claim a tenant's": (selection.claimed(OF_A_TENANT, WINDOW, 500, 1000), {"inbox_pkey"}),
}


def test_no_other_index_seems_to_fit(database: Database) -> None:
    """On a table that was analyzed, which says nothing of ids: by another index, each would read thousands of rows."""
    for statement in (ROWS, TICKETS):
        database.query(statement)
    database.query("ANALYZE inbox, ticket_history")
    for name, (asked, indexes) in BY_ONE_INDEX.items():
        found = asyncio.run(plan(database, asked))
        assert set(re.findall(r"'Index Name': '([^']+)'", found)) == indexes, name
        assert found.count("'CTE Name': 'locked'") <= 1, "a claim joins its rows with themselves"


@pytest.mark.parametrize("statement", [ticket_history.STANDING, ticket_history.GIVE_DISPLAY_IDS, ticket_history.READ])
def test_a_ticket_is_found_by_its_key(database: Database, statement: sa.TextClause) -> None:
    """Not by another index that begins with the tenant, which is as good as long as there are few tickets."""
    found = asyncio.run(plan(database, statement))
    assert "ticket_history_tenant_id_ticket_id_key" in found
    assert "ticket_history_display_id_idx" not in found
