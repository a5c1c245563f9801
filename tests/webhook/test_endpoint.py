"""A real server on a socket gives every answer of the contract's table."""

import base64
import json
import re
import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest

from app.webhook import PATH
from tests.support.system import JSON, Database, Server, Tenant

pytestmark = pytest.mark.one_postgres

HEADER = "X-ServiceDesk-Signature"
MIB = 1024 * 1024


def problem(response: httpx.Response, status: int) -> dict[str, Any]:
    """Check that `response` is a problem with `status`, and return its members."""
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/problem+json"
    found: dict[str, Any] = response.json()
    assert set(found) - {"errors"} == {"type", "title", "status", "detail", "correlation_id"}
    assert found["status"] == status
    assert found["correlation_id"] == response.headers["x-correlation-id"]
    return found


def rows(database: Database, tenant: Tenant) -> list[dict[str, Any]]:
    return database.query("SELECT * FROM inbox WHERE tenant_id = %s ORDER BY id", tenant.id)


def test_202_when_event_and_job_are_committed(server: Server, tenant: Tenant, module_database: Database) -> None:
    """The row holds the exact bytes and the signature, and a job names the row."""
    body = b" \n" + tenant.body(ticket_id="42", subject="Größe \U0001f5a8", more=[1.0, {}])
    signed = tenant.headers(body)
    response = server.post(body, signed)
    assert response.status_code == 202
    assert response.headers["content-type"] == "application/json"
    correlation_id = response.headers["x-correlation-id"]
    assert response.json() == {"status": "accepted", "correlation_id": correlation_id}
    [row] = rows(module_database, tenant)
    assert bytes(row["payload"]) == body
    assert (row["signature"], row["correlation_id"]) == (signed[HEADER], correlation_id)
    assert (row["ticket_id"], row["status"], row["source"]) == ("42", "pending", "webhook_resolved")
    [job] = module_database.query(
        "SELECT * FROM procrastinate_jobs WHERE args->'inbox_ids' @> to_jsonb(%s::bigint)", row["id"]
    )
    assert (job["task_name"], job["status"], job["args"]) == ("promote", "todo", {"inbox_ids": [row["id"]]})


@pytest.mark.parametrize("spell", [str.lower, str.upper], ids=["lower", "upper"])
@pytest.mark.parametrize("prefix", ["", "sha256="])
def test_202_for_hex(server: Server, tenant: Tenant, spell: Any, prefix: str) -> None:  # noqa: ANN401
    body = tenant.body()
    digest = tenant.headers(body)[HEADER].removeprefix("sha256=")
    assert server.post(body, {**JSON, HEADER: prefix + spell(digest)}).status_code == 202


@pytest.mark.parametrize("prefix", ["", "sha256="])
def test_202_for_base64(server: Server, tenant: Tenant, prefix: str) -> None:
    body = tenant.body()
    digest = bytes.fromhex(tenant.headers(body)[HEADER].removeprefix("sha256="))
    assert server.post(body, {**JSON, HEADER: prefix + base64.b64encode(digest).decode()}).status_code == 202


@pytest.mark.parametrize(
    "content_type",
    [
        "application/json",
        "application/json; charset=utf-8",
        "Application/JSON;charset=UTF-8",
        'application/json; charset="utf-8"',
        "application/json; charset=utf8",
        'application/json;charset="UTF8"',
        "application/json;",
        "application/json ;",
    ],
)
def test_202_for_json_however_it_is_spelled(server: Server, tenant: Tenant, content_type: str) -> None:
    body = tenant.body()
    assert server.post(body, tenant.headers(body, **{"Content-Type": content_type})).status_code == 202


