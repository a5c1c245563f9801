"""What does the flat payload hold? The members that the contract lists, beside each other."""

import functools
from datetime import UTC, datetime
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from app.event import display_id
from app.event.characters import tidy
from app.event.display_id import DisplayId
from app.event.html_text import text_of_flat
from app.event.rules import TENANT_RULE, TOO_DEEP, Event, Form, ResolvedTicket, Rules, explain, holds_nul

EXAMPLE = {
    "tenant_id": "acme",
    "ticket_id": "155000",
    "subject": "VPN drops every hour",
    "description": "Since Monday the VPN drops every hour, on every laptop of the sales team.",
    "resolution": "Rolled the gateway's firmware back to 9.1.4.",
    "resolved_date": "2026-01-31T09:30:00Z",
    "priority": "High",
    "tags": ["vpn", "network"],
}

# RFC 3339, section 5.6, with the offset optional (then UTC).
RFC_3339 = r"^[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt ][0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]+)?([Zz]|[+-][0-9]{2}:[0-9]{2})?$"


class ResolvedTicketPayload(msgspec.Struct, frozen=True):
    """One ticket that ServiceDesk Plus says is resolved; members that are not listed are ignored."""

    tenant_id: Annotated[
        str, Meta(min_length=1, max_length=100, description="The tenant whose secret signed the body.")
    ]
    ticket_id: Annotated[
        str,
        Meta(min_length=1, max_length=100, pattern=r"\S", description="The ticket's id, unique in its tenant."),
    ]
    subject: Annotated[str, Meta(max_length=1000, description="The ticket's subject.")]
    description: Annotated[
        str,
        Meta(description="The ticket's description, at most MAX_DESCRIPTION_CHARS (10,000) characters."),
    ]
    resolution: Annotated[str, Meta(description="How the ticket was resolved.")]
    resolved_date: Annotated[
        str,
        Meta(pattern=RFC_3339, description="When it was resolved: RFC 3339; without an offset it is UTC."),
    ]
    priority: Annotated[str, Meta(description="The ticket's priority, by its name.")]
    tags: Annotated[list[str], Meta(description="The ticket's tags.")] = []
    display_id: DisplayId = msgspec.field(default_factory=msgspec.Raw)  # a default would stand in /schema


RULES = {
    "tenant_id": TENANT_RULE,
    "ticket_id": "must be a string of 1 to 100 characters, not only white space",
    "subject": "must be a string of at most 1,000 characters",
    "description": "must be a string of at most {max_description_chars:,} characters",
    "resolution": "must be a string",
    "resolved_date": "must be a date and time in RFC 3339's form, such as 2026-01-31T09:30:00Z, "
    "between the years 1 and 9999 in UTC",
    "priority": "must be a string",
    "tags": "must be an array of strings",
}
FORM = Form(ResolvedTicketPayload, RULES, "ticket_id")
_decoder = msgspec.json.Decoder(ResolvedTicketPayload)


def parse(body: bytes, rules: Rules) -> Event:
    """Return the event that `body` holds: a ticket, or every rule that it breaks."""
    try:
        payload = _decoder.decode(body)
        resolved_date = utc(payload.resolved_date)
        _require_beyond_types(payload, body, rules)
    except RecursionError:
        return TOO_DEEP
    except (ValueError, OverflowError):
        return explain(FORM, body, rules, functools.partial(_require_beyond_type, rules))
    known_as = display_id.read(payload.display_id)
    return Event(payload.ticket_id, display_id=known_as, make=functools.partial(_ticket, payload, resolved_date))


def utc(text: str) -> datetime:
    """Return the instant in UTC. Raises ValueError for no date, OverflowError where UTC would leave year 1 to 9999."""
    instant: datetime = msgspec.convert(text, datetime)
    return instant.replace(tzinfo=UTC) if instant.tzinfo is None else instant.astimezone(UTC)


def _require_beyond_types(payload: ResolvedTicketPayload, body: bytes, rules: Rules) -> None:
    """Raise ValueError where `payload` breaks a rule that its types cannot express."""
    if rules.refuses_long and len(payload.description) > rules.max_description_chars:
        raise ValueError
    if rb"\u0000" in body and any(holds_nul(getattr(payload, name)) for name in payload.__struct_fields__):
        raise ValueError


def _require_beyond_type(rules: Rules, name: str, value: Any) -> None:  # noqa: ANN401  (a member's value)
    """Raise ValueError or OverflowError where the member `name` breaks a rule that its type cannot express."""
    if name == "resolved_date":
        utc(value)
    if name == "description" and rules.refuses_long and len(value) > rules.max_description_chars:
        raise ValueError


def _ticket(payload: ResolvedTicketPayload, resolved_date: datetime) -> ResolvedTicket:
    return ResolvedTicket(
        tenant_id=payload.tenant_id,
        ticket_id=payload.ticket_id,
        description=f"{text_of_flat(payload.subject)}\n\n{text_of_flat(payload.description)}",
        resolution=text_of_flat(payload.resolution),
        resolved_date=resolved_date,
        priority=tidy(payload.priority),
        tags=[tidy(tag) for tag in payload.tags],
    )


def shortened(text: str, limit: int) -> str:
    """Return a text that a payload may hold: where it is longer than `limit`, its HTML as text, cut with a mark."""
    return text if len(text) <= limit else text_of_flat(text, limit)
