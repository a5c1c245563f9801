"""POST /tickets/similar: each answer of the contract, from a real server on a real Postgres."""

import json
import re
from typing import Any

import httpx
import pytest

from app.search import PATH, read_token
from tests.support.questions import add_ticket, ask, found
from tests.support.raw_http import Wire
from tests.support.scraped_metrics import values
from tests.support.system import JSON, Database, Server, Tenant

pytestmark = pytest.mark.one_postgres

PROBLEM = "application/problem+json"
MEMBERS = [
    "ticket_id", "display_id", "subject", "description", "resolution", "resolved_date", "priority", "tags", "source",
    "score", "matched",
]  # fmt: skip


def post(server: Server, body: bytes = b'{"subject": "VPN"}', /, **headers: str) -> httpx.Response:
    return server.client.post(
        PATH, content=body, headers={name.replace("_", "-"): value for name, value in headers.items()}
    )


def test_a_question_is_answered_by_its_own_tenants_resolved_tickets(asked: Server, token: str) -> None:
    answer = ask(asked, token, description="It drops since Monday.")
    assert (answer.status_code, answer.headers["content-type"]) == (200, "application/json")
    assert list(answer.json()) == ["tickets", "correlation_id"]
    assert answer.json()["correlation_id"] == answer.headers["X-Correlation-ID"]
    [ticket] = answer.json()["tickets"]
    assert list(ticket) == MEMBERS
    assert (ticket["ticket_id"], ticket["subject"]) == ("155000", "VPN drops every hour")
    assert (ticket["description"], ticket["tags"]) == ("Since Monday, on every laptop.", ["vpn", "network"])
    assert ticket["resolved_date"] == "2026-01-31T09:30:00+00:00"
    assert 0 < ticket["score"] <= 1
    assert {word.lower() for word in ticket["matched"]} >= {"vpn", "drops"}


def test_401_is_the_same_whatever_is_wrong_with_the_token(asked: Server, token: str, no_tokens: dict[str, str]) -> None:
    wrong = {
        "absent": {}, "empty": {"Authorization": ""}, "without a token": {"Authorization": "Bearer"},
        "without its scheme": {"Authorization": token}, "of another scheme": {"Authorization": f"Basic {token}"},
        "unknown": {"Authorization": f"Bearer {read_token.make()}"}, "longer": {"Authorization": f"Bearer {token}x"},
        "in capitals": {"Authorization": f"Bearer {token.upper()}"}, "two": {"Authorization": f"Bearer {token} {token}"},
        "cut": {"Authorization": f"Bearer {token[:-1]}"}, "in another header": {"X-API-Key": token},
        **{name: {"Authorization": f"Bearer {one}"} for name, one in no_tokens.items()},
    }  # fmt: skip
    answers = {name: post(asked, **JSON, **headers) for name, headers in wrong.items()}
    answers["in the query"] = asked.client.post(f"{PATH}?access_token={token}&token={token}", json={"subject": "VPN"})
    answers["with a body of another type"] = post(asked, b"no JSON", Content_Type="text/plain")
    answers["no ASCII"] = raw(asked, "Authorization: Bearer \xe4\xff")
    assert {name: one.status_code for name, one in answers.items()} == dict.fromkeys(answers, 401)
    assert {one.headers["WWW-Authenticate"] for one in answers.values()} == {"Bearer"}
    bodies = {one.text.replace(one.headers["X-Correlation-ID"], "") for one in answers.values()}
    assert len(bodies) == 1
    assert json.loads(bodies.pop())["type"] == "urn:ticket-inbox:problem:read-token"
    assert post(asked, **JSON, Authorization=f"bEARER  {token}").status_code == 200


def test_blanks_after_a_token_are_no_part_of_it(asked: Server, token: str) -> None:
    """Of a header's value no blank at its end is (RFC 9110, 5.5); whoever copies a token may copy one."""
    assert raw(asked, f"Authorization: Bearer {token} \t", "Content-Type: application/json").status_code == 422


def raw(server: Server, *lines: str) -> httpx.Response:
    """Send a question with headers that no client sends."""
    head = "\r\n".join([f"POST {PATH} HTTP/1.1", "Host: x", *lines, "Content-Length: 2", "", "{}"])
    with Wire.to(server) as wire:
        wire.send(head.encode("latin-1"))
        answer = wire.answer()
    return httpx.Response(answer.status, headers=answer.headers, content=answer.body)