@pytest.mark.parametrize(
    ("content_type", "why"),
    [(None, "no Content-Type"), ("", "no Content-Type"), ("text/plain", "not application/json"),
     ("text/plain; charset=utf-8", "not application/json"), ("application/x-www-form-urlencoded", "not application/json"),
     ("application/jsonx", "not application/json"), ("application/problem+json", "not application/json"),
     ("multipart/form-data", "not application/json"), ("application/json, text/plain", "not application/json"),
     ("application/json; charset=latin-1", "another charset"), ("application/json; charset=utf-8; version=1", "more than"),
     ("application/json; charset=utf-8;", "more than"), ("application/json; charset=utf88", "another charset"),
     ("application/json; charset", "a parameter"), ("application/json; version=1", "a parameter"),
     ("application/json;;", "a parameter")],
)  # fmt: skip
def test_415_for_any_other_content_type_says_why(
    server: Server, tenant: Tenant, content_type: str | None, why: str
) -> None:
    body = tenant.body()
    headers = tenant.headers(body)
    headers.pop("Content-Type")
    if content_type is not None:
        headers["Content-Type"] = content_type
    detail = problem(server.post(body, headers), 415)["detail"]
    assert "Content-Type to application/json" in detail
    assert why in detail


def test_413_for_a_body_that_declares_its_length(server: Server, tenant: Tenant) -> None:
    body = tenant.body(more="x" * MIB)
    assert "1,048,576" in problem(server.post(body, tenant.headers(body)), 413)["detail"]


def test_413_for_chunks_that_add_up(server: Server, tenant: Tenant) -> None:
    body = tenant.body(more="x" * MIB)
    chunks = (body[start : start + 65536] for start in range(0, len(body), 65536))
    problem(server.client.post(PATH, content=chunks, headers=tenant.headers(body)), 413)


def test_202_at_the_limit_and_in_chunks(server: Server, tenant: Tenant) -> None:
    empty = len(tenant.body(ticket_id="limit", more=""))
    body = tenant.body(ticket_id="limit", more="x" * (MIB - empty))
    assert len(body) == MIB
    chunks = (body[start : start + 10_000] for start in range(0, len(body), 10_000))
    assert server.client.post(PATH, content=chunks, headers=tenant.headers(body)).status_code == 202
    more = body[:-2] + b'x"}'
    problem(server.post(more, tenant.headers(more)), 413)


@pytest.mark.parametrize(
    "body", [b"", b"{", b"[]", b"null", b'"x"', b"\xff", b'{"tenant_id": "\xff"}', b"[" * 50_000, b'{"a":' * 50_000]
)
def test_400_for_what_is_no_json_object(server: Server, tenant: Tenant, body: bytes) -> None:
    assert "JSON object" in problem(server.post(body, tenant.headers(body)), 400)["detail"]


@pytest.mark.parametrize("tenant_id", [..., None, 7, ["acme"], {}])
def test_422_without_a_tenant_keeps_nothing(
    server: Server, tenant: Tenant, module_database: Database, tenant_id: object
) -> None:
    """Without a tenant the server cannot verify the signature, so it keeps nothing."""
    before = module_database.value("SELECT count(*) FROM inbox")
    found = problem(server.send(tenant, tenant_id=tenant_id), 422)
    assert found["errors"] == [{"field": "tenant_id", "message": "must be a string of 1 to 100 characters"}]
    assert module_database.value("SELECT count(*) FROM inbox") == before


def test_401_is_the_same_whatever_is_wrong(
    server: Server, tenant: Tenant, tenants: Iterator[Tenant], module_database: Database
) -> None:
    """Signature absent or wrong, tenant unknown or disabled: only the correlation id differs, and nothing is kept."""
    disabled = next(tenants)
    module_database.query("UPDATE tenant_configs SET enabled = false WHERE tenant_id = %s", disabled.id)
    server.wait_until_known(disabled, known=False)
    module_database.query("DELETE FROM inbox WHERE tenant_id = %s", disabled.id)  # the rows of wait_until_known
    body = tenant.body()
    unknown, long, nul = Tenant("unknown", "s"), Tenant("x" * 101, "s"), Tenant("a\0", "s")
    answers = [
        server.post(body, JSON),
        server.post(body, {**JSON, HEADER: ""}),
        server.post(body, {**JSON, HEADER: "sha256=zz"}),
        server.post(body, {**JSON, HEADER: b"\xff\xfe"}),  # type: ignore[dict-item]
        server.post(body, {**JSON, HEADER: "0" * 64}),
        server.post(body + b" ", tenant.headers(body)),
        *(server.send(other) for other in (unknown, disabled, long, nul, Tenant("", "s"))),
        server.send(Tenant(tenant.id, "wrong"), subject=None),
    ]
    found = [problem(answer, 401) for answer in answers]
    texts = {answer.text.replace(members["correlation_id"], "") for answer, members in zip(answers, found, strict=True)}
    assert len(texts) == 1
    expected = tenant.headers(body)[HEADER].removeprefix("sha256=")
    assert not [text for text in texts if tenant.secret in text or expected in text]
    assert HEADER in texts.pop()
    headers = {tuple(name for name, _ in answer.headers.items()) for answer in answers}
    assert len(headers) == 1
    assert rows(module_database, tenant) == rows(module_database, disabled) == []


