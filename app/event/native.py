"""What does a request of ServiceDesk Plus' API V3 tell? It is what a sender has anyway: `request` as SDP wrote it.

Members and their shapes are those of the vendor's documentation and of captures in public clients; a live ServiceDesk
Plus was never asked. Source: https://www.manageengine.com/products/service-desk/sdpod-v3-api/requests/request.html
"""

from datetime import UTC, datetime, timedelta
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from app.event.html_text import text_of
from app.event.rules import BrokenRule, RejectedError, ResolvedTicket, Rules, broken_rules, holds_nul, members_of

MAX_SUBJECT_CHARS = 1000
MAX_TENANT_CHARS = 100
CUT = "\n[cut here: the text is longer than {:,} characters]"
EXAMPLE = {
    "tenant_id": "acme",
    "request": {
        "id": "155000000123456789",
        "subject": "VPN drops every hour",
        "description": "<div>Since Monday the VPN drops <b>every hour</b>.</div>",
        "resolution": {"content": "<div>Rolled the gateway's firmware back to 9.1.4.</div>"},
        "priority": {"id": "155000000000006803", "name": "High"},
        "status": {"id": "155000000000006660", "name": "Resolved"},
        "resolved_time": {"value": "1769851800000", "display_value": "Jan 31, 2026 09:30 AM"},
        "tags": [{"name": "vpn"}],
    },
}
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_WHEN = "must be null or an object whose `value` is milliseconds since 1970, as a string of digits"


class Named(msgspec.Struct, frozen=True):
    """What has a name in ServiceDesk Plus, such as a priority."""

    name: Annotated[str, Meta(max_length=1000)] | None = None


class Moment(msgspec.Struct, frozen=True):
    """A time: milliseconds since 1970, as a string. What is displayed has no zone and the user's format."""

    value: Annotated[str, Meta(pattern="^[0-9]{1,15}$")] | Annotated[int, Meta(ge=0)]


class Resolution(msgspec.Struct, frozen=True):
    """How a request was resolved, in HTML."""

    content: str | None = None


class Request(msgspec.Struct, frozen=True, kw_only=True):
    """A request of API V3, as far as we read it."""

    id: Annotated[str, Meta(min_length=1, max_length=100, pattern=r"\S", description="A string: it exceeds 2^53.")]
    subject: Annotated[str | None, Meta(description="Cut at 1,000 characters.")] = None
    description: Annotated[str | None, Meta(description="HTML; its text is cut at MAX_DESCRIPTION_CHARS.")] = None
    resolution: Resolution | None = None
    priority: Named | None = None
    status: Annotated[Named, Meta(description="One of RESOLVED_STATUSES by its name.")]
    resolved_time: Moment | None = None
    completed_time: Annotated[Moment | None, Meta(description="Stands in for `resolved_time`.")] = None
    tags: Annotated[list[Any] | None, Meta(description="Texts, or objects with a `name`.")] = None


class NativePayload(msgspec.Struct, frozen=True):
    """A request of API V3 as ServiceDesk Plus gave it; members that are not listed are ignored, and kept."""

    tenant_id: Annotated[str, Meta(min_length=1, max_length=100, description="The tenant whose secret signed it.")]
    request: Request


RULES = {
    "id": "must be a string of 1 to 100 characters, not only white space; a number would lose digits",
    "subject": "must be a string or null",
    "description": "must be a string (HTML) or null",
    "resolution": "must be null or an object whose `content` is a string (HTML) or null",
    "priority": "must be null or an object with a `name`",
    "status": "must be an object with a `name`",
    "resolved_time": _WHEN,
    "completed_time": _WHEN,
    "tags": "must be an array or null",
}
NOT_RESOLVED = (
    "is none of {} (RESOLVED_STATUSES): mend the trigger in ServiceDesk Plus, so that it fires only when the status "
    "becomes one of them"
)
NO_TIME = "is null, and completed_time too: a resolved request has one of them"
_decoder = msgspec.json.Decoder(NativePayload)


