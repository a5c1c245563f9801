"""Which payloads the decoder accepts, at the limits of each member, and how it names what breaks a rule."""

import json
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from app import event
from app.event import flat
from app.event.rules import Rules

pytestmark = pytest.mark.one_postgres

GOOD = {**flat.EXAMPLE, "tenant_id": "acme"}
LIMIT = 10_000
RULES = Rules(LIMIT)


def decode(**members: object) -> event.ResolvedTicket:
    """Decode the example with `members` in it; a member given as ... is left out."""
    payload = {name: value for name, value in {**GOOD, **members}.items() if value is not ...}
    return event.decode(json.dumps(payload).encode(), RULES)


@pytest.mark.parametrize(
    "members",
    [
        {"ticket_id": "x"},
        {"ticket_id": "é" * 100},
        {"ticket_id": " 1 "},
        {"subject": ""},
        {"subject": "🖨" * 1000},
        {"description": ""},
        {"description": "🖨" * LIMIT},
        {"resolution": ""},
        {"resolution": "x" * 500_000},
        {"priority": ""},
        {"tags": []},
        {"tags": ...},
        {"tags": [""]},
        {"unknown": {"deep": [None, "\0"]}},
        {"subject": "backslash, u: \\u0000"},
    ],
    ids=repr,
)
def test_it_takes(members: dict[str, Any]) -> None:
    ticket = decode(**members)
    assert ticket.tenant_id == "acme"


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("ticket_id", ...),
        ("ticket_id", None),
        ("ticket_id", 155000),
        ("ticket_id", ""),
        ("ticket_id", " \t\n\u3000"),
        ("ticket_id", "x" * 101),
        ("ticket_id", "a\0b"),
        ("subject", ...),
        ("subject", "x" * 1001),
        ("subject", "\0"),
        ("description", ...),
        ("description", None),
        ("description", "🖨" * (LIMIT + 1)),
        ("description", "a\0"),
        ("resolution", ...),
        ("resolution", {"content": "an object"}),
        ("resolution", "\0b"),
        ("resolved_date", ...),
        ("resolved_date", 1706693400000),
        ("resolved_date", "1706693400000"),
        ("resolved_date", "2026-01-31"),
        ("resolved_date", "2026-01-31T09:30Z"),
        ("resolved_date", "2026-01-31T09:30:00+0100"),
        ("resolved_date", "2026-01-31T09:30:00+01"),
        ("resolved_date", "2026-01-31T09:30:00 +01:00"),
        ("resolved_date", "2026-02-30T09:30:00Z"),
        ("resolved_date", "2026-01-31T24:00:00Z"),
        ("resolved_date", "2026-01-31T09:30:61Z"),
        ("resolved_date", "2026-01-31T09:30:00.Z"),
        ("resolved_date", "2026-01-31T09:30:00Z\n"),
        ("resolved_date", "٢٠٢٦-01-31T09:30:00Z"),
        ("resolved_date", "0001-01-01T00:00:00+00:01"),
        ("resolved_date", "9999-12-31T23:59:59-00:01"),
        ("resolved_date", "10000-01-01T00:00:00Z"),
        ("priority", ...),
        ("priority", None),
        ("priority", "\0"),
        ("tags", None),
        ("tags", "vpn"),
        ("tags", ["vpn", None]),
        ("tags", [{"name": "vpn"}]),
        ("tags", ["a\0"]),
    ],
)
def test_it_rejects_and_names_the_member(field: str, value: object) -> None:
    with pytest.raises(event.RejectedError) as rejected:
        decode(**{field: value})
    [broken] = rejected.value.broken
    assert broken.field == field
    assert str(rejected.value) == f"{field} {broken.message}"
    kept = None if field == "ticket_id" else GOOD["ticket_id"]
    assert rejected.value.ticket_id == kept


@pytest.mark.parametrize(
    ("text", "utc"),
    [
        ("2026-01-31T09:30:00Z", "2026-01-31T09:30:00+00:00"),
        ("2026-01-31t09:30:00z", "2026-01-31T09:30:00+00:00"),
        ("2026-01-31 09:30:00", "2026-01-31T09:30:00+00:00"),
        ("2026-01-31T09:30:00.5+05:30", "2026-01-31T04:00:00.500000+00:00"),
        ("2026-01-31T09:30:00.123456789Z", "2026-01-31T09:30:00.123457+00:00"),
        ("2026-01-31T09:30:00-00:00", "2026-01-31T09:30:00+00:00"),
        ("0001-01-01T00:00:00Z", "0001-01-01T00:00:00+00:00"),
        ("9999-12-31T23:59:59.999999Z", "9999-12-31T23:59:59.999999+00:00"),
    ],
)
def test_dates_become_utc(text: str, utc: str) -> None:
    assert decode(resolved_date=text).resolved_date.isoformat() == utc


