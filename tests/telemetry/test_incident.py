"""docs/tracing.md, “ticket 155000 is missing”: each search finds the cause that the page says, in a real Jaeger."""

import re
import uuid
from functools import partial
from typing import Any

import pytest

from tests import ROOT
from tests.support.eventually import eventually
from tests.support.system import Database, Tenant, running_server, running_worker
from tests.support.telemetry_backends.jaeger import Jaeger, tags

pytestmark = pytest.mark.one_postgres

PAGE = (ROOT / "docs/tracing.md").read_text()
SEARCHES = re.findall(r"^```jaeger\nservice (\S+) +tags (.+)\n```$", PAGE, re.MULTILINE)
BY_TICKET, FAILED, REJECTED, PROMOTED, UNVERIFIED = SEARCHES
TICKET, TENANT = "155000", "acme"


class Incident:
    """Four causes for which ticket 155000 is missing, each of a tenant of its own."""

    def __init__(self, jaeger: Jaeger, names: dict[str, str]) -> None:
        self._jaeger, self._names = jaeger, names

    def typed(self, search: tuple[str, str], cause: str = "") -> list[dict[str, Any]]:
        """Type one of the page's searches, for the tenant of a cause; of the ticket's alone, all tenants' are found."""
        service, typed = search
        wanted = dict(pair.split("=") for pair in typed.split())
        if cause:
            wanted["tenant_id"] = self._names[cause]
        return self._jaeger.search(service, **wanted)

    def found(self, search: tuple[str, str], cause: str, spans: int) -> dict[str, dict[str, Any]]:
        """Return by name the tags of the one trace that a search finds, once it has as many spans."""
        traces = eventually(partial(self._whole, search, cause, spans))
        return {span["operationName"].split()[0]: tags(span) for span in traces[0]["spans"]}

    def _whole(self, search: tuple[str, str], cause: str, spans: int) -> list[dict[str, Any]]:
        found = self.typed(search, cause)
        return found if [len(trace["spans"]) for trace in found] == [spans] else []


@pytest.fixture(scope="module")
def incident(
    jaeger: Jaeger, module_database: Database, module_environment: dict[str, str], secrets_key: str,
    tmp_path_factory: pytest.TempPathFactory,
) -> Incident:  # fmt: skip
    names = {cause: f"{TENANT}-{uuid.uuid4().hex[:8]}" for cause in ("failed", "rejected", "waits", "unverified")}
    tenants = {cause: module_database.add_tenant(secrets_key, name) for cause, name in names.items()}
    logs, environment = tmp_path_factory.mktemp("incident"), module_environment | jaeger.environment()
    with running_server(environment, logs / "server") as server:
        server.send(tenants["failed"], ticket_id=TICKET)
        module_database.query("UPDATE inbox SET payload = 'x'")
        server.send(tenants["rejected"], ticket_id=TICKET, priority=7)
        server.send(Tenant(names["unverified"], "a former secret"), ticket_id=TICKET)
        with running_worker(environment, logs / "worker") as worker:
            worker.wait_for_line("ticket_failed")
            worker.stop()
        server.send(tenants["waits"], ticket_id=TICKET)
        server.stop()
    return Incident(jaeger, names)


def test_a_failed_promotion_has_its_reason_and_its_row(incident: Incident, module_database: Database) -> None:
    promote = incident.found(BY_TICKET, "failed", 3)["promote"]
    assert promote["otel.status_description"] == "the payload is not a JSON object in UTF-8"
    assert promote["inbox_id"] == module_database.value("SELECT id FROM inbox WHERE status = 'failed'")
    assert incident.typed(FAILED)


def test_a_rejected_row_names_the_member(incident: Incident) -> None:
    request = incident.found(BY_TICKET, "rejected", 2)["POST"]
    assert request["http.response.status_code"] == 422
    assert "priority" in request["error.message"]
    assert len(incident.typed(REJECTED, "rejected")) == 1


def test_a_row_that_waits_has_no_promotion(incident: Incident) -> None:
    found = incident.found(BY_TICKET, "waits", 2)
    assert found.keys() == {"POST", "append"}
    assert found["POST"]["http.response.status_code"] == 202
    [promoted] = [
        tags(span) for trace in incident.typed(PROMOTED) for span in trace["spans"] if tags(span).get("job_id")
    ][:1]
    assert promoted["messaging.operation.name"] == "promote"


def test_a_webhook_that_did_not_verify_is_found_by_its_status_alone(incident: Incident) -> None:
    [trace] = eventually(partial(incident.typed, UNVERIFIED, "unverified"))
    [request] = trace["spans"]
    assert tags(request)["error.type"] == "signature"
    assert "ticket_id" not in tags(request)
    assert not incident.typed(BY_TICKET, "unverified")
