"""Ask for similar tickets over HTTP, as an assistant does."""

import json
from typing import Any

import httpx

from app.search import PATH, read_token
from tests.support.system import JSON, Database, Server

BY_HAND = """
INSERT INTO ticket_history (tenant_id, ticket_id, description, resolution, resolved_date, priority, tags)
VALUES (%(tenant_id)s, %(ticket_id)s, %(description)s, %(resolution)s, %(resolved_date)s, %(priority)s, %(tags)s)
"""
TICKET: dict[str, Any] = {
    "description": "VPN drops every hour\n\nSince Monday, on every laptop.",
    "resolution": "Rolled the gateway's firmware back.",
    "resolved_date": "2026-01-31T09:30:00Z",
    "priority": "High",
    "tags": ["vpn", "network"],
}


def add_token(database: Database, tenant_id: str, name: str = "assistant") -> str:
    """Make a token that shows a tenant's tickets. A running server knows it a second later."""
    token = read_token.make()
    database.query(
        "INSERT INTO read_tokens (tenant_id, name, token_hash) VALUES (%s, %s, %s)",
        tenant_id, name, read_token.hashed(token.encode()),
    )  # fmt: skip
    return token


def add_ticket(database: Database, tenant_id: str, ticket_id: str, **members: object) -> None:
    """Write a ticket that was resolved, as another program might, and index its words, as a worker does."""
    given = {**TICKET, "tenant_id": tenant_id, "ticket_id": ticket_id, **members}
    with database.on_one_connection() as connection:
        connection.execute(BY_HAND, given)
        while database.value("SELECT search_index_batch(1000)"):
            pass


def ask(server: Server, token: str, body: bytes | None = None, /, **members: object) -> httpx.Response:
    """Ask a question with `members`, by default for the ticket of add_ticket; or send any `body`."""
    question = {"subject": "VPN drops", **members}
    return server.client.post(
        PATH,
        content=json.dumps(question).encode() if body is None else body,
        headers={**JSON, "Authorization": f"Bearer {token}"},
    )


def found(answer: httpx.Response) -> list[str]:
    """Return the ids of the tickets in an answer, the best first."""
    assert answer.status_code == 200, answer.text
    return [ticket["ticket_id"] for ticket in answer.json()["tickets"]]