def test_a_timestamp_is_not_looked_at_unless_the_setting_asks_for_one(server: Server, tenant: Tenant) -> None:
    body, timestamp = tenant.body(), {"X-ServiceDesk-Timestamp": "1"}
    assert server.post(body, tenant.headers(body, **timestamp)).status_code == 202
    assert server.post(body, {**tenant.headers(b"1." + body), **timestamp}).status_code == 401


def test_another_tenants_secret_does_not_verify(
    server: Server, tenant: Tenant, tenants: Iterator[Tenant], module_database: Database
) -> None:
    other = next(tenants)
    body = tenant.body()
    problem(server.post(body, other.headers(body)), 401)
    assert rows(module_database, tenant) == rows(module_database, other) == []


def test_422_keeps_the_event_and_says_all_that_is_wrong(
    server: Server, tenant: Tenant, module_database: Database
) -> None:
    body = tenant.body(ticket_id="77", resolved_date="31.01.2026", priority=None, subject="nul \0")
    found = problem(server.post(body, tenant.headers(body)), 422)
    assert [error["field"] for error in found["errors"]] == ["subject", "resolved_date", "priority"]
    assert "31.01.2026" not in json.dumps(found)
    [row] = rows(module_database, tenant)
    assert bytes(row["payload"]) == body
    assert (row["status"], row["ticket_id"], row["correlation_id"]) == ("rejected", "77", found["correlation_id"])
    assert "resolved_date must be" in row["error"]
    assert "priority must be a string" in row["error"]
    assert not module_database.query(
        "SELECT FROM procrastinate_jobs WHERE args->'inbox_ids' @> to_jsonb(%s::bigint)", row["id"]
    )


@pytest.mark.parametrize("ticket_id", [..., None, 7, " ", "x" * 101, "a\0"])
def test_422_without_a_ticket_id_is_kept_without_one(
    server: Server, tenant: Tenant, module_database: Database, ticket_id: object
) -> None:
    found = problem(server.send(tenant, ticket_id=ticket_id), 422)
    assert [error["field"] for error in found["errors"]] == ["ticket_id"]
    [row] = rows(module_database, tenant)
    assert (row["status"], row["ticket_id"]) == ("rejected", None)


def test_a_description_at_the_limit_passes_and_one_over_does_not(server: Server, tenant: Tenant) -> None:
    """The limit counts characters, not bytes."""
    assert server.send(tenant, description="🖨" * 10_000).status_code == 202
    found = problem(server.send(tenant, description="x" * 10_001), 422)
    assert found["errors"] == [{"field": "description", "message": "must be a string of at most 10,000 characters"}]


def test_checks_run_in_the_contracts_order(server: Server, tenant: Tenant) -> None:
    """415, 413, 400, 422 without a tenant, 401, 422: a request with two faults gets the earlier answer."""
    huge = b"[" * (MIB + 1)
    assert server.post(huge, {"Content-Type": "text/plain"}).status_code == 415
    assert server.post(huge, JSON).status_code == 413
    assert server.post(b"[", JSON).status_code == 400
    assert server.post(b"{}", JSON).status_code == 422
    assert server.post(tenant.body(subject=None), JSON).status_code == 401
    assert server.send(tenant, subject=None).status_code == 422


@pytest.mark.parametrize("given", ["a", "A.b_c:d-9", "x" * 128])
def test_a_valid_correlation_id_is_kept(server: Server, tenant: Tenant, module_database: Database, given: str) -> None:
    body = tenant.body()
    response = server.post(body, tenant.headers(body, **{"X-Correlation-ID": given}))
    assert response.headers["x-correlation-id"] == response.json()["correlation_id"] == given
    assert [row["correlation_id"] for row in rows(module_database, tenant)] == [given]


