"""The native payload: a request of API V3, in the shapes that public clients have recorded."""

import json
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app import event
from app.event import native
from app.event.html_text import text_of
from app.event.rules import Rules
from tests.support.system import Database, Server, Worker

pytestmark = pytest.mark.one_postgres

RULES = Rules(10_000, ("Resolved", "Closed"))
MOMENT = {"value": "1604655594861", "display_value": "Nov 6, 2020 01:39 AM"}
RESOLVED = datetime(2020, 11, 6, 9, 39, 54, 861000, tzinfo=UTC)
# The members that a recorded list or request has and that we do not read.
REST = {
    "display_id": "4711", "is_fcr": False, "site": None, "account": None, "udf_fields": {"txt_1": None}, "has_notes": False,
    "requester": {"id": "6", "name": "Anna", "email_id": None, "is_vipuser": False}, "template": {"id": "1"},
    "created_time": {"value": "1604655000000", "display_value": "06/11/2020 01:30"},
}  # fmt: skip


def body(**members: object) -> bytes:
    """Return a native payload whose request has `members`; a member given as ... is left out."""
    request = {
        "id": "155000000123456789", "subject": "VPN drops", "description": "<p>Every hour</p>", "status": {"id": "3", "name": "Resolved"},
        "resolution": {"content": "<b>Mended</b>"}, "priority": {"id": "1", "name": "High"}, "resolved_time": MOMENT,
        "completed_time": None, "tags": [], **REST, **members,
    }  # fmt: skip
    given = {name: value for name, value in request.items() if value is not ...}
    return json.dumps({"tenant_id": "acme", "request": given}).encode()


def decode(**members: object) -> event.ResolvedTicket:
    return event.decode(body(**members), RULES)


def rejected(**members: object) -> str:
    """Return why a request is rejected; the quick check and the decoder must agree."""
    checked = event.check(body(**members), RULES)
    with pytest.raises(event.RejectedError, match=r"^") as decoded:
        event.decode(body(**members), RULES)
    assert checked.error == str(decoded.value)
    return str(checked.error)


def test_it_becomes_the_same_ticket_as_the_members_alone() -> None:
    assert decode(tags=["vpn", {"name": "net", "id": "1"}]) == event.ResolvedTicket(
        tenant_id="acme", ticket_id="155000000123456789", description="VPN drops\n\nEvery hour", resolution="Mended",
        resolved_date=RESOLVED, priority="High", tags=["vpn", "net"],
    )  # fmt: skip


