"""What does /schema say of the webhooks beyond what their types say?"""

from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any, ClassVar

import msgspec
from litestar import Litestar, MediaType, get, post
from litestar.datastructures import State
from litestar.handlers import HTTPRouteHandler
from litestar.openapi.config import OpenAPIConfig
from litestar.openapi.datastructures import ResponseSpec
from litestar.openapi.spec import (
    Components,
    Example,
    OpenAPIHeader,
    OpenAPIMediaType,
    OpenAPIType,
    Operation,
    Parameter,
    Reference,
    RequestBody,
    Schema,
)

from app import correlation
from app.event import BrokenRule
from app.webhook import problems, signature
from app.webhook.endpoint import Accepted
from app.webhook.kinds import KINDS, Form, Kind

BROKEN = (BrokenRule("ticket_id", "must be a string of 1 to 100 characters, not only white space"),)
TEXT = Schema(type=OpenAPIType.STRING)
_WHEN = {
    400: "The body is not JSON, not UTF-8, or not an object; or the request is not HTTP, such as one with two Hosts.",
    401: "The signature is absent, malformed or wrong, or the tenant is unknown or disabled; all answer alike.",
    408: "The request did not arrive within REQUEST_TIMEOUT_SECONDS. The connection is closed.",
    413: "The body is longer than MAX_BODY_BYTES.",
    415: "The content type is not application/json, alone or with charset=utf-8.",
    422: "A member is missing or breaks its rule. A verified event is kept in the inbox as `rejected`.",
    429: "The tenant sends more than TENANT_RATE allows it. Send it again later; it was not kept.",
    431: "The request's line and headers are longer than MAX_HEADER_BYTES. The connection is closed.",
    500: "Something unforeseen; the log has the reason under the correlation id.",
    503: "Postgres cannot take the event now, too many wait for it, the tenants have not been read yet, or too many "
    "connections are open. "
    "Send it again: that is harmless.",
}


def refusal(
    status: int, when: str, kind: tuple[str, str] | None = None, broken: Sequence[BrokenRule] = BROKEN
) -> ResponseSpec:
    """Describe a problem that is answered `when`, by default of webhooks' kind; `broken` is the example for 422."""
    slug, title = kind or problems.KINDS[status]
    problem = problems.Problem(
        type=f"urn:ticket-inbox:problem:{slug}",
        title=title,
        status=status,
        detail=when,
        correlation_id="c0ffee",
        errors=broken if status == 422 else (),  # noqa: PLR2004
    )
    return ResponseSpec(
        problems.Problem,
        generate_examples=False,
        description=when,
        media_type=problems.MEDIA_TYPE,
        examples=[Example(summary=title, value=msgspec.to_builtins(problem))],
    )


REFUSALS = {status: refusal(status, when) for status, when in _WHEN.items()}


@dataclass
class WebhookOperation(Operation):
    """A webhook's operation: the body that the handler verifies as bytes, and every header."""

    kind: ClassVar[Kind]

    def __post_init__(self) -> None:
        self.summary = self.kind.summary
        self.description = "Verifies the signature, commits the raw event with the job that promotes it, answers 202."
        self.request_body = RequestBody(
            required=True,
            content={"application/json": _payload(self.kind.forms)},
        )
        self.parameters = _parameters()
        for status, response in (self.responses or {}).items():
            response.headers = _headers(status)  # type: ignore[union-attr]
        accepted = self.responses["202"].content["application/json"]  # type: ignore[index,union-attr]
        accepted.examples = example({"status": "accepted", "correlation_id": "c0ffee"})


def document(others: Sequence[HTTPRouteHandler], components: Components | None = None) -> bytes:
    """Return the OpenAPI document, as JSON, of the webhooks and of `others`, with the `components` that these name."""
    config = OpenAPIConfig(
        title="ticket-inbox",
        version=version("ticket-inbox"),
        description="ServiceDesk Plus says “this ticket is resolved”; ticket-inbox never loses it.",
        components=components or Components(),
    )
    described = Litestar([*map(_documented, KINDS), *others], openapi_config=config, logging_config=None)
    return msgspec.json.encode(described.openapi_schema.to_schema())


@get(["/schema", "/schema/openapi.json"], media_type=MediaType.JSON, sync_to_thread=False)
def schema(state: State) -> bytes:
    """Answer with the OpenAPI document of this server's routes."""
    found: bytes = state.document
    return found