def test_another_path_or_method_or_type_or_size_is_refused(asked: Server, token: str) -> None:
    bearer = {"Authorization": f"Bearer {token}"}
    for status, answer in (
        (405, asked.client.get(PATH, headers=bearer)),
        (405, asked.client.request("QUERY", PATH, headers={**bearer, **JSON})),
        (404, asked.client.post(f"{PATH}/x", headers=bearer)),
        (415, post(asked, **bearer)),
        (415, post(asked, **bearer, Content_Type="text/plain")),
        (413, ask(asked, token, json.dumps({"subject": "VPN", "x": "y" * 2**20}).encode())),
        (400, ask(asked, token, b"")),
        (400, ask(asked, token, b"[]")),
        (400, ask(asked, token, b'{"subject": "\xff"}')),
        (400, ask(asked, token, rb'{"subject": "\ud800"}')),
        (400, ask(asked, token, b'{"subject": "VPN"')),
    ):
        assert (answer.status_code, answer.headers["content-type"]) == (status, PROBLEM), answer.text
        assert answer.json()["correlation_id"] == answer.headers["X-Correlation-ID"]
    options = asked.client.options(PATH)
    assert (options.status_code, options.headers["allow"]) == (204, "OPTIONS, POST")
    assert asked.client.get(PATH, headers=bearer).headers["allow"] == "OPTIONS, POST"
    for accepted in ("application/json; charset=utf-8", "Application/JSON;"):
        assert post(asked, **bearer, Content_Type=accepted).status_code == 200


@pytest.mark.parametrize(
    ("members", "fields"),
    [
        ({"subject": None}, ["subject"]),
        ({"subject": " \n\t", "description": ""}, ["subject"]),
        ({"subject": "x" * 1001, "description": "y" * 10_001}, ["subject", "description"]),
        ({"subject": 7, "limit": 0}, ["subject", "limit"]),
        ({"limit": 51}, ["limit"]),
        ({"limit": True}, ["limit"]),
        ({"limit": "5"}, ["limit"]),
        ({"subject": "a\0b"}, ["subject"]),
        ({"exclude_ticket_id": "a\0b"}, ["exclude_ticket_id"]),
        ({"exclude_ticket_id": ""}, ["exclude_ticket_id"]),
        ({"resolved_after": "yesterday"}, ["resolved_after"]),
        ({"resolved_after": "0001-01-01T00:00:00+01:00"}, ["resolved_after"]),
        ({"priority": "High"}, ["priority"]),
        ({"priority": [], "tags": [None]}, ["priority", "tags"]),
        ({"tags": ["a\0"]}, ["tags"]),
        ({"tags": ["a"] * 101}, ["tags"]),
        ({"prioritty": ["High"]}, ["prioritty"]),
        ({"Subject": "VPN", "tenant_id": "globex"}, ["Subject", "tenant_id"]),
        ({"x" * 5000: 1}, ["x" * 100]),
    ],
)
def test_422_names_each_member_that_breaks_its_rule_and_each_unknown_one(
    asked: Server, token: str, members: dict[str, object], fields: list[str]
) -> None:
    answer = ask(asked, token, **members)
    assert (answer.status_code, answer.headers["content-type"]) == (422, PROBLEM)
    assert [one["field"] for one in answer.json()["errors"]] == fields
    assert answer.json()["type"] == "urn:ticket-inbox:problem:invalid-question"


def test_what_is_null_is_absent_and_what_is_at_its_limit_is_taken(asked: Server, token: str) -> None:
    nothing = dict.fromkeys(["limit", "exclude_ticket_id", "resolved_after", "priority", "tags", "description"])
    assert found(ask(asked, token, **nothing)) == ["155000"]
    assert found(ask(asked, token, subject="VPN" + 997 * "x", description="VPN" + 9997 * " ", limit=50)) == ["155000"]
    assert len(ask(asked, token, json.dumps(dict.fromkeys(map(str, range(99)))).encode()).json()["errors"]) == 20


@pytest.mark.parametrize(
    "text",
    [
        "& | ! :* <-> ()",
        "'; DELETE FROM inbox; --",
        "מדפסת \u202e לא",
        "🖨️🔥",
        "x" * 10_000,
        "the and of",
        "?!… —",
        "%s {} $1 \\",
    ],
)
def test_no_text_makes_it_fail(asked: Server, token: str, text: str) -> None:
    """What holds no word that any ticket has finds nothing, and that is no failure."""
    assert found(ask(asked, token, subject=text[:1000], description=text)) == []
    assert found(ask(asked, token, subject="VPN", description=text)) == ["155000"]


def test_filters_narrow_the_search_and_another_tenants_ids_name_nothing(
    asked: Server, token: str, module_database: Database, acme: Tenant, globex: Tenant
) -> None:
    assert globex.id != acme.id
    assert found(ask(asked, token, exclude_ticket_id="777")) == ["155000"]
    assert found(ask(asked, token, exclude_ticket_id="155000")) == []
    for members in ({"tags": ["theirs"]}, {"priority": ["Theirs"]}, {"resolved_after": "2026-01-31T09:30:00Z"}):
        assert found(ask(asked, token, **members)) == []
    wanted = {"priority": ["Low", "High"], "tags": ["x", "vpn"], "resolved_after": "2026-01-31T10:29:59+01:00"}
    assert found(ask(asked, token, **wanted)) == ["155000"]
    add_ticket(module_database, "globex", "778", description="Verona drucker", tags=["büro"])
    assert found(ask(asked, token, subject="Verona drucker")) == []