@pytest.mark.parametrize(
    ("members", "field", "value"),
    [
        ({"description": None}, "description", "VPN drops\n\n"),
        ({"subject": None}, "description", "\n\nEvery hour"),
        ({"resolution": None}, "resolution", ""),
        ({"resolution": {"content": None, "submitted_by": None}}, "resolution", ""),
        ({"resolution": ...}, "resolution", ""),
        ({"priority": None}, "priority", ""),
        ({"priority": {"id": "1", "name": None}}, "priority", ""),
        ({"tags": None}, "tags", []),
        ({"tags": ...}, "tags", []),
        ({"tags": [{"tag": "of another shape"}, 7, None, {"name": "kept"}]}, "tags", ["kept"]),
        ({"status": {"name": " closed "}}, "ticket_id", "155000000123456789"),
        ({"resolved_time": None, "completed_time": MOMENT}, "resolved_date", RESOLVED),
        ({"resolved_time": ..., "completed_time": MOMENT}, "resolved_date", RESOLVED),
        *[
            ({"resolved_time": {"value": value}}, "resolved_date", RESOLVED)
            for value in (1604655594861, 1604655594861.0, " 1604655594861 ")
        ],
        *[
            ({"resolved_time": empty, "completed_time": MOMENT}, "resolved_date", RESOLVED)
            for empty in (
                {"value": ""},
                {"value": " "},
                {"value": None},
                {},
                "",
                "-",
                {"value": "soon"},
                {"value": "9" * 15},
                {"value": "0"},
                {"value": 0},
                {"value": "-1"},
            )
        ],
        ({"completed_time": "soon"}, "resolved_date", RESOLVED),
        (
            {"status": {"name": "Cerrado", "internal_name": "Closed", "in_progress": False}},
            "ticket_id",
            "155000000123456789",
        ),
        ({"status": {"name": "Closed", "internal_name": None}}, "ticket_id", "155000000123456789"),
        ({"tags": {"name": "vpn"}}, "tags", []),
        ({"tags": "vpn"}, "tags", []),
        ({"tags": {"name": "vpn"}}, "resolution", "Mended"),
        ({"subject": 7, "tags": "vpn"}, "description", "\n\nEvery hour"),
        ({"description": ["of another shape"]}, "description", "VPN drops\n\n"),
        ({"resolution": "<p>text</p>"}, "resolution", "text"),
        ({"resolution": ["of another shape"]}, "resolution", ""),
        ({"priority": "High"}, "priority", "High"),
        ({"priority": 7}, "priority", ""),
        *[
            ({"resolution": empty, "closure_info": {"closure_comments": "Said <b>then</b>"}}, "resolution", "Said then")
            for empty in (
                None,
                {"content": None},
                {"content": ""},
                {"content": " "},
                {"content": "<div>&nbsp;<br></div>"},
                7,
            )
        ],
        ({"closure_info": {"closure_comments": "Said then"}}, "resolution", "Mended"),
        ({"resolution": None, "closure_info": {"closure_code": {"name": "success"}}}, "resolution", ""),
        ({"resolution": None, "closure_info": "of another shape"}, "resolution", ""),
        ({"completed_time": {"value": "1"}}, "resolved_date", RESOLVED),
        ({"id": "9" * 100}, "ticket_id", "9" * 100),
        ({"description": "<p>a\0b</p>"}, "description", "VPN drops\n\na\ufffdb"),
    ],
    ids=repr,
)
def test_some_members_may_be_null_or_missing(members: dict[str, Any], field: str, value: object) -> None:
    assert getattr(decode(**members), field) == value


@pytest.mark.parametrize(
    ("members", "words"),
    [
        ({"id": 155000000123456789}, "request.id must be a string"),
        ({"id": " "}, "request.id must be a string"),
        ({"id": ...}, "request.id is missing"),
        ({"id": "a\0b"}, "request.id must be a string"),
        ({"status": {"name": "Open"}}, "request.status is none of Resolved, Closed (RESOLVED_STATUSES): mend the trigger"),
        ({"status": {"name": None}}, "request.status is none of"),
        ({"status": None}, "request.status must be an object"),
        ({"resolved_time": None}, "request.resolved_time is null, and completed_time too"),
        ({"resolved_time": {"display_value": "Nov 6, 2020 01:39 AM"}}, "request.resolved_time must be null or an object"),
        ({"resolved_time": {"value": "-1"}}, "request.resolved_time must be null or an object"),
        ({"resolved_time": {"value": "9" * 15}}, "request.resolved_time must be null or an object"),
        ({"resolved_time": {"value": 10**30}}, "request.resolved_time must be null or an object"),
        ({"resolved_time": {"value": ""}, "completed_time": {"value": None}}, "request.resolved_time is null, and completed_time too"),
        ({"resolved_time": None, "completed_time": "soon"}, "request.completed_time must be null or an object"),
        ({"status": {"name": "Cerrado", "internal_name": "On Hold"}}, "request.status is none of"),
    ],
    ids=repr,
)  # fmt: skip
def test_what_breaks_a_rule_is_named(members: dict[str, Any], words: str) -> None:
    assert words in rejected(**members)


def test_several_faults_are_named_at_once_and_the_id_is_kept() -> None:
    checked = event.check(body(status={"name": "Open"}, priority=7, resolved_time=None), RULES)
    assert [rule.field for rule in checked.broken] == ["request.status", "request.resolved_time"]
    assert (checked.ticket_id, checked.ignored) == ("155000000123456789", ["request.priority"])


