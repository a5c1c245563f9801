"""What does an event say, and does it keep the rules? Others import from here, and `flat`, `native` and `rules`."""

from app.event.flat import (
    EXAMPLE,
    PATH,
    RFC_3339,
    RULES,
    BrokenRule,
    MalformedError,
    RejectedError,
    ResolvedTicket,
    ResolvedTicketPayload,
    check,
    decode,
    tenant_of,
)

__all__ = [
    "EXAMPLE",
    "PATH",
    "RFC_3339",
    "RULES",
    "BrokenRule",
    "MalformedError",
    "RejectedError",
    "ResolvedTicket",
    "ResolvedTicketPayload",
    "check",
    "decode",
    "tenant_of",
]
