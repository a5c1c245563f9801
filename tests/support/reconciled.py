"""A tenant whose ServiceDesk Plus is a fake one, and the runs that reconcile it, in this process on a real database."""

import asyncio
import json
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from app import settings as environments
from app.sdp import reconcile as runs
from app.sdp.summary import Summary
from db.tenants import Secrets
from tests.support.fake_sdp import FakeSdp
from tests.support.system import Database, Tenant, Worker

StartWorker = Callable[..., Worker]
PENDING = "SELECT count(*) FROM inbox WHERE status = 'pending'"


class Place:
    """A tenant, its ServiceDesk Plus, and the database."""

    def __init__(self, database: Database, sdp: FakeSdp, tenant: Tenant, environment: dict[str, str]) -> None:
        self.database, self.sdp, self.tenant, self.environment = database, sdp, tenant, environment
        self.quick = {**environment, "SDP_REQUESTS_PER_MINUTE": "6000"}
        self.settings = environments.load(self.quick)

    def run(self, **options: Any) -> Summary:  # noqa: ANN401
        return asyncio.run(runs.reconcile(self.settings, self.tenant.id, **options))

    def import_since(self, since: datetime, **options: Any) -> Summary:  # noqa: ANN401
        return asyncio.run(runs.import_since(self.settings, self.tenant.id, since, **options))

    def counts(self, **options: Any) -> dict[str, int]:  # noqa: ANN401
        """Run, assert that it succeeds, and return the counts that are not zero."""
        summary = self.run(**options)
        assert (summary.error, summary.is_complete) == (None, True)
        assert summary.adds_up, summary
        return {name: count for name, count in summary.counts().items() if count}

    def appended(self) -> list[str]:
        """Return the tickets in the inbox, in order."""
        return [row["ticket_id"] for row in self.database.query("SELECT ticket_id FROM inbox ORDER BY id")]

    def clear(self) -> None:
        """Forget all tickets, there and here, and what ServiceDesk Plus asked for."""
        self.sdp.clear()
        self.database.query("TRUNCATE inbox, ticket_history, sdp_cursors, sdp_access, procrastinate_jobs CASCADE")

    def promote(self, start_worker: StartWorker) -> None:
        """Let a worker do all waiting jobs. It also reconciles: a worker that starts does a missed run."""
        worker = start_worker(SDP_REQUESTS_PER_MINUTE="6000")
        self.database.wait_for(PENDING, 0, within=20)
        assert worker.stop() == 0

    def position(self, source: str = "api_fallback") -> int:
        """Return the cursor, in milliseconds."""
        asked = "SELECT (extract(epoch FROM position) * 1000)::bigint AS ms FROM sdp_cursors WHERE source = %s"
        return int(self.database.value(asked, source))

    def history(self, ticket_id: str) -> dict[str, Any]:
        [row] = self.database.query("SELECT * FROM ticket_history WHERE ticket_id = %s", ticket_id)
        return row

    def store(self, ticket_id: str, resolved: int, **columns: object) -> None:
        """Insert a ticket into ticket_history."""
        values = {
            "tenant_id": self.tenant.id, "ticket_id": ticket_id, "description": "d", "resolution": "Rolled back.", "priority": "p",
            "resolved_date": datetime.fromtimestamp(resolved / 1000, UTC), **columns,
        }  # fmt: skip
        marks = ", ".join(["%s"] * len(values))
        self.database.query(f"INSERT INTO ticket_history ({', '.join(values)}) VALUES ({marks})", *values.values())

    def store_all(self, ticket_ids: list[str]) -> None:
        """Insert tickets into ticket_history as they are resolved in ServiceDesk Plus."""
        with self.database.on_one_connection():
            for ticket_id in ticket_ids:
                self.store(ticket_id, int(self.sdp.ticket(ticket_id)["resolved_time"]["value"]))


def settled(database: Database, sdp: FakeSdp, environment: dict[str, str], secrets_key: str) -> Place:
    """Add a tenant whose ServiceDesk Plus is `sdp`."""
    tenant = database.add_tenant(secrets_key)
    encrypted = Secrets(secrets_key).encrypt(json.dumps(sdp.given))
    database.query(
        "INSERT INTO sdp_configs (tenant_id, edition, base_url, credentials) VALUES (%s, %s, %s, %s)",
        tenant.id, sdp.edition, sdp.url, encrypted,
    )  # fmt: skip
    return Place(database, sdp, tenant, environment)