@pytest.mark.parametrize("request_", [None, [], "text", 7])
def test_a_request_that_is_no_object_is_rejected(request_: object) -> None:
    checked = event.check(json.dumps({"tenant_id": "acme", "request": request_}).encode(), RULES)
    assert "request must be an object" in str(checked.error)


def test_a_long_text_is_cut_at_the_limit_with_a_mark() -> None:
    description = decode(description=f"<p>{'x' * 20_000}</p>").description.removeprefix("VPN drops\n\n")
    assert len(description) == 10_000
    assert description.endswith("x\n[cut here: the text is longer than 10,000 characters]")
    assert len(decode(subject="s" * 2000, description=None).description) == 1000 + 2
    assert decode(resolution={"content": f"<p>{'y' * 20_000}</p>"}).resolution == "y" * 20_000


def test_html_is_read_as_a_person_would() -> None:
    html = """<html><head><style>p {color: red}</style></head><body><div>Hello <b>Anna</b>,</div><div><br></div>
      <p>The VPN drops &amp; reconnects.<br>Second&nbsp;line</p><script>alert("x")</script>
      <ul><li>first</li><li>see <a href="https://kb.example.com/42?a=1&amp;b=2">KB 42</a></li></ul><ol><li>one</li></ol>
      <table><tr><td>Host</td><td>vpn_gw_01</td></tr></table><p>Gr&uuml;&szlig;e, 日本</p></body></html>"""
    text = text_of(html)
    assert text.startswith("Hello Anna,\n\nThe VPN drops & reconnects.\nSecond")
    for line in ("• first", "1. one", "Grüße, 日本"):
        assert line in [one.strip() for one in text.splitlines()]
    assert "https://kb.example.com/42?a=1&b=2" in text
    assert not {"<", "alert", "color"} & set(text.split())
    assert "alert" not in text
    assert "color" not in text


@pytest.mark.parametrize("text", ["two\nlines", "5 < 6", "R&D", "a_b *c*", ""])
def test_text_without_markup_stays_as_it_is(text: str) -> None:
    assert text_of(text) == text


def test_quotes_nested_deeply_lose_nothing() -> None:
    html = (
        "<blockquote><div>On Monday, Anna wrote: it <b>drops</b>." * 5_000
        + "the first mail"
        + "</div></blockquote>" * 5_000
    )
    assert text_of(html).endswith("the first mail")
    assert text_of(html).count("Anna wrote") == 5_000


@pytest.mark.parametrize(
    "html",
    [
        "<pre>a" + " " * 1_000_000 + "x</pre>",
        "<ul><li>a" * 100_000,
        "<ul " * 250_000,
        "".join(f"<p><b id={number}>a" for number in range(50_000)),
        "<optgroup><option>a" * 50_000,
    ],
    ids=["blanks within a line", "lists in lists", "tags without an end", "letters that stay bold", "options"],
)
def test_no_html_takes_long_or_becomes_large(html: str) -> None:
    """Any requester may write such a ticket, and each of these used to keep a worker busy for minutes or for days."""
    assert len(text_of(html)) < 3 * len(html)


def test_lists_in_lists_and_bold_words_stay_what_they_are() -> None:
    assert text_of("<ul><li>one<ul><li><b>two</b><ol><li>th<i>ree</ol></ul><li>four</ul>after") == (
        "• one\n    • two\n      1. three\n  • four\nafter"
    )
    deep = text_of("<ol><li>x" * 30 + "</ol>" * 30 + "<ul><li>y</ul>")
    assert deep.count("x") == 30
    assert "• y" in deep


def test_the_answer_names_a_member_that_is_there_twice() -> None:
    """The decoder reads the first, and the search for the fault reads the last."""
    checked = event.check(b'{"tenant_id": "acme", "request": 5, ' + body().lstrip()[1:], RULES)
    assert "(body) has a member twice" in str(checked.error)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["name", "value", "content", "id"]), inner, max_size=3),
    max_leaves=5,
)  # fmt: skip