def test_one_line_and_one_count_each_without_text_or_token(asked: Server, token: str) -> None:
    before = counted(asked)
    answers = [
        ask(asked, token, subject="Wontbeseen VPN", description="Nothereeither."),
        ask(asked, token, Wontbeseen=1),
        ask(asked, "tibx_read_Wontbeseen"),
        asked.client.post(f"{PATH}?q=Wontbeseen"),
    ]
    ids = [one.headers["X-Correlation-ID"] for one in answers]
    lines = [asked.wait_for_line("question_answered", correlation_id=one)[0] for one in ids]
    assert [line["correlation_id"] for line in asked.lines() if line.get("correlation_id") in ids] == ids
    statuses = [(line["status"], line.get("tenant_id")) for line in lines]
    assert statuses == [(200, "acme"), (422, "acme"), (401, None), (401, None)]
    assert lines[0]["results"] == 1
    assert lines[0]["candidates"] >= 1
    assert lines[0]["lexemes"] >= 2
    assert len(lines[0]["trace_id"]) == 32
    for private in ("Wontbeseen", "Nothereeither", token, "firmware", read_token.hashed(token.encode()).hex()):
        assert private not in asked.text() + asked.client.get("/metrics").text
    rise = {key: value - before.get(key, 0) for key, value in counted(asked).items() if value != before.get(key)}
    assert rise == {("answered", "acme"): 1, ("invalid-question", "acme"): 1, ("read-token", ""): 2}
    text = asked.client.get("/metrics").text
    assert re.search(r'^ticket_inbox_similar_duration_seconds_count\{outcome="answered"\} [1-9]', text, re.MULTILINE)
    assert re.search(rf'^http_server_request_duration_seconds_count\{{.*http_route="{PATH}"', text, re.MULTILINE)
    assert "ticket_inbox_webhooks_total" not in {name for (name, _), value in values(text).items() if value}


def counted(server: Server) -> dict[tuple[str, str], float]:
    """Return the counts of answered questions by outcome and tenant."""
    return {
        (dict(labels)["outcome"], dict(labels)["tenant_id"]): value
        for (name, labels), value in values(server.client.get("/metrics").text).items()
        if name == "ticket_inbox_similar_questions_total"
    }


@pytest.fixture(scope="module")
def described(asked: Server) -> dict[str, Any]:
    document: dict[str, Any] = asked.client.get("/schema").json()
    return document


def test_the_token_and_the_headers_are_described(described: dict[str, Any]) -> None:
    operation = described["paths"][PATH]["post"]
    [scheme] = operation["security"][0]
    assert described["components"]["securitySchemes"][scheme]["scheme"] == "bearer"
    assert [one["name"] for one in operation["parameters"]] == ["X-Correlation-ID", "traceparent"]


def test_the_body_is_described_with_an_example_that_is_answered(
    described: dict[str, Any], asked: Server, token: str
) -> None:
    content = described["paths"][PATH]["post"]["requestBody"]["content"]["application/json"]
    schema = content["schema"]
    assert schema["additionalProperties"] is False
    assert set(schema["properties"]) == {
        "subject", "description", "limit", "exclude_ticket_id", "resolved_after", "priority", "tags",
    }  # fmt: skip
    [example] = content["examples"].values()
    assert ask(asked, token, json.dumps(example["value"]).encode()).status_code == 200


def test_every_answer_is_described_with_an_example(described: dict[str, Any], asked: Server, token: str) -> None:
    responses = described["paths"][PATH]["post"]["responses"]
    assert set(responses) == {"200", "400", "401", "408", "413", "415", "422", "429", "431", "500", "503"}
    for status, response in responses.items():
        assert response["description"]
        assert "X-Correlation-ID" in response["headers"]
        [content] = response["content"].values()
        [example] = content["examples"].values()
        name = content["schema"]["$ref"].rpartition("/")[2]
        members = described["components"]["schemas"][name]
        assert set(members["required"]) <= set(example["value"]) <= set(members["properties"]), status
    assert "WWW-Authenticate" in responses["401"]["headers"]
    assert all("Retry-After" in responses[status]["headers"] for status in ("429", "503"))
    [example] = responses["200"]["content"]["application/json"]["examples"].values()
    [ticket] = ask(asked, token).json()["tickets"]
    assert list(example["value"]["tickets"][0]) == list(ticket)
