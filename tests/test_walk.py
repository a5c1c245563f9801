"""The whole way from an empty database to a ticket, by an administrator's commands, with nothing mocked."""

import json
from collections.abc import Callable

from tests.support.system import Database, Server, Worker, run


def test_one_webhook_becomes_one_ticket(
    empty_database: Database,
    environment: dict[str, str],
    start_server: Callable[..., Server],
    start_worker: Callable[..., Worker],
) -> None:
    """Migrate, add a tenant, start server and worker, send: one row in ticket_history, and one trace up to it."""
    env = {**environment, "DATABASE_URL": empty_database.url}
    assert run(["migrate"], env).returncode == 0
    secret = run(["tenant", "add", "acme"], env).stdout.strip()
    server, worker = start_server(by_exec=True, **env), start_worker(by_exec=True, **env)

    payload = {
        "tenant_id": "acme",
        "ticket_id": "155000000412045",
        "display_id": 4711,
        "subject": "Drucker druckt nicht — 3. Stock",
        "description": "Seit heute früh.\nRot blinkende LED 🖨",
        "resolution": "Treiber neu installiert.",
        "resolved_date": "2026-01-31T10:30:00.123456+01:00",
        "priority": "High",
        "tags": ["printer", "driver's", 'say "hi"', "{a,b}"],
        "site": {"name": "unknown members are ignored"},
    }
    body = json.dumps(payload).encode()
    sent = run(
        ["send", "--url", server.url, "--tenant", "acme", f"--secret={secret}", "--file", "-"],
        env,
        given=body.decode(),
    )
    assert sent.returncode == 0, sent.stderr
    correlation_id = sent.stdout.split()[-1]

    empty_database.wait_for("SELECT count(*) FROM ticket_history", 1, within=5)
    [ticket] = empty_database.query("SELECT *, resolved_date::text AS resolved FROM ticket_history")
    assert (ticket["tenant_id"], ticket["ticket_id"]) == ("acme", "155000000412045")
    assert ticket["description"] == f"{payload['subject']}\n\n{payload['description']}"
    assert ticket["resolution"] == payload["resolution"]
    assert ticket["resolved_date"].isoformat() == "2026-01-31T09:30:00.123456+00:00"
    assert (ticket["priority"], ticket["tags"]) == ("High", payload["tags"])
    assert (ticket["source"], ticket["display_id"]) == ("webhook_resolved", "4711")

    [delivery] = empty_database.query("SELECT * FROM inbox")
    assert bytes(delivery["payload"]) == body
    assert (delivery["id"], delivery["display_id"]) == (ticket["inbox_id"], "4711")
    assert (delivery["status"], delivery["action"], delivery["attempts"]) == ("promoted", "inserted", 1)
    assert delivery["promoted_at"] >= delivery["received_at"]

    [answered] = server.wait_for_line("webhook_answered")
    [promoted] = worker.wait_for_line("ticket_promoted")
    for line in (answered, promoted):
        assert line["correlation_id"] == delivery["correlation_id"] == correlation_id
        assert line["trace_id"] == delivery["traceparent"].split("-")[1]
        assert (line["tenant_id"], line["ticket_id"]) == ("acme", "155000000412045")
        assert line["inbox_id"] == delivery["id"]
        assert line["timestamp"].endswith("Z")
        assert line["duration_ms"] > 0
    assert (answered["status"], promoted["action"]) == (202, "inserted")
    everything_logged = server.text() + worker.text()
    for private in (secret, delivery["signature"], "Treiber", "Drucker", env["SECRETS_KEY"]):
        assert private not in everything_logged

    assert (server.stop(), worker.stop()) == (0, 0)