def read(body: bytes, rules: Rules) -> NativePayload:
    """Read a payload with the member `request`, by its types and `rules`. Raises RejectedError."""
    try:
        payload = _decoder.decode(body)
    except RecursionError:
        raise RejectedError([BrokenRule("(body)", "is nested too deeply")]) from None
    except ValueError:
        raise RejectedError(_broken(body), _id_of(body)) from None
    if broken := _broken_beyond_types(payload.request, rules):
        raise RejectedError(broken, None if holds_nul(payload.request.id) else payload.request.id)
    return payload


def ticket(payload: NativePayload, rules: Rules) -> ResolvedTicket:
    """Give the ticket that `payload`, which read() gave, tells of. A text over its limit is cut, with a mark."""
    request = payload.request
    subject = _cut(_clean(request.subject), MAX_SUBJECT_CHARS)
    description = _cut(text_of(_clean(request.description)), rules.max_description_chars)
    return ResolvedTicket(
        tenant_id=payload.tenant_id,
        ticket_id=request.id,
        description=f"{subject}\n\n{description}",
        resolution=text_of(_clean(request.resolution.content if request.resolution else None)),
        resolved_date=_resolved(request),
        priority=_clean(request.priority.name if request.priority else None),
        tags=[_clean(name) for name in map(_name, request.tags or []) if name],
    )


def _broken(body: bytes) -> list[BrokenRule]:
    members = members_of(body)
    broken = []
    if not 1 <= len(msgspec.json.decode(members["tenant_id"], type=str)) <= MAX_TENANT_CHARS:
        broken.append(BrokenRule("tenant_id", f"must be a string of 1 to {MAX_TENANT_CHARS} characters"))
    try:
        request = members_of(members["request"])
    except ValueError:
        return [*broken, BrokenRule("request", "must be an object: a request of API V3")]
    found = broken_rules(Request, request, RULES, lambda _name, _value: False)
    return broken + [BrokenRule(f"request.{one.field}", one.message) for one in found]


def _id_of(body: bytes) -> str | None:
    try:
        raw = members_of(members_of(body)["request"])["id"]
        given: str = msgspec.json.decode(raw, type=Request.__annotations__["id"])
    except (KeyError, ValueError):
        return None
    return None if holds_nul(given) else given


def _broken_beyond_types(request: Request, rules: Rules) -> list[BrokenRule]:
    broken = [BrokenRule("request.id", RULES["id"])] if holds_nul(request.id) else []
    known = {name.casefold() for name in rules.resolved_statuses}
    if known and (request.status.name or "").strip().casefold() not in known:
        broken.append(BrokenRule("request.status", NOT_RESOLVED.format(", ".join(rules.resolved_statuses))))
    try:
        _resolved(request)
    except ValueError:
        broken.append(BrokenRule("request.resolved_time", NO_TIME))
    except OverflowError:
        broken.append(BrokenRule("request.resolved_time", _WHEN))
    return broken


def _resolved(request: Request) -> datetime:
    """Give when it was resolved. Raises ValueError where it does not say, OverflowError past the year 9999."""
    moment = request.resolved_time or request.completed_time
    if moment is None:
        raise ValueError
    return _EPOCH + timedelta(milliseconds=int(moment.value))


def _name(tag: object) -> str | None:
    """Give a tag's name; how tags look is not confirmed, and one of another shape is no reason to lose the ticket."""
    name = tag.get("name") if isinstance(tag, dict) else tag
    return name if isinstance(name, str) else None


def _clean(text: str | None) -> str:
    """Give a text that Postgres can store."""
    return (text or "").replace("\0", "\ufffd")


def _cut(text: str, limit: int) -> str:
    if len(text) <= limit:
        return text
    mark = CUT.format(limit)
    return text[: max(limit - len(mark), 0)] + mark[:limit]
