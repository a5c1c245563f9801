"""Sessions that a firewall forgot while they were idle: they never answer, and nothing says so."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.database.test_durability import backends, frozen
from tests.support.system import Database, Server, Tenant

pytestmark = pytest.mark.one_postgres

SETTINGS = {"SERVER_CONNECTIONS": "11"}
MANY = 4  # sessions: three for webhooks, and one for what the server reads


IDLE = """
SELECT pid FROM pg_stat_activity
WHERE datname = current_database() AND application_name = 'ticket-inbox server' AND state_change < now() - interval '6 s'
"""


def open_many(server: Server, database: Database, tenant: Tenant) -> None:
    """Have a server open a session for each statement that it has at once: webhooks' commits, and its own reads."""
    with ThreadPoolExecutor(40) as pool:
        while len(backends(database)) < MANY:
            list(pool.map(lambda _: server.send(tenant), range(40)))


def test_a_dumb_idle_session_costs_no_webhook_and_no_probe(
    start_server: Callable[..., Server], database: Database, secrets_key: str
) -> None:
    tenant = database.add_tenant(secrets_key)
    server = start_server(**SETTINGS)
    server.wait_until_known(tenant)
    open_many(server, database, tenant)
    database.wait_for(f"SELECT least(count(*), 1) FROM ({IDLE}) AS idle", 1, within=20)
    idle = [row["pid"] for row in database.query(IDLE)]
    with frozen(idle), ThreadPoolExecutor(20) as pool:
        probes = [pool.submit(server.client.get, "/health/ready") for _ in range(10)]
        webhooks = [pool.submit(server.send, tenant) for _ in range(100)]
        assert {probe.result().status_code for probe in probes} == {200}
        assert {webhook.result().status_code for webhook in webhooks} == {202}
