"""What does an event say, and which rules does it break? The one room that knows the wire forms.

Doors: `characters`, `display_id`, `flat`, `html_text`, `moment`, `native`, `rules`.
"""

from typing import Any

import msgspec

from app.event import flat, native
from app.event.rules import (
    TENANT_RULE,
    BrokenRule,
    Event,
    MalformedError,
    RejectedError,
    ResolvedTicket,
    Rules,
    members_of,
)

__all__ = [
    "BrokenRule",
    "Event",
    "MalformedError",
    "RejectedError",
    "ResolvedTicket",
    "check",
    "decode",
    "object_of",
    "tenant_of",
]

ANY = Rules()
_NATIVE = b'"request"'


class _TenantOnly(msgspec.Struct):
    tenant_id: Any = None


_tenant_decoder = msgspec.json.Decoder(_TenantOnly)


def tenant_of(body: bytes) -> str:
    """Return just the `tenant_id` of `body`, not verified.

    Raises MalformedError where `body` is no JSON object, RejectedError where it names no tenant.
    """
    try:
        if not body.isascii():
            body.decode()  # msgspec skips the members that it is not asked for without checking their bytes
        tenant_id = _tenant_decoder.decode(body).tenant_id
    except (ValueError, RecursionError) as error:
        raise _malformed(body, error) from None
    if not isinstance(tenant_id, str):
        raise RejectedError([BrokenRule("tenant_id", TENANT_RULE)])
    return tenant_id


def object_of(body: bytes) -> dict[str, msgspec.Raw]:
    """Return the members of a JSON object, each as it was written. Raises MalformedError where `body` is none."""
    try:
        if not body.isascii():
            body.decode()
        return members_of(body)
    except (ValueError, RecursionError) as error:
        raise _malformed(body, error) from None


def _malformed(body: bytes, error: Exception) -> MalformedError:
    """Return in words why `body`, for which a decoder raised `error`, is no JSON object in UTF-8."""
    if isinstance(error, RecursionError):
        return MalformedError("it is nested too deeply")
    if isinstance(error, UnicodeDecodeError):
        return MalformedError(f"it is not UTF-8 (byte {error.start})")
    if isinstance(error, msgspec.ValidationError):
        return MalformedError("it is not an object")
    # msgspec's own words mislead here: it reports what follows a lone surrogate, not the surrogate.
    hint = r"; a \ud800 to \udfff escape must have its partner" if rb"\ud" in body.lower() else ""
    return MalformedError(f"it is not JSON ({error}){hint}")


def check(body: bytes, rules: Rules) -> Event:
    """Return the event in a `body` whose tenant_of() is known: its ticket's id, and the rules that it breaks.

    Reads no HTML; that is left to the event's ticket().
    """
    parse = native.parse if _is_native(body) else flat.parse
    return parse(body, rules)


def decode(body: bytes, rules: Rules = ANY) -> ResolvedTicket:
    """Return the ticket in a `body` whose tenant_of() is known; HTML takes half a second for each megabyte.

    Raises RejectedError, which names every member that breaks its rule.
    """
    return check(body, rules).ticket()


def _is_native(body: bytes) -> bool:
    """Return whether `body` has the form of API V3: the member `request` decides."""
    return _NATIVE in body and "request" in members_of(body)
