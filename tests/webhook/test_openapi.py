"""/schema describes the webhook: its headers, its body and every answer, with examples that are valid."""

import json
from typing import Any

import pytest

from app.webhook import PATH, problems
from tests.support.system import Server, Tenant

pytestmark = pytest.mark.one_postgres


@pytest.fixture(scope="module")
def webhook(server: Server) -> dict[str, Any]:
    document = server.client.get("/schema").json()
    assert document == server.client.get("/schema/openapi.json").json()
    assert document["openapi"].startswith("3.1")
    operation: dict[str, Any] = document["paths"][PATH]["post"]
    return {**operation, "components": document["components"]["schemas"]}


def test_the_headers_are_described(webhook: dict[str, Any]) -> None:
    described = {parameter["name"]: parameter["required"] for parameter in webhook["parameters"]}
    assert described == {
        "X-ServiceDesk-Signature": True, "X-ServiceDesk-Timestamp": False, "X-Correlation-ID": False, "traceparent": False,
    }  # fmt: skip
    assert all(parameter["in"] == "header" and parameter["description"] for parameter in webhook["parameters"])


def test_the_body_is_described_with_an_example_that_is_accepted(
    webhook: dict[str, Any], server: Server, tenant: Tenant
) -> None:
    assert webhook["requestBody"]["required"]
    content = webhook["requestBody"]["content"]["application/json"]
    schema = content["schema"]
    members, native = schema["anyOf"]
    assert schema["required"] == ["tenant_id"]
    assert set(members["required"]) == {
        "tenant_id", "ticket_id", "subject", "description", "resolution", "resolved_date", "priority",
    }  # fmt: skip
    assert members["properties"]["ticket_id"]["maxLength"] == 100
    assert members["properties"]["subject"]["maxLength"] == 1000
    assert members["properties"]["tags"]["items"] == {"type": "string"}
    assert all(member["description"] for member in members["properties"].values())
    assert set(native["required"]) == {"tenant_id", "request"}
    assert set(native["properties"]["request"]["required"]) == {"id", "status"}
    assert set(schema["properties"]) == set(members["properties"]) | set(native["properties"])
    assert len(content["examples"]) == 2
    for example in content["examples"].values():
        body = json.dumps({**example["value"], "tenant_id": tenant.id}).encode()
        assert server.post(body, tenant.headers(body)).status_code == 202


def test_every_answer_is_described_with_an_example(webhook: dict[str, Any]) -> None:
    assert set(webhook["responses"]) == {
        "202", "400", "401", "408", "413", "415", "422", "429", "431", "500", "503",
    }  # fmt: skip
    for status, response in webhook["responses"].items():
        assert response["description"]
        assert "X-Correlation-ID" in response["headers"]
        [(media_type, content)] = response["content"].items()
        assert media_type == ("application/json" if status == "202" else problems.MEDIA_TYPE)
        [example] = content["examples"].values()
        name = content["schema"]["$ref"].rpartition("/")[2]
        members = webhook["components"][name]
        assert set(members["required"]) <= set(example["value"]) <= set(members["properties"])
    for status in ("429", "503"):
        assert "Retry-After" in webhook["responses"][status]["headers"]


def test_nothing_is_fetched_from_elsewhere(server: Server) -> None:
    response = server.client.get("/schema")
    assert response.headers["content-type"].startswith("application/json")
    for path in ("/health/live", "/health/ready"):
        assert path in response.json()["paths"]
