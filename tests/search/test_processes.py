"""Is a token judged alike by each process of a server, and is the endpoint gone where it has no connections?"""

from collections.abc import Callable

import httpx
import pytest

from app.search import PATH
from tests.support.eventually import eventually
from tests.support.questions import add_ticket, add_token, ask
from tests.support.system import JSON, Database, Server

pytestmark = pytest.mark.one_postgres

StartServer = Callable[..., Server]
ASKED = 20  # connections, which the kernel spreads over two processes: one gets none once in a million times


def answers(server: Server, token: str) -> set[int]:
    """Return the statuses of answers on new connections."""
    headers = {**JSON, "Authorization": f"Bearer {token}"}
    return {
        httpx.post(server.url + PATH, json={"subject": "VPN"}, headers=headers, timeout=30).status_code
        for _ in range(ASKED)
    }


def test_a_token_is_in_force_and_revoked_in_each_process(
    start_server: StartServer, database: Database, secrets_key: str
) -> None:
    tenant = database.add_tenant(secrets_key)
    add_ticket(database, tenant.id, "1")
    server = start_server(2)
    token = add_token(database, tenant.id)
    eventually(lambda: answers(server, token) == {200}, within=10)
    database.query("UPDATE read_tokens SET revoked_at = now()")
    eventually(lambda: answers(server, token) == {401}, within=10)


def test_no_connection_turns_it_off(start_server: StartServer, database: Database, secrets_key: str) -> None:
    tenant = database.add_tenant(secrets_key)
    token = add_token(database, tenant.id)
    server = start_server(SEARCH_POOL_SIZE="0")
    assert ask(server, token).status_code == 404
    assert PATH not in server.client.get("/schema/openapi.json").json()["paths"]
    assert server.send(tenant).status_code == 202