@given(st.dictionaries(st.sampled_from(native.Request.__struct_fields__), json_values))
def test_whatever_the_members_hold_check_and_decode_agree_and_postgres_can_hold_it(members: dict[str, Any]) -> None:
    sent = body(**members)
    checked = event.check(sent, RULES)
    if checked.broken:
        assert {rule.field for rule in checked.broken} <= {f"request.{name}" for name in members}
        assert {rule.field for rule in checked.broken} <= {f"request.{name}" for name in (*native.RULES, *native.TIMES)}
        assert "\0" not in (checked.ticket_id or "")
        with pytest.raises(event.RejectedError):
            event.decode(sent, RULES)
        return
    ticket = event.decode(sent, RULES)
    assert ticket.ticket_id == checked.ticket_id
    assert "\0" not in "".join([ticket.ticket_id, ticket.description, ticket.resolution, ticket.priority, *ticket.tags])


def test_a_native_webhook_is_stored_and_one_too_early_is_kept_with_a_reason_that_reprocess_looks_at_again(
    database: Database, secrets_key: str, start_server: Callable[..., Server], start_worker: Callable[..., Worker]
) -> None:
    acme = database.add_tenant(secrets_key)
    server = start_server()
    server.wait_until_known(acme)
    good = body().replace(b'"acme"', json.dumps(acme.id).encode())
    early = body(id="7", status={"name": "Geschlossen"}).replace(b'"acme"', json.dumps(acme.id).encode())
    spanish = {"name": "Cerrado", "internal_name": "Closed", "in_progress": False}
    odd = body(id="8", status=spanish, tags={"name": "vpn"}).replace(b'"acme"', json.dumps(acme.id).encode())
    assert server.post(good, acme.headers(good)).status_code == 202
    assert server.post(odd, acme.headers(odd)).status_code == 202
    [line] = server.wait_for_line("webhook_answered", ticket_id="8")
    assert line["ignored"] == ["request.tags"]
    answer = server.post(early, acme.headers(early))
    assert answer.status_code == 422
    assert "RESOLVED_STATUSES" in answer.json()["detail"]
    assert [one["field"] for one in answer.json()["errors"]] == ["request.status"]
    start_worker(RESOLVED_STATUSES="Geschlossen, Gelöst")
    database.wait_for("SELECT count(*) FROM ticket_history", 2, within=15)
    [row, _] = database.query("SELECT * FROM ticket_history ORDER BY ticket_id")
    assert (row["description"], row["resolution"], row["resolved_date"]) == (
        "VPN drops\n\nEvery hour",
        "Mended",
        RESOLVED,
    )
    assert (row["ticket_id"], row["display_id"]) == ("155000000123456789", "4711")
    named = "SELECT count(*) FROM inbox WHERE display_id = '4711'"
    assert database.value(named) == 3, "a rejected one is found by it too"
    database.defer("reprocess", status="rejected")
    database.wait_for("SELECT count(*) FROM ticket_history", 3, within=15)


def test_a_mail_thread_of_megabytes_holds_up_no_other(
    database: Database, secrets_key: str, start_server: Callable[..., Server], start_worker: Callable[..., Worker]
) -> None:
    """The server reads no HTML; the worker reads it in a thread, so its heartbeat goes on."""
    acme = database.add_tenant(secrets_key)
    server = start_server(MAX_BODY_BYTES=str(4 * 1024**2))
    server.wait_until_known(acme)
    thread = "<div><blockquote>On Monday, Anna wrote: it <b>drops</b>.<ul><li>a</li></ul></blockquote></div>" * 22_000
    long = body(description=thread).replace(b'"acme"', json.dumps(acme.id).encode())
    assert len(long) > 2_000_000
    sent = server.post(long, acme.headers(long))
    assert sent.status_code == 202
    start_worker()
    database.wait_for("SELECT count(*) FROM ticket_history", 1, within=15)
    [row] = database.query("SELECT length(description) AS length FROM ticket_history")
    assert row["length"] == len("VPN drops\n\n") + 10_000
    began = time.perf_counter()
    event.check(long, RULES)
    checked = time.perf_counter() - began
    began = time.perf_counter()
    event.decode(long, RULES)
    assert checked < (time.perf_counter() - began) / 2  # a ratio: the server does less than half of the work
