"""What does ServiceDesk Plus tell us of a resolved ticket? The one place that knows the wire format."""

from datetime import UTC, datetime
from typing import Annotated, Any

import msgspec
from msgspec import Meta

PATH = "/webhook/servicedesk/resolved-ticket"

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


class ResolvedTicket(msgspec.Struct, frozen=True, kw_only=True):
    """A resolved ticket as we keep it: `description` is the subject, a blank line and the description."""

    tenant_id: str
    ticket_id: str
    description: str
    resolution: str
    resolved_date: datetime
    priority: str
    tags: list[str]


class BrokenRule(msgspec.Struct, frozen=True):
    """A member of the payload and the rule it breaks, in words that repeat nothing of its value."""

    field: str
    message: str


class MalformedError(Exception):
    """The body is no JSON object in UTF-8; the message says where it stops being one."""


class RejectedError(Exception):
    """The body is a JSON object, but members are missing or break their rules."""

    def __init__(self, broken: list[BrokenRule], ticket_id: str | None = None) -> None:
        super().__init__("; ".join(f"{rule.field} {rule.message}" for rule in broken))
        self.broken = broken
        self.ticket_id = ticket_id


RULES = {
    "tenant_id": "must be a string of 1 to 100 characters",
    "ticket_id": "must be a string of 1 to 100 characters, not only white space",
    "subject": "must be a string of at most 1,000 characters",
    "description": "must be a string of at most {max_description_chars:,} characters",
    "resolution": "must be a string",
    "resolved_date": "must be a date and time in RFC 3339's form, such as 2026-01-31T09:30:00Z, "
    "between the years 1 and 9999 in UTC",
    "priority": "must be a string",
    "tags": "must be an array of strings",
}
NUL = "must not hold U+0000, which Postgres cannot store"
UNLIMITED = 2**63


class _TenantOnly(msgspec.Struct):
    tenant_id: Any = None


_tenant_decoder = msgspec.json.Decoder(_TenantOnly)
_decoder = msgspec.json.Decoder(ResolvedTicketPayload)
_members_decoder = msgspec.json.Decoder(dict[str, msgspec.Raw])


def tenant_of(body: bytes) -> str:
    """Read just the `tenant_id` of `body`, whoever wrote it.

    Raises MalformedError where there is no JSON object, RejectedError where it names no tenant.
    """
    try:
        if not body.isascii():
            body.decode()  # msgspec passes over the members it does not want without looking at their bytes
        tenant_id = _tenant_decoder.decode(body).tenant_id
    except RecursionError:
        raise MalformedError("it is nested too deeply") from None
    except UnicodeDecodeError as error:
        raise MalformedError(f"it is not UTF-8 (byte {error.start})") from None
    except msgspec.ValidationError:
        raise MalformedError("it is not an object") from None
    except msgspec.DecodeError as error:
        # msgspec's own words mislead here: it looks for the partner in what comes next.
        hint = r"; a \ud800 to \udfff escape must have its partner" if rb"\ud" in body.lower() else ""
        raise MalformedError(f"it is not JSON ({error}){hint}") from None
    if not isinstance(tenant_id, str):
        raise RejectedError([BrokenRule("tenant_id", RULES["tenant_id"])])
    return tenant_id


def decode(body: bytes, max_description_chars: int = UNLIMITED) -> ResolvedTicket:
    """Decode a `body` whose tenant_of() is known.

    `max_description_chars` is the limit of what we accept; what was accepted once is promoted whatever it is now.
    Raises RejectedError, which names every member that breaks its rule.
    """
    try:
        payload = _decoder.decode(body)
        resolved_date = _utc(payload.resolved_date)
    except RecursionError:
        raise RejectedError([BrokenRule("(body)", "is nested too deeply")]) from None
    except (ValueError, OverflowError):
        raise _rejection(body, max_description_chars) from None
    if len(payload.description) > max_description_chars or (rb"\u0000" in body and _has_nul(payload)):
        raise _rejection(body, max_description_chars)
    return ResolvedTicket(
        tenant_id=payload.tenant_id,
        ticket_id=payload.ticket_id,
        description=f"{payload.subject}\n\n{payload.description}",
        resolution=payload.resolution,
        resolved_date=resolved_date,
        priority=payload.priority,
        tags=payload.tags,
    )


def _utc(text: str) -> datetime:
    """Give the instant in UTC. Raises ValueError for no date, OverflowError where UTC would leave year 1 to 9999."""
    instant: datetime = msgspec.convert(text, datetime)
    return instant.replace(tzinfo=UTC) if instant.tzinfo is None else instant.astimezone(UTC)


def _rejection(body: bytes, max_description_chars: int) -> RejectedError:
    """Go through the members one by one: the decoder stops at the first that breaks its rule."""
    members = _members_decoder.decode(body)
    messages = {
        field.name: _broken_rule(field, members.get(field.name), max_description_chars)
        for field in msgspec.structs.fields(ResolvedTicketPayload)
    }
    ticket_id = None if messages["ticket_id"] else msgspec.json.decode(members["ticket_id"], type=str)
    return RejectedError([BrokenRule(name, text) for name, text in messages.items() if text], ticket_id)


def _broken_rule(field: msgspec.structs.FieldInfo, member: msgspec.Raw | None, max_chars: int) -> str | None:
    rule = RULES[field.name].format(max_description_chars=max_chars)
    if member is None:
        return f"is missing: it {rule}" if field.required else None
    try:
        value = msgspec.json.decode(member, type=field.type)
        if field.name == "resolved_date":
            _utc(value)
    except (ValueError, OverflowError):
        return rule
    if field.name == "description" and len(value) > max_chars:
        return rule
    return NUL if _holds_nul(value) else None


def _has_nul(payload: ResolvedTicketPayload) -> bool:
    return any(_holds_nul(getattr(payload, name)) for name in payload.__struct_fields__)


def _holds_nul(value: str | list[str]) -> bool:
    return any("\0" in text for text in ([value] if isinstance(value, str) else value))
