"""A Postgres that takes no writes for a while, and pools whose sessions are all that is left of it.

After a failover behind a proxy the sessions lead to what is a standby now: see tests/support/read_only.py.
"""

import threading
import time
from collections.abc import Callable

import pytest

from tests.support.read_only import read_only, sessions_opened
from tests.support.system import Database, Server, Tenant, Worker, run

StartServer = Callable[..., Server]
StartWorker = Callable[..., Worker]


def accepted_after(server: Server, tenant: Tenant, within: float) -> float:
    """Send until a webhook is accepted, and return after how many seconds that was."""
    started = time.monotonic()
    while (answer := server.send(tenant)).status_code != 202:
        assert answer.status_code == 503, answer.text
        assert time.monotonic() - started < within, answer.text
        time.sleep(0.1)
    return time.monotonic() - started


@pytest.fixture(params=[1, 2])
def server(request: pytest.FixtureRequest, start_server: StartServer) -> Server:
    return start_server(request.param)


def test_webhooks_are_accepted_again_once_new_sessions_may_write(
    server: Server, database: Database, secrets_key: str
) -> None:
    tenant = database.add_tenant(secrets_key)
    server.wait_until_known(tenant)
    assert server.send(tenant).status_code == 202
    with read_only(database):
        refused = server.send(tenant)
        assert refused.status_code == 503
        probed = server.client.get("/health/ready")
        assert probed.status_code == 503
        assert "takes no writes" in probed.json()["detail"]
    accepted_after(server, tenant, within=15)
    assert server.client.get("/health/ready").status_code == 200


def test_a_server_that_no_webhook_reaches_gets_ready_by_its_probes(
    start_server: StartServer, database: Database
) -> None:
    """A balancer sends no webhook to a server that is not ready: only the probe can show that a new session helps."""
    server = start_server()
    with read_only(database):
        assert server.client.get("/health/ready").status_code == 503
    deadline = time.monotonic() + 15
    while server.client.get("/health/ready").status_code != 200:
        assert time.monotonic() < deadline
        time.sleep(0.5)


def test_a_database_that_takes_no_writes_costs_few_sessions(
    start_server: StartServer, database: Database, secrets_key: str
) -> None:
    """A managed Postgres that is out of disk is read-only for hours, and every webhook meets that."""
    tenant = database.add_tenant(secrets_key)
    server = start_server()
    server.wait_until_known(tenant)
    with read_only(database):
        before, stop = sessions_opened(database), time.monotonic() + 15
        answers: list[int] = []

        def send_on() -> None:
            while time.monotonic() < stop:
                answers.append(server.send(tenant).status_code)

        threads = [threading.Thread(target=send_on) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert set(answers) == {503}
        assert len(answers) > 100
        time.sleep(2)  # Postgres counts sessions with a delay
        # The pool's 10, and one at each try: after 1, 3, 7 and 15 seconds.
        assert sessions_opened(database) - before < 20
    accepted_after(server, tenant, within=15)


def test_commands_say_that_postgres_takes_no_writes(database: Database, environment: dict[str, str]) -> None:
    with read_only(database):
        added = run(["tenant", "add", "acme"], environment)
    assert added.returncode == 1
    assert added.stderr.startswith("Error: Postgres takes no writes now: ")
    assert len(added.stderr.splitlines()) == 1


def test_doctor_finds_that_postgres_takes_no_writes(
    database: Database, environment: dict[str, str], secrets_key: str
) -> None:
    tenant = database.add_tenant(secrets_key)
    with read_only(database):
        found = run(["doctor", "--tenant", tenant.id], environment)
    assert found.returncode == 1
    assert "wrong Postgres takes no writes now" in found.stdout