def test_every_broken_member_is_named_at_once() -> None:
    with pytest.raises(event.RejectedError) as rejected:
        decode(subject=..., resolved_date="yesterday", tags=[1], priority="\0")
    assert [broken.field for broken in rejected.value.broken] == ["subject", "resolved_date", "priority", "tags"]
    assert "yesterday" not in str(rejected.value), "a reason must not repeat the sender's value"


def test_the_description_is_the_subject_a_blank_line_and_the_description() -> None:
    assert decode(subject="S", description="D").description == "S\n\nD"


def test_what_was_accepted_is_promoted_whatever_the_limit_is_by_then() -> None:
    long = json.dumps({**GOOD, "description": "x" * (LIMIT + 1)}).encode()
    assert event.decode(long, RULES.of_accepted).description.endswith("x" * LIMIT)


@pytest.mark.parametrize(
    ("body", "why"),
    [
        (b"", "truncated"),
        (b"{", "truncated"),
        (b"[]", "not an object"),
        (b'"text"', "not an object"),
        (b"null", "not an object"),
        (b'{"tenant_id": "a",}', "trailing comma"),
        (b'{"tenant_id": "a"} x', "trailing characters"),
        (b"{'tenant_id': 'a'}", "malformed"),
        (b'{"tenant_id": "a", "x": NaN}', "invalid character"),
        (b'{"tenant_id": "a", "x": "\x01"}', "invalid character"),
        (b'\xef\xbb\xbf{"tenant_id": "a"}', "invalid character"),
        (b'{"tenant_id": "a", "x": "\xff"}', "not UTF-8 (byte 25)"),
        (b'{"tenant_id": "a", "\xff": 1}', "not UTF-8 (byte 20)"),
        (b'{"tenant_id": "a", "x": "\xed\xa0\x80"}', "not UTF-8"),
        ('{"tenant_id": "a"}'.encode("utf-16"), "not UTF-8"),
        (b'{"tenant_id": "a", "x": "\\ud800 alone"}', "must have its partner"),
        (b'{"tenant_id": "a", "x": "\\udc00 alone"}', "must have its partner"),
        (b'{"tenant_id": "a", "x": ' + b"[" * 100_000 + b"]" * 100_000 + b"}", "nested too deeply"),
    ],
    ids=lambda value: repr(value)[:40],
)
def test_what_is_no_json_object_is_malformed(body: bytes, why: str) -> None:
    with pytest.raises(event.MalformedError, match=why.replace("(", r"\(").replace(")", r"\)")):
        event.tenant_of(body)


@pytest.mark.parametrize("members", [{}, {"tenant_id": None}, {"tenant_id": 7}, {"tenant_id": ["acme"]}])
def test_without_a_tenant_there_is_nothing_to_verify_with(members: dict[str, Any]) -> None:
    with pytest.raises(event.RejectedError, match="tenant_id must be a string"):
        event.tenant_of(json.dumps(members).encode())


def test_nesting_near_the_limit_is_an_answer_and_no_crash() -> None:
    for depth in range(800, 1100):
        body = json.dumps(GOOD)[:-1].encode() + b', "x": ' + b"[" * depth + b"]" * depth + b"}"
        try:
            event.tenant_of(body)
            event.decode(body)
        except (event.MalformedError, event.RejectedError) as error:
            assert "nested too deeply" in str(error)  # noqa: PT017


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)


@given(st.dictionaries(st.sampled_from(list(flat.RULES)), json_values | st.text(max_size=3)))
@example({"resolved_date": "0001-01-01T00:00:00+01:00"})
def test_decode_returns_a_ticket_or_names_what_is_wrong(members: dict[str, Any]) -> None:
    """Whatever the members hold, the quick decoder and the one that explains agree."""
    body = json.dumps({**GOOD, **members}).encode()
    ticket, broken = None, set()
    try:
        ticket = event.decode(body, RULES)
    except event.RejectedError as rejected:
        broken = {rule.field for rule in rejected.broken}
    assert broken <= set(members)
    assert bool(broken) == (ticket is None)
    if ticket:
        assert all(value == getattr(ticket, name) for name, value in members.items() if name in ("ticket_id", "tags"))


@given(st.binary(max_size=40))
def test_any_bytes_are_an_object_or_malformed(body: bytes) -> None:
    with pytest.raises((event.MalformedError, event.RejectedError)):
        event.tenant_of(body)
