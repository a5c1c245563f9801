"""What does a request of ServiceDesk Plus' API V3 hold? It is what a sender has anyway: `request` as SDP wrote it.

Members and their shapes are those of the vendor's documentation and of captures in public clients; a live ServiceDesk
Plus was never asked. Source: https://www.manageengine.com/products/service-desk/sdpod-v3-api/requests/request.html
"""

import contextlib
import functools
from collections.abc import Collection, Sequence
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from app.event import display_id
from app.event.characters import tidy
from app.event.display_id import DisplayId
from app.event.html_text import text_of, text_of_flat
from app.event.moment import Moment, milliseconds
from app.event.rules import TOO_DEEP, BrokenRule, Event, Form, ResolvedTicket, Rules, explain, members_of

MAX_SUBJECT_CHARS = 1000
EXAMPLE = {
    "tenant_id": "acme",
    "request": {
        "id": "155000000123456789",
        "display_id": "4711",
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


class Status(msgspec.Struct, frozen=True):
    """A status: its name is in the portal's language, or the administrator's words; what it is called inside is not."""

    name: Annotated[str, Meta(max_length=1000)] | None = None
    internal_name: Annotated[str, Meta(max_length=1000, description="In English, in every language.")] | None = None

    def is_one_of(self, names: Collection[str]) -> bool:
        """Return True if either of its names is among `names`, in any case."""
        known = {name.casefold() for name in names}
        return any((name or "").strip().casefold() in known for name in (self.name, self.internal_name))


class Resolution(msgspec.Struct, frozen=True):
    """How a request was resolved, in HTML."""

    content: str | None = None


class Closure(msgspec.Struct, frozen=True):
    """How a request was closed."""

    closure_comments: Annotated[str | None, Meta(description="Stand in for an empty `resolution`.")] = None


class Request(msgspec.Struct, frozen=True, kw_only=True):
    """A request of API V3, as far as we read it; a member that may be missing is ignored where it has another shape."""

    id: Annotated[str, Meta(min_length=1, max_length=100, pattern=r"\S", description="A string: it exceeds 2^53.")]
    subject: Annotated[str | None, Meta(description="Cut at 1,000 characters.")] = None
    description: Annotated[str | None, Meta(description="HTML; its text is cut at MAX_DESCRIPTION_CHARS.")] = None
    resolution: Annotated[Resolution | str | None, Meta(description="An object; a text alone is its content.")] = None
    closure_info: Closure | None = None
    priority: Annotated[Named | str | None, Meta(description="An object; a text alone is its name.")] = None
    status: Annotated[Status, Meta(description="One of RESOLVED_STATUSES by its name or its internal_name.")]
    resolved_time: Moment | None = None
    completed_time: Annotated[Moment | None, Meta(description="Stands in for `resolved_time`.")] = None
    tags: Annotated[list[Any] | None, Meta(description="Texts, or objects with a `name`.")] = None
    display_id: DisplayId = msgspec.field(default_factory=msgspec.Raw)  # a default would stand in /schema


class NativePayload(msgspec.Struct, frozen=True):
    """A request of API V3 as ServiceDesk Plus gave it; members that are not listed are ignored, and kept."""

    tenant_id: Annotated[str, Meta(min_length=1, max_length=100, description="The tenant whose secret signed it.")]
    request: Request


RULES = {
    "id": "must be a string of 1 to 100 characters, not only white space; a number would lose digits",
    "status": "must be an object with a `name`",
}
NOT_RESOLVED = (
    "is none of {} (RESOLVED_STATUSES): mend the trigger in ServiceDesk Plus, so that it fires only when the status "
    "becomes one of them"
)
NO_TIME = "is null, and completed_time too: a resolved request has one of them"
FORM = Form(Request, RULES, "id", "request", "must be an object: a request of API V3")
TIMES = ("resolved_time", "completed_time")
_OPTIONAL = {field.name: field.type for field in msgspec.structs.fields(Request) if not field.required}
_decoder = msgspec.json.Decoder(NativePayload)


def parse(body: bytes, rules: Rules) -> Event:
    """Return the event that `body`, whose member `request` is of API V3, holds: a ticket, or every rule that it breaks.

    The ticket's texts are cut, with a mark, where they are over their limits.
    """
    try:
        return _event(_decoder.decode(body), (), rules)
    except RecursionError:
        return TOO_DEEP
    except ValueError:
        pass
    try:
        return _event(*_without_odd(body), rules)
    except (ValueError, RecursionError):
        return explain(FORM, body, rules)


def _without_odd(body: bytes) -> tuple[NativePayload, Sequence[str]]:
    """Return the payload without the members that may be missing and cannot be read, and the names of these.

    Raises ValueError where there are none, or something else cannot be read.
    """
    members = members_of(body)
    request = members_of(members["request"])
    odd = [name for name, kind in _OPTIONAL.items() if name in request and not _is_read(request[name], kind)]
    if not odd:
        raise ValueError
    rest = {name: raw for name, raw in request.items() if name not in odd}
    return _decoder.decode(msgspec.json.encode({"tenant_id": members["tenant_id"], "request": rest})), odd


def _is_read(raw: msgspec.Raw, kind: Any) -> bool:  # noqa: ANN401  (a member's type)
    try:
        msgspec.json.decode(raw, type=kind)
    except (ValueError, RecursionError):
        return False
    return True


def _event(payload: NativePayload, odd: Sequence[str], rules: Rules) -> Event:
    """Return the event of a payload that is right by its types, but for the members `odd`, which it lacks."""
    request = payload.request
    is_storable = "\0" not in request.id
    broken = [] if is_storable else [BrokenRule("request.id", RULES["id"])]
    if rules.resolved_statuses and not request.status.is_one_of(rules.resolved_statuses):
        broken.append(BrokenRule("request.status", NOT_RESOLVED.format(", ".join(rules.resolved_statuses))))
    resolved_date = _resolved(request)
    if resolved_date is None:
        unread = next((name for name in TIMES if name in odd or milliseconds(getattr(request, name))), None)
        broken.append(BrokenRule(f"request.{unread or TIMES[0]}", _WHEN if unread else NO_TIME))
    found = Event(
        request.id if is_storable else None,
        broken,
        display_id=display_id.read(request.display_id),
        ignored=[f"request.{name}" for name in odd],
    )
    if broken or resolved_date is None:
        return found
    return msgspec.structs.replace(found, make=functools.partial(_ticket, payload, resolved_date, rules))


def _ticket(payload: NativePayload, resolved_date: datetime, rules: Rules) -> ResolvedTicket:
    request = payload.request
    subject = text_of_flat(_clean(request.subject), MAX_SUBJECT_CHARS)
    description = text_of(_clean(request.description), rules.max_description_chars)
    priority = request.priority.name if isinstance(request.priority, Named) else request.priority
    return ResolvedTicket(
        tenant_id=payload.tenant_id,
        ticket_id=request.id,
        description=f"{subject}\n\n{description}",
        resolution=_resolution(request),
        resolved_date=resolved_date,
        priority=tidy(_clean(priority)),
        tags=[tidy(_clean(name)) for name in map(_name, request.tags or []) if name],
    )


def _resolution(request: Request) -> str:
    """Return how it was resolved, as text; where that is empty, what was said when it was closed."""
    found = request.resolution.content if isinstance(request.resolution, Resolution) else request.resolution
    said = request.closure_info.closure_comments if request.closure_info else None
    text = text_of(_clean(found))
    return text if text.strip() else text_of_flat(_clean(said)) or text


def _resolved(request: Request) -> datetime | None:
    """Return when it was resolved; None where it does not say, or only one past the year 9999."""
    for moment in (request.resolved_time, request.completed_time):
        with contextlib.suppress(OverflowError):
            if (found := milliseconds(moment)) is not None:
                return _EPOCH + timedelta(milliseconds=found)
    return None


def _name(tag: object) -> str | None:
    """Return a tag's name; nobody confirmed how tags look, and one of another shape is no reason to lose the ticket."""
    name = tag.get("name") if isinstance(tag, dict) else tag
    return name if isinstance(name, str) else None


def _clean(text: str | None) -> str:
    """Return a text that Postgres can store."""
    return (text or "").replace("\0", "\ufffd")
