"""What does each form of payload become, and which rule does it break? What the forms have in common."""

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any

import msgspec

from app.settings import Settings

UNLIMITED = 2**63
NUL = "must not hold U+0000, which Postgres cannot store"
_members_decoder = msgspec.json.Decoder(dict[str, msgspec.Raw])


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

    def __init__(self, broken: Sequence[BrokenRule], ticket_id: str | None = None) -> None:
        # The last of two members of one name is looked at, and the decoder has seen the first.
        self.broken = broken or [BrokenRule("(body)", "has a member twice, and one of them breaks its rule")]
        super().__init__("; ".join(f"{rule.field} {rule.message}" for rule in self.broken))
        self.ticket_id = ticket_id


class Rules(msgspec.Struct, frozen=True):
    """What our settings say of events: how long a description may be, and which statuses are resolved ones.

    No `resolved_statuses` means any. Without `refuses_long` a long description is no fault: what was accepted once is
    promoted whatever the limit is by then.
    """

    max_description_chars: int = UNLIMITED
    resolved_statuses: Sequence[str] = ()
    refuses_long: bool = True

    @classmethod
    def of(cls, settings: Settings) -> "Rules":
        """Give what the settings say."""
        statuses = [name.strip() for name in settings.resolved_statuses.split(",")]
        return cls(settings.max_description_chars, tuple(filter(None, statuses)))

    @property
    def of_accepted(self) -> "Rules":
        """Give those for what was accepted already, by the rules of that day."""
        return Rules(self.max_description_chars, refuses_long=False)


def members_of(body: bytes) -> dict[str, msgspec.Raw]:
    """Give the members of an object, each as it was written."""
    return _members_decoder.decode(body)


def broken_rules(
    kind: type[msgspec.Struct],
    members: Mapping[str, msgspec.Raw],
    words: Mapping[str, str],
    breaks: Callable[[str, Any], bool],
) -> list[BrokenRule]:
    """Go through the members one by one: the decoder stops at the first that breaks its rule.

    `breaks` tells what the type of `kind` does not, by name and value; `words` has each member's rule.
    """
    found = {
        field.name: _broken_rule(field, members.get(field.name), words[field.name], breaks)
        for field in msgspec.structs.fields(kind)
    }
    return [BrokenRule(name, text) for name, text in found.items() if text]


def _broken_rule(
    field: msgspec.structs.FieldInfo, member: msgspec.Raw | None, rule: str, breaks: Callable[[str, Any], bool]
) -> str | None:
    if member is None:
        return f"is missing: it {rule}" if field.required else None
    try:
        value = msgspec.json.decode(member, type=field.type)
        if breaks(field.name, value):
            return rule
    except (ValueError, OverflowError):
        return rule
    return NUL if holds_nul(value) else None


def holds_nul(value: object) -> bool:
    """Tell whether a text, or one in a list of them, holds what Postgres cannot store."""
    texts = value if isinstance(value, list) else [value]
    return any("\0" in text for text in texts if isinstance(text, str))
