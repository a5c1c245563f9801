"""What does /schema say of the search beyond what its types say?"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any

import msgspec
from litestar import post
from litestar.openapi.datastructures import ResponseSpec
from litestar.openapi.spec import Components, OpenAPIHeader, OpenAPIMediaType, Operation, RequestBody, SecurityScheme
from msgspec import Meta

from app import correlation
from app.event import BrokenRule
from app.search import PATH, refusal
from app.search.question import EXAMPLE, MOST_TEXTS, RULES, QuestionPayload
from app.webhook import openapi

SCHEME = "read_token"
COMPONENTS = Components(
    security_schemes={
        SCHEME: SecurityScheme(
            type="http",
            scheme="bearer",
            description="A read token, made by `ticket-inbox tenant token add`. It names its tenant.",
        )
    }
)
BROKEN = (BrokenRule("tags", RULES["tags"]),)
WHEN = {
    400: "The body is not JSON, not UTF-8, or not an object; or the request is not HTTP, such as one with two Hosts.",
    401: "The token is absent, unknown or revoked, or its tenant is disabled; all answer alike.",
    408: "The request did not arrive within REQUEST_TIMEOUT_SECONDS. The connection is closed.",
    413: "The body is longer than MAX_BODY_BYTES.",
    415: "The content type is not application/json, alone or with charset=utf-8.",
    422: "A member breaks its rule or is unknown, or neither subject nor description has text.",
    429: "The tenant asks more than TENANT_RATE allows it. Ask again later.",
    431: "The request's line and headers are longer than MAX_HEADER_BYTES. The connection is closed.",
    500: "Something unforeseen; the log has the reason under the correlation id.",
    503: "Postgres cannot answer now or took longer than 2 seconds, the tickets are still being indexed, the tokens "
    "cannot be read, or too many questions, or webhooks, which come first, wait for Postgres. Ask again.",
}
HEADERS = {
    "401": ("WWW-Authenticate", "Always `Bearer`."),
    "429": ("Retry-After", "Seconds to wait."),
    "503": ("Retry-After", "Seconds to wait."),
}


class SimilarTicket(msgspec.Struct, frozen=True):
    """A resolved ticket that is similar to the question."""

    ticket_id: str
    display_id: Annotated[str | None, Meta(description="The number that people know it by; null where unknown.")]
    subject: Annotated[str, Meta(description="The stored text up to its first blank line.")]
    description: Annotated[str, Meta(description="The rest of the stored text.")]
    resolution: str
    resolved_date: datetime
    priority: str | None
    tags: Sequence[str] | None
    source: Annotated[str, Meta(description="What brought its values.")]
    score: Annotated[
        float, Meta(ge=0, le=1, description="Compared with the question itself as a ticket of the tenant.")
    ]
    matched: Annotated[
        Sequence[str], Meta(description="The question's words that it was found by, the most telling first.")
    ]


class SimilarTickets(msgspec.Struct, frozen=True):
    """The most similar tickets of the token's tenant, the best first."""

    tickets: Sequence[SimilarTicket]
    correlation_id: str


ANSWER = {
    "tickets": [
        {
            "ticket_id": "155000",
            "display_id": "4711",
            "subject": "VPN drops every hour",
            "description": "Since Monday the VPN drops every hour, on every laptop of the sales team.",
            "resolution": "Rolled the gateway's firmware back to 9.1.4.",
            "resolved_date": "2026-01-31T09:30:00+00:00",
            "priority": "High",
            "tags": ["vpn", "network"],
            "source": "webhook_resolved",
            "score": 0.41,
            "matched": ["VPN", "drops", "hour"],
        }
    ],
    "correlation_id": "c0ffee",
}


@dataclass
class QuestionOperation(Operation):
    """The search's operation: the body that the handler reads as bytes, and every header."""

    def __post_init__(self) -> None:
        self.summary = "Find how similar tickets were resolved"
        self.description = (
            "Takes a new ticket, and answers with the most similar resolved tickets of the token's tenant. "
            f"A filter names at most {MOST_TEXTS} values. No such ticket is 200 and an empty array; a failure never is."
        )
        self.security = [{SCHEME: []}]
        body = OpenAPIMediaType(schema=openapi.schema_of(QuestionPayload), examples=openapi.example(EXAMPLE))
        self.request_body = RequestBody(required=True, content={"application/json": body})
        self.parameters = openapi.traced_headers("the question's trace continues it.")
        for status, response in (self.responses or {}).items():
            response.headers = _headers(status)  # type: ignore[union-attr]
        answered = self.responses["200"].content["application/json"]  # type: ignore[index,union-attr]
        answered.examples = openapi.example(ANSWER)


def _headers(status: str) -> dict[str, OpenAPIHeader]:
    headers = {correlation.HEADER: OpenAPIHeader(schema=openapi.TEXT, description="The question's correlation id.")}
    if status in HEADERS:
        name, what = HEADERS[status]
        headers[name] = OpenAPIHeader(schema=openapi.TEXT, description=what)
    return headers


def _refusal(status: int, when: str) -> ResponseSpec:
    return openapi.refusal(status, when, refusal.kind_of(status), BROKEN)


OUR_FAULTS = {status: refusal.kind_of(status)[0] for status in (500, 503)}
REFUSALS: dict[int, Any] = {status: _refusal(status, when) for status, when in WHEN.items()}


@post(PATH, status_code=200, operation_class=QuestionOperation, responses=REFUSALS, sync_to_thread=False)
def documented() -> SimilarTickets:
    """Stand for the search in the document: Litestar describes no ASGI handler."""
    raise AssertionError("it is described and never called")
