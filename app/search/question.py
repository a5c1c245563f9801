"""What does a question hold, and which rules does one break?"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from app import event
from app.event import BrokenRule, flat
from app.event.characters import tidy
from app.event.rules import NUL, holds_nul
from db.similar_answer import Question

MOST_TEXTS = 100  # in a filter
MOST_UNKNOWN = 20  # members that an answer names
NAME_CHARS = 100  # of each

EXAMPLE = {
    "subject": "VPN drops since the update to 9.1.4",
    "description": "Since this morning the VPN of our team in Oslo drops every hour, error 0x80070005.",
    "limit": 3,
    "priority": ["High", "Urgent"],
}

Texts = Annotated[list[str], Meta(min_length=1, max_length=MOST_TEXTS)]


class QuestionPayload(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A new ticket, of which one of subject and description is not blank, and which tickets may answer it."""

    subject: Annotated[str, Meta(max_length=1000, description="The new ticket's subject.")] | None = None
    description: Annotated[str, Meta(max_length=10_000, description="The new ticket's description.")] | None = None
    limit: Annotated[int, Meta(ge=1, le=50, description="How many tickets are returned at most.")] | None = 5
    exclude_ticket_id: (
        Annotated[str, Meta(min_length=1, max_length=100, description="A ticket that is left out: the new one's id.")]
        | None
    ) = None
    resolved_after: (
        Annotated[
            str,
            Meta(
                pattern=flat.RFC_3339,
                description="Only tickets resolved later than this: RFC 3339; without an offset it is UTC.",
            ),
        ]
        | None
    ) = None
    priority: Annotated[Texts, Meta(description="Only tickets of any of these priorities.")] | None = None
    tags: Annotated[Texts, Meta(description="Only tickets with any of these tags.")] | None = None


class BrokenQuestionError(Exception):
    """The body is a JSON object, but members break their rules or are unknown; the message repeats no unknown name."""

    def __init__(self, broken: Sequence[BrokenRule]) -> None:
        super().__init__("; ".join(f"{one.field if one.field in RULES else 'one'} {one.message}" for one in broken))
        self.broken = broken


RULES = {
    "subject": "must be a string of at most 1,000 characters",
    "description": "must be a string of at most 10,000 characters",
    "limit": "must be a whole number from 1 to 50",
    "exclude_ticket_id": "must be a string of 1 to 100 characters",
    "resolved_after": "must be a date and time in RFC 3339's form, such as 2026-01-31T09:30:00Z, "
    "between the years 1 and 9999 in UTC",
    "priority": f"must be an array of 1 to {MOST_TEXTS} strings",
    "tags": f"must be an array of 1 to {MOST_TEXTS} strings",
}
UNKNOWN = f"is no member of a question, which may have {', '.join(RULES)}"
BLANK = BrokenRule("subject", "must have text where description has none: one of them must not be blank")
FIELDS = msgspec.structs.fields(QuestionPayload)


def parse(body: bytes) -> Question:
    """Return the question in a body. A member that is null counts as absent.

    Raises MalformedError where the body is no JSON object in UTF-8, BrokenQuestionError with every rule that it breaks.
    """
    members = event.object_of(body)
    values: dict[str, Any] = {}
    broken = list(_broken(members, values))
    if not broken and not any((values[name] or "").strip() for name in ("subject", "description")):
        broken = [BLANK]
    if broken:
        raise BrokenQuestionError(broken)
    return Question(max_results=values.pop("limit"), **values)


def _broken(members: Mapping[str, msgspec.Raw], values: dict[str, Any]) -> Iterator[BrokenRule]:
    """Yield the rules that members break, and set the values of the others."""
    for field in FIELDS:
        try:
            values[field.name] = _value(field, members.get(field.name))
        except NulError:
            yield BrokenRule(field.name, NUL)
        except (ValueError, OverflowError, RecursionError):
            yield BrokenRule(field.name, RULES[field.name])
    unknown = [name for name in members if name not in RULES]
    yield from (BrokenRule(name[:NAME_CHARS], UNKNOWN) for name in unknown[:MOST_UNKNOWN])


class NulError(ValueError):
    """A text holds what Postgres cannot store."""


def _value(field: msgspec.structs.FieldInfo, member: msgspec.Raw | None) -> Any:  # noqa: ANN401  (of a member)
    """Return a member's value; where it is absent or null, what that means. Raises ValueError or OverflowError."""
    value = None if member is None else msgspec.json.decode(member, type=field.type)
    if value is None:
        return field.default
    if holds_nul(value):
        raise NulError
    if field.name == "resolved_after":
        return flat.utc(value)
    # Priorities and tags are stored so; an umlaut of two characters would find none.
    return [tidy(text) for text in value] if isinstance(value, list) else value
