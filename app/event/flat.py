"""What does ServiceDesk Plus tell us of a resolved ticket? The one place that knows the wire format."""

from datetime import UTC, datetime
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from app.event import native
from app.event.rules import (
    BrokenRule,
    MalformedError,
    RejectedError,
    ResolvedTicket,
    Rules,
    broken_rules,
    holds_nul,
    members_of,
)

__all__ = ["BrokenRule", "MalformedError", "RejectedError", "ResolvedTicket"]  # which decode() gives and raises

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


ANY = Rules()
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
_NATIVE = b'"request"'


class _TenantOnly(msgspec.Struct):
    tenant_id: Any = None


_tenant_decoder = msgspec.json.Decoder(_TenantOnly)
_decoder = msgspec.json.Decoder(ResolvedTicketPayload)


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


def decode(body: bytes, rules: Rules = ANY) -> ResolvedTicket:
    """Decode a `body` whose tenant_of() is known; long HTML takes a tenth of a second for each megabyte.

    Raises RejectedError, which names every member that breaks its rule.
    """
    if _is_native(body):
        return native.ticket(native.read(body, rules), rules)
    payload, resolved_date = _read(body, rules)
    return ResolvedTicket(
        tenant_id=payload.tenant_id,
        ticket_id=payload.ticket_id,
        description=f"{payload.subject}\n\n{payload.description}",
        resolution=payload.resolution,
        resolved_date=resolved_date,
        priority=payload.priority,
        tags=payload.tags,
    )


def check(body: bytes, rules: Rules) -> str:
    """Give the ticket id of a `body` that decode() takes. Raises RejectedError as it does, and reads no HTML."""
    return native.read(body, rules).request.id if _is_native(body) else _read(body, rules)[0].ticket_id


def _is_native(body: bytes) -> bool:
    """Tell which form it has: the member `request` decides."""
    return _NATIVE in body and "request" in members_of(body)


def _read(body: bytes, rules: Rules) -> tuple[ResolvedTicketPayload, datetime]:
    try:
        payload = _decoder.decode(body)
        resolved_date = _utc(payload.resolved_date)
    except RecursionError:
        raise RejectedError([BrokenRule("(body)", "is nested too deeply")]) from None
    except (ValueError, OverflowError):
        raise _rejection(body, rules) from None
    too_long = rules.refuses_long and len(payload.description) > rules.max_description_chars
    if too_long or (rb"\u0000" in body and _has_nul(payload)):
        raise _rejection(body, rules)
    return payload, resolved_date


def _utc(text: str) -> datetime:
    """Give the instant in UTC. Raises ValueError for no date, OverflowError where UTC would leave year 1 to 9999."""
    instant: datetime = msgspec.convert(text, datetime)
    return instant.replace(tzinfo=UTC) if instant.tzinfo is None else instant.astimezone(UTC)


def _rejection(body: bytes, rules: Rules) -> RejectedError:
    members = members_of(body)
    words = {name: rule.format(max_description_chars=rules.max_description_chars) for name, rule in RULES.items()}

    def breaks(name: str, value: str) -> bool:
        if name == "resolved_date":
            _utc(value)
        return name == "description" and rules.refuses_long and len(value) > rules.max_description_chars

    broken = broken_rules(ResolvedTicketPayload, members, words, breaks)
    is_read = "ticket_id" in members and all(rule.field != "ticket_id" for rule in broken)
    return RejectedError(broken, msgspec.json.decode(members["ticket_id"], type=str) if is_read else None)


def _has_nul(payload: ResolvedTicketPayload) -> bool:
    return any(holds_nul(getattr(payload, name)) for name in payload.__struct_fields__)
