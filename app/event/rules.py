"""What is an event, and which rules does one break that its form's decoder refused? What all wire forms share."""

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any

import msgspec

from app.event import display_id
from app.settings import Settings

UNLIMITED = 2**63
MAX_TENANT_CHARS = 100
TENANT_RULE = f"must be a string of 1 to {MAX_TENANT_CHARS} characters"
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
        super().__init__(in_one_line(broken))
        self.broken = broken
        self.ticket_id = ticket_id


class Event(msgspec.Struct, frozen=True):
    """A parsed body: the ids of its ticket where they can be read, and the ticket or the rules that it breaks.

    `ignored` names the members that may be missing and have a shape that cannot be read: the ticket does without them.
    """

    ticket_id: str | None
    broken: Sequence[BrokenRule] = ()
    display_id: str | None = None
    make: Callable[[], ResolvedTicket] | None = None  # converts HTML, which a webhook has no time for
    ignored: Sequence[str] = ()

    @property
    def error(self) -> str | None:
        """Why it is rejected, in one line; None where it breaks no rule."""
        return in_one_line(self.broken) if self.broken else None

    def ticket(self) -> ResolvedTicket:
        """Return the ticket. Raises RejectedError where the event breaks a rule."""
        if self.make is None:
            raise RejectedError(self.broken, self.ticket_id)
        return self.make()


class Rules(msgspec.Struct, frozen=True):
    """What our settings say of events: how long a description may be, and which statuses count as resolved.

    No `resolved_statuses` means any. Without `refuses_long` a long description breaks no rule: promotion takes what was
    accepted once, whatever the limit is by then.
    """

    max_description_chars: int = UNLIMITED
    resolved_statuses: Sequence[str] = ()
    refuses_long: bool = True

    @classmethod
    def of(cls, settings: Settings) -> "Rules":
        """Return the rules that the settings set."""
        return cls(settings.max_description_chars, statuses_of(settings))

    @property
    def of_accepted(self) -> "Rules":
        """The rules for a payload that was accepted before, under the settings of that day."""
        return Rules(self.max_description_chars, refuses_long=False)


def statuses_of(settings: Settings) -> Sequence[str]:
    """Return the statuses that count as resolved."""
    return tuple(filter(None, (name.strip() for name in settings.resolved_statuses.split(","))))


class Form(msgspec.Struct, frozen=True):
    """A wire form: the struct of a ticket's members, the rules in words, and which member is the ticket's id.

    A member without words breaks no rule whatever it holds.

    `within` is the member of the body that holds them, and `within_rule` what that must be; "" is the body itself.
    """

    kind: type[msgspec.Struct]
    words: Mapping[str, str]
    ticket_id: str
    within: str = ""
    within_rule: str = ""


def members_of(body: bytes | msgspec.Raw) -> dict[str, msgspec.Raw]:
    """Return the members of a JSON object, each as it was written. Raises ValueError where it is none."""
    return _members_decoder.decode(body)


def explain(
    form: Form, body: bytes, rules: Rules, require: Callable[[str, Any], None] = lambda _name, _value: None
) -> Event:
    """Return every rule that `body`, which its decoder refused, breaks: a decoder stops at the first.

    `require` raises ValueError or OverflowError for a member, by name and value, that breaks more than its type says.
    """
    members, broken = _members_within(form, body)
    if members is None:
        return Event(None, broken)
    words = {name: rule.format(max_description_chars=rules.max_description_chars) for name, rule in form.words.items()}
    found = {
        field.name: _broken_rule(field, members.get(field.name), words[field.name], require)
        for field in msgspec.structs.fields(form.kind)
        if field.name in words
    }
    prefix = form.within and f"{form.within}."
    broken += [BrokenRule(prefix + name, rule) for name, rule in found.items() if rule]
    is_sound = form.ticket_id in members and not found[form.ticket_id]
    return Event(
        msgspec.json.decode(members[form.ticket_id], type=str) if is_sound else None,
        broken or [TWICE],
        display_id.read(members.get("display_id", msgspec.Raw())),
    )


def _members_within(form: Form, body: bytes) -> tuple[dict[str, msgspec.Raw] | None, list[BrokenRule]]:
    """Return the members of the ticket, None where there are none, and the rules that what is around them breaks."""
    members, broken = members_of(body), list[BrokenRule]()
    if not form.within:
        return members, broken
    if not 1 <= len(msgspec.json.decode(members["tenant_id"], type=str)) <= MAX_TENANT_CHARS:
        broken.append(BrokenRule("tenant_id", TENANT_RULE))
    try:
        return members_of(members[form.within]), broken
    except ValueError:
        return None, [*broken, BrokenRule(form.within, form.within_rule)]


def _broken_rule(
    field: msgspec.structs.FieldInfo, member: msgspec.Raw | None, rule: str, require: Callable[[str, Any], None]
) -> str | None:
    if member is None:
        return f"is missing: it {rule}" if field.required else None
    try:
        value = msgspec.json.decode(member, type=field.type)
        require(field.name, value)
    except (ValueError, OverflowError):
        return rule
    return NUL if holds_nul(value) else None


def holds_nul(value: object) -> bool:
    """Return whether a text, or one in a list of them, holds what Postgres cannot store."""
    texts = value if isinstance(value, list) else [value]
    return any("\0" in text for text in texts if isinstance(text, str))


def in_one_line(broken: Sequence[BrokenRule]) -> str:
    """Return the rules that an event breaks, in words."""
    return "; ".join(f"{rule.field} {rule.message}" for rule in broken)


# A decoder reads both of two members of one name, and explain() the last.
TWICE = BrokenRule("(body)", "has a member twice, and one of them breaks its rule")
TOO_DEEP = Event(None, [BrokenRule("(body)", "is nested too deeply")])
