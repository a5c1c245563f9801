"""A webhook is one whole trace in a real Jaeger: straight by both protocols, and found by each of its names."""

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest

from tests.support.eventually import eventually
from tests.support.system import Database, Server, Worker
from tests.support.telemetry_backends.jaeger import Jaeger, tags

pytestmark = pytest.mark.one_postgres

StartServer = Callable[..., Server]
StartWorker = Callable[..., Worker]
NAMES = {"POST /webhook/servicedesk/resolved-ticket", "append inbox", "promote inbox"}


@pytest.mark.parametrize("protocol", ["http/protobuf", "grpc"])
def test_a_webhook_is_one_whole_trace(
    jaeger: Jaeger, database: Database, secrets_key: str, start_server: StartServer, start_worker: StartWorker, protocol: str
) -> None:  # fmt: skip
    tenant = database.add_tenant(secrets_key)
    server, _ = start_server(**jaeger.environment(protocol)), start_worker(**jaeger.environment(protocol))
    correlation_id = server.send(tenant, ticket_id="155000").json()["correlation_id"]
    database.wait_for("SELECT count(*) FROM inbox WHERE status = 'promoted'", 1, within=10)
    inbox_id = database.value("SELECT id FROM inbox")
    for wanted in ({"correlation_id": correlation_id}, {"tenant_id": tenant.id, "ticket_id": "155000"}):
        found = eventually(partial(_of_three_spans, jaeger, wanted))
        assert {span["operationName"] for span in found["spans"]} == NAMES
    [promoted] = [span for span in found["spans"] if span["operationName"] == "promote inbox"]
    assert tags(promoted)["inbox_id"] == inbox_id
    assert jaeger.search("ticket-inbox-worker", tenant_id=tenant.id, action="inserted")


def _of_three_spans(jaeger: Jaeger, wanted: dict[str, str]) -> dict[str, Any]:
    return next((trace for trace in jaeger.search(**wanted) if len(trace["spans"]) == len(NAMES)), {})
