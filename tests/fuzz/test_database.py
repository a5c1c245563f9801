"""Postgres can hold whatever the decoder accepts: from bytes on the wire to the row in ticket_history."""

import asyncio
import base64
import json
from datetime import UTC
from typing import Any

import hypothesis
from hypothesis import strategies as st

from app import event
from app.event import flat
from app.event.rules import Rules
from app.webhook import signature
from db import engine as engines
from db import inbox
from db.inbox import Delivery
from jobs import promote
from otel import tracing
from tests.support.system import ANY_TENANT, Database

LIMIT = 10_000
RULES = Rules(LIMIT)
MANY = hypothesis.settings(max_examples=max(200, hypothesis.settings().max_examples), deadline=None)
# Characters that mean something to JSON, Postgres or Python come more often than by chance.
CHARACTERS = st.one_of(
    st.characters(), st.sampled_from("\0\x01\x1f\x7f\x80\x85\u2028\ufeff\uffff\U0010ffff\\\"'{},% \t\n")
)
TEXT = st.text(CHARACTERS, max_size=120)
DATES = st.one_of(
    st.datetimes(timezones=st.just(UTC)).map(lambda moment: moment.isoformat()),
    st.from_regex(flat.RFC_3339),
    st.sampled_from(
        ["0001-01-01T00:00:00Z", "9999-12-31T23:59:59.9999999Z", "2016-12-31T23:59:60Z", "2024-02-29T00:00:00+23:59"]
    ),
)
MEMBERS: dict[str, st.SearchStrategy[Any]] = {
    "ticket_id": TEXT.filter(bool), "subject": TEXT, "description": TEXT, "resolution": TEXT, "resolved_date": DATES,
    "priority": TEXT, "tags": st.lists(TEXT, max_size=5), "more": st.dictionaries(TEXT, st.none() | st.floats() | TEXT, max_size=3),
}  # fmt: skip


@st.composite
def bodies(draw: st.DrawFn) -> bytes:
    """Draw a body: a payload in one of JSON's spellings, sometimes with a few bytes changed."""
    payload = {**flat.EXAMPLE, "tenant_id": "acme", **draw(st.fixed_dictionaries({}, optional=MEMBERS))}
    body = bytearray(json.dumps(payload, ensure_ascii=draw(st.booleans())).encode("utf-8", "surrogatepass"))
    for place, byte in draw(
        st.lists(
            st.tuples(st.integers(0, len(body) - 1), st.integers(0, 255)), max_size=draw(st.sampled_from([0, 0, 1, 3]))
        )
    ):
        body[place] = byte  # fmt: skip
    return bytes(body)


def taken(body: bytes) -> event.ResolvedTicket | None:
    """Decode a body as the server does; None if it is malformed or rejected. No other error may be raised."""
    try:
        event.tenant_of(body)
        return event.decode(body, RULES)
    except (event.MalformedError, event.RejectedError):
        return None


def test_what_is_accepted_is_stored(database: Database) -> None:
    """The row in ticket_history, after append and promotion, has the values that the decoder returned."""
    engine = engines.create_engine(database.url, "test", 2, 30.0)
    with asyncio.Runner() as runner:
        stored = 0

        @MANY
        @hypothesis.given(bodies())
        def hold(body: bytes) -> None:
            nonlocal stored
            ticket = taken(body)
            if ticket:
                runner.run(store(engine, body, ticket))
                [row] = database.query("SELECT * FROM ticket_history")
                found = (row["description"], row["resolution"], row["priority"], row["tags"], row["resolved_date"])
                assert found == (
                    ticket.description,
                    ticket.resolution,
                    ticket.priority,
                    ticket.tags,
                    ticket.resolved_date,
                )
                stored += 1

        try:
            hold()
        finally:
            runner.run(engine.dispose())
    assert stored > 50


async def store(engine: Any, body: bytes, ticket: event.ResolvedTicket) -> None:  # noqa: ANN401
    delivery = Delivery(
        tenant_id=ticket.tenant_id, ticket_id=ticket.ticket_id, correlation_id="c",
        traceparent=tracing.position_of_request(None, "", {}).traceparent, payload=body, signature="signed",
    )  # fmt: skip
    async with engines.connection(engine) as connection:
        await connection.exec_driver_sql("DELETE FROM ticket_history")
        ids = [one or 0 for one in await inbox.append(connection, [delivery], allowed=ANY_TENANT)]
    await promote.promote_batch(engine, ids)


@MANY
@hypothesis.given(bodies())
def test_what_is_rejected_can_be_kept_with_its_reason(body: bytes) -> None:
    """The reason and the ticket id go into text columns, which hold neither U+0000 nor half a surrogate pair."""
    try:
        event.tenant_of(body)
        event.decode(body, RULES)
    except event.MalformedError:
        pass
    except event.RejectedError as rejected:
        for text in (str(rejected), rejected.ticket_id or ""):
            assert "\0" not in text
            assert text.encode().decode() == text


@MANY
@hypothesis.given(st.binary(max_size=300))
def test_no_bytes_surprise_the_decoder(body: bytes) -> None:
    taken(body)


@MANY
@hypothesis.given(st.binary(min_size=1), st.binary(), st.sampled_from(["hex", "HEX", "base64"]), st.booleans())
def test_every_spelling_of_a_signature_verifies(secret: bytes, body: bytes, spelling: str, prefix: bool) -> None:  # noqa: FBT001
    digest = signature.sign(secret, body).removeprefix("sha256=")
    spelled = {"hex": digest, "HEX": digest.upper(), "base64": base64.b64encode(bytes.fromhex(digest)).decode()}[
        spelling
    ]
    header = "sha256=" * prefix + spelled
    assert signature.verify([b"another", secret], body, header)
    assert not signature.verify([b"another"], body, header)
    assert not signature.verify([secret], body + b"\0", header)


@MANY
@hypothesis.given(
    st.binary(max_size=100).map(lambda header: header.decode("latin-1"))
    | st.from_regex(r"(sha256=)?[0-9a-fA-F+/=]{40,70}", fullmatch=True)
)
def test_no_header_is_an_error_or_a_signature(header: str) -> None:
    assert not signature.verify([b"secret"], b"body", header)
