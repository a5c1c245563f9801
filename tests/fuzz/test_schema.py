"""Schemathesis against /schema: to requests that the document allows or forbids, every answer is one it describes.

Thousands of cases by hand: `pytest -n 0 tests/fuzz/test_schema.py --hypothesis-profile=nightly`.
"""

import json
from collections import Counter
from collections.abc import Iterator
from typing import Any, NamedTuple

import hypothesis
import pytest
import requests
import schemathesis
from hypothesis import strategies as st
from schemathesis import GenerationMode
from schemathesis.checks import CHECKS

from app.search import PATH as SEARCH
from app.webhook import PATH, signature
from tests.support.questions import add_ticket, add_token
from tests.support.system import Database, Server, Tenant

pytestmark = pytest.mark.one_postgres

# Both check whether the server accepts a body exactly if it keeps the schema. They cannot know rules that no schema can
# express: U+0000, dates that no calendar has, a signature over other bytes. tests/event and tests/webhook test those. A
# third one takes the token that we add for one that it made up; tests/search sends wrong ones.
UNKNOWING = {"positive_data_acceptance", "negative_data_rejection", "ignored_auth"}
OPERATIONS = [("POST", PATH), ("POST", SEARCH), ("GET", "/health/live"), ("GET", "/health/ready"), ("GET", "/metrics")]


@pytest.fixture(scope="module")
def session() -> Iterator[requests.Session]:
    with requests.Session() as one:
        yield one


@pytest.fixture(scope="module")
def token(module_database: Database, secrets_key: str) -> str:
    """The token of a tenant with a ticket."""
    add_ticket(module_database, module_database.add_tenant(secrets_key).id, "155000")
    [row] = module_database.query("SELECT tenant_id FROM ticket_history")
    return add_token(module_database, row["tenant_id"])


@pytest.fixture(scope="module")
def described(token: str, server: Server) -> Any:  # noqa: ANN401, ARG001  (the server reads the token at its start)
    return schemathesis.openapi.from_url(f"{server.url}/schema")


class Sender(NamedTuple):
    """A tenant that signs, and the token of one that asks."""

    tenant: Tenant
    token: str


@pytest.fixture
def sender(tenant: Tenant, token: str) -> Sender:
    return Sender(tenant, token)


def proven(prepared: requests.PreparedRequest, sender: Sender) -> requests.PreparedRequest:
    """Sign the generated body with a tenant's secret, and add a token."""
    prepared.headers["Authorization"] = f"Bearer {sender.token}"
    body = prepared.body or b""
    assert isinstance(body, str | bytes)
    prepared.headers[signature.HEADER] = signature.sign(
        sender.tenant.secret.encode(), body.encode() if isinstance(body, str) else body
    )
    return prepared


def ours(body: object, tenant: Tenant) -> object:
    """Replace a tenant id in the body by the tenant's own, so that the signature can verify."""
    return {**body, "tenant_id": tenant.id} if isinstance(body, dict) and "tenant_id" in body else body


@pytest.mark.parametrize(("method", "path"), OPERATIONS)
def test_every_answer_is_described(
    server: Server,
    sender: Sender,
    described: Any,  # noqa: ANN401
    session: requests.Session,
    method: str,
    path: str,
) -> None:
    operation = described[path][method]
    asks_proof = path in (PATH, SEARCH)
    examples = {PATH: 150, SEARCH: 60}.get(path, 15) if hypothesis.settings().max_examples < 1000 else 3000
    modes = st.sampled_from(list(GenerationMode)).flatmap(operation.as_strategy)
    checks = [CHECKS.get_one(name) for name in CHECKS.get_all_names() if name not in UNKNOWING]
    counts = Counter[int]()

    @hypothesis.settings(max_examples=examples, suppress_health_check=list(hypothesis.HealthCheck), deadline=None)
    @hypothesis.given(case=modes, prove=st.sampled_from([True, True, True, False]))
    def hold(case: Any, prove: bool) -> None:  # noqa: ANN401, FBT001
        case.body = ours(case.body, sender.tenant)
        prepared = session.prepare_request(requests.Request(**wanted(case, server)))
        response = session.send(proven(prepared, sender) if asks_proof and prove else prepared)
        counts[response.status_code] += 1
        case.validate_response(response, checks=checks)

    hold()
    if asks_proof:
        assert {202 if path == PATH else 200, 401, 422} <= set(counts), counts
    assert server.process.poll() is None
    assert not [line for line in server.lines() if "traceback" in line]


def wanted(case: Any, server: Server) -> dict[str, Any]:  # noqa: ANN401
    known = {"method", "url", "headers", "files", "data", "params", "auth", "cookies", "json"}
    made = case.as_transport_kwargs(base_url=server.url)
    return {name: value for name, value in made.items() if name in known}


def test_the_document_describes_no_more_than_is_tested(server: Server) -> None:
    document = json.loads(server.client.get("/schema").content)
    assert [(method.upper(), path) for path, one in document["paths"].items() for method in one] == sorted(
        OPERATIONS, key=lambda operation: [*document["paths"]].index(operation[1])
    )