@pytest.mark.parametrize("given", [None, "", "x" * 129, "a b", "a\tb", "ä", "a;b", "<script>"])
def test_any_other_correlation_id_is_replaced(server: Server, given: str | None) -> None:
    headers = {} if given is None else {"X-Correlation-ID": given.encode("utf-8")}
    response = server.client.post(PATH, headers=headers)  # type: ignore[arg-type]
    assert re.fullmatch(r"[0-9a-f-]{36}", problem(response, 415)["correlation_id"])


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [("GET", PATH, 405), ("PUT", PATH, 405), ("GET", "/", 404), ("POST", "/webhook/", 404), ("GET", "/health/live", 200),
     ("POST", "/health/live", 405), ("GET", "/schema", 200)],
)  # fmt: skip
def test_every_answer_carries_a_correlation_id(server: Server, method: str, path: str, status: int) -> None:
    response = server.client.request(method, path, headers={"X-Correlation-ID": "kept"})
    assert (response.status_code, response.headers["x-correlation-id"]) == (status, "kept")
    if status >= 400:
        problem(response, status)
    if status == 405:
        assert response.headers["allow"]


@pytest.mark.parametrize(
    ("given", "continued"),
    [
        ("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", True),
        ("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00", True),
        ("00-00000000000000000000000000000000-00f067aa0ba902b7-01", False),
        ("00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01", False),
        ("junk", False),
    ],
)
def test_a_valid_traceparent_is_continued(
    server: Server,
    tenant: Tenant,
    module_database: Database,
    given: str,
    continued: bool,  # noqa: FBT001
) -> None:
    body = tenant.body()
    assert server.post(body, tenant.headers(body, traceparent=given)).status_code == 202
    [row] = rows(module_database, tenant)
    assert re.fullmatch(r"00-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-0[01]", row["traceparent"])
    assert (row["traceparent"] == given) is continued


def test_each_webhook_leaves_one_line_without_a_secret(server: Server, tenant: Tenant) -> None:
    bodies = {
        status: tenant.body(resolution="private words", priority=value) for status, value in ((202, "P1"), (422, 1))
    }
    named = {"X-Correlation-ID": f"line-{tenant.id}"}
    for status, body in bodies.items():
        assert server.post(body, tenant.headers(body, **named)).status_code == status
    server.post(bodies[202], {**JSON, **named})
    # The server writes the line after it has begun to send the answer.
    lines = server.wait_for_line("webhook_answered", 3, correlation_id=f"line-{tenant.id}")
    assert [(line["status"], line["level"]) for line in lines] == [(202, "info"), (422, "warning"), (401, "warning")]
    assert all(line["duration_ms"] > 0 and len(line["trace_id"]) == 32 for line in lines)
    assert lines[0]["inbox_id"]
    assert "priority must be a string" in lines[1]["error"]
    assert tenant.secret not in server.text()
    assert "private words" not in server.text()


def test_a_redelivery_is_another_row(server: Server, tenant: Tenant, module_database: Database) -> None:
    body = tenant.body()
    assert {server.post(body, tenant.headers(body)).status_code for _ in range(3)} == {202}
    assert len(rows(module_database, tenant)) == 3


def test_a_sender_that_hangs_up_loses_nothing(server: Server, tenant: Tenant, module_database: Database) -> None:
    """The server keeps a whole request although its sender does not wait; half of one it drops, without an error."""
    address = urlsplit(server.url)
    body = tenant.body()
    head = "".join(f"{name}: {value}\r\n" for name, value in tenant.headers(body).items())
    whole = f"POST {PATH} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n{head}\r\n".encode() + body
    for sent in [whole] * 10 + [whole[:-1]] * 10:
        with socket.create_connection((address.hostname, address.port)) as connection:
            connection.sendall(sent)
    module_database.wait_for(f"SELECT count(*) FROM inbox WHERE tenant_id = '{tenant.id}'", 10, within=10)
    assert server.send(tenant).status_code == 202
    assert not [line for line in server.lines() if "traceback" in line]


def test_many_at_once(server: Server, tenant: Tenant, module_database: Database) -> None:
    with ThreadPoolExecutor(32) as pool:
        answers = list(pool.map(lambda _: server.send(tenant).status_code, range(200)))
    assert answers == [202] * 200
    assert len(rows(module_database, tenant)) == 200
