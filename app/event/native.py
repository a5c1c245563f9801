"""What does a request of ServiceDesk Plus' API V3 hold? It is what a sender has anyway: `request` as SDP wrote it.

Members and their shapes are those of the vendor's documentation and of captures in public clients; a live ServiceDesk
Plus was never asked. Source: https://www.manageengine.com/products/service-desk/sdpod-v3-api/requests/request.html
"""

import functools
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from app.event.characters import tidy
from app.event.html_text import text_of, text_of_flat
from app.event.rules import TOO_DEEP, BrokenRule, Event, Form, ResolvedTicket, Rules, explain

MAX_SUBJECT_CHARS = 1000
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
FORM = Form(Request, RULES, "id", "request", "must be an object: a request of API V3")
_decoder = msgspec.json.Decoder(NativePayload)


def parse(body: bytes, rules: Rules) -> Event:
    """Return the event that `body`, whose member `request` is of API V3, holds: a ticket, or every rule that it breaks.

    The ticket's texts are cut, with a mark, where they are over their limits.
    """
    try:
        payload = _decoder.decode(body)
    except RecursionError:
        return TOO_DEEP
    except ValueError:
        return explain(FORM, body, rules)
    return _event(payload, rules)


def _event(payload: NativePayload, rules: Rules) -> Event:
    """Return the event of a payload that is right by its types."""
    request = payload.request
    is_storable = "\0" not in request.id
    broken = [] if is_storable else [BrokenRule("request.id", RULES["id"])]
    known = {name.casefold() for name in rules.resolved_statuses}
    if known and (request.status.name or "").strip().casefold() not in known:
        broken.append(BrokenRule("request.status", NOT_RESOLVED.format(", ".join(rules.resolved_statuses))))
    try:
        resolved_date = _resolved(request)
    except ValueError:
        broken.append(BrokenRule("request.resolved_time", NO_TIME))
    except OverflowError:
        broken.append(BrokenRule("request.resolved_time", _WHEN))
    if broken:
        return Event(request.id if is_storable else None, broken)
    return Event(request.id, make=functools.partial(_ticket, payload, resolved_date, rules))


def _ticket(payload: NativePayload, resolved_date: datetime, rules: Rules) -> ResolvedTicket:
    request = payload.request
    resolution = _clean(request.resolution.content if request.resolution else None)
    subject = text_of_flat(_clean(request.subject), MAX_SUBJECT_CHARS)
    description = text_of(_clean(request.description), rules.max_description_chars)
    return ResolvedTicket(
        tenant_id=payload.tenant_id,
        ticket_id=request.id,
        description=f"{subject}\n\n{description}",
        resolution=text_of(resolution),
        resolved_date=resolved_date,
        priority=tidy(_clean(request.priority.name if request.priority else None)),
        tags=[tidy(_clean(name)) for name in map(_name, request.tags or []) if name],
    )


def _resolved(request: Request) -> datetime:
    """Return when it was resolved. Raises ValueError where it does not say, OverflowError past the year 9999."""
    moment = request.resolved_time or request.completed_time
    if moment is None:
        raise ValueError
    return _EPOCH + timedelta(milliseconds=int(moment.value))


def _name(tag: object) -> str | None:
    """Return a tag's name; nobody confirmed how tags look, and one of another shape is no reason to lose the ticket."""
    name = tag.get("name") if isinstance(tag, dict) else tag
    return name if isinstance(name, str) else None


def _clean(text: str | None) -> str:
    """Return a text that Postgres can store."""
    return (text or "").replace("\0", "\ufffd")