def _parameters() -> list[Parameter | Reference]:
    signed = "HMAC-SHA256 of the exact body bytes, keyed by the tenant's secret: hex or base64, `sha256=` optional."
    timed = (
        "Only where SIGNED_TIMESTAMP_SECONDS is set, and then required: the time in whole seconds since 1970. "
        "What is signed is this, a full stop, and the body."
    )
    return [
        _header(signature.HEADER, signed, "sha256=" + 64 * "0", required=True),
        _header(signature.TIMESTAMP_HEADER, timed, "1769851800"),
        *traced_headers("the webhook's trace continues it."),
    ]


def traced_headers(continued: str) -> list[Parameter | Reference]:
    """Describe the headers that each request may have; `continued` says what becomes of a trace."""
    kept = "Kept when valid, replaced by a fresh one when not; every answer carries it."
    return [
        _header(correlation.HEADER, kept, "c0ffee", Schema(type=OpenAPIType.STRING, max_length=128)),
        _header(
            "traceparent", f"W3C trace context: {continued}", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
        ),
    ]


def _header(name: str, what: str, example: str, schema: Schema = TEXT, *, required: bool = False) -> Parameter:
    return Parameter(name=name, param_in="header", description=what, schema=schema, example=example, required=required)


def _headers(status: str) -> dict[str, OpenAPIHeader]:
    headers = {correlation.HEADER: OpenAPIHeader(schema=TEXT, description="The webhook's correlation id.")}
    if status == "401":
        headers["WWW-Authenticate"] = OpenAPIHeader(schema=TEXT, description="The header that must sign the body.")
    if status in {"429", "503"}:
        headers["Retry-After"] = OpenAPIHeader(schema=Schema(type=OpenAPIType.INTEGER), description="Seconds to wait.")
    return headers


def _documented(kind: Kind) -> HTTPRouteHandler:
    """Return a handler that stands for a webhook in the document: Litestar describes no ASGI handler."""
    operation = type("Operation", (WebhookOperation,), {"kind": kind})

    @post(kind.path, status_code=202, operation_class=operation, responses=REFUSALS, sync_to_thread=False)
    def documented() -> Accepted:
        raise AssertionError("it is described and never called")

    return documented


def example(value: dict[str, Any]) -> dict[str, Example | Reference]:
    """Return an example as the document has it."""
    return {"example": Example(value=value)}


def _payload(forms: Sequence[Form]) -> OpenAPIMediaType:
    """Return the schemas of a payload's forms as msgspec describes them, in Litestar's words, and their examples."""
    described, components = msgspec.json.schema_components([one.payload for one in forms], ref_template="{name}")
    schemas = [_schema(one, components) for one in described]
    members = {name: schema for one in schemas for name, schema in (one.properties or {}).items()}
    whole = Schema(type=OpenAPIType.OBJECT, properties=members, required=["tenant_id"], any_of=schemas)
    named = zip(("example", "native"), forms, strict=False)
    examples: dict[str, Example | Reference] = {
        name: Example(summary=form.summary, value=form.example) for name, form in named
    }
    return OpenAPIMediaType(schema=whole, examples=examples)


def schema_of(kind: type[msgspec.Struct]) -> Schema:
    """Return the schema of a body as msgspec describes it, in Litestar's words."""
    [described], components = msgspec.json.schema_components([kind], ref_template="{name}")
    return _schema(described, components)


def _schema(described: dict[str, Any], components: dict[str, Any]) -> Schema:
    described = components[described["$ref"]] if "$ref" in described else described
    names = {
        "minLength": "min_length",
        "maxLength": "max_length",
        "minItems": "min_items",
        "maxItems": "max_items",
        "anyOf": "any_of",
        "additionalProperties": "additional_properties",
    }
    members = {names.get(name, name): value for name, value in described.items()}
    if "properties" in members:
        members["properties"] = {name: _schema(value, components) for name, value in members["properties"].items()}
    if "items" in members:
        members["items"] = _schema(members["items"], components)
    if "any_of" in members:
        members["any_of"] = [_schema(one, components) for one in members["any_of"]]
    if "type" in members:
        members["type"] = OpenAPIType(members["type"])
    return Schema(**members)
