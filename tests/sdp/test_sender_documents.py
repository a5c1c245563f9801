"""What does a sender's script make of a file as ServiceDesk Plus may write it: other languages, old forms, code pages?"""

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.support.sender_scripts import (
    OPEN,
    RESOLVED,
    Answerer,
    Printed,
    Sender,
    arrived,
    resolved,
)
from tests.support.system import Database, Tenant

pytestmark = pytest.mark.one_postgres

UTF8_SYSTEM = {"LC_ALL": "C.UTF-8"}
SUBJECT = "Größe der Tür: 5 µm"
CLOSED = {"id": "3", "name": "Cerrado", "internal_name": "Closed", "in_progress": False}
V1 = {
    "WORKORDERID": "4711",
    "SUBJECT": "VPN",
    "STATUS": "Resolved",
    "PRIORITY": "High",
    "COMPLETEDTIME": "1769851800000",
}


def one_request(answerer: Answerer) -> dict[str, Any]:
    [got] = answerer.got
    request: dict[str, Any] = json.loads(got.body)["request"]
    return request


def document(sender: Sender, content: bytes) -> Path:
    path = sender.folder / "document.json"
    path.write_bytes(content)
    return path


def encoded(encoding: str, *, mark: bytes = b"") -> bytes:
    request = resolved(subject=SUBJECT, description="as it is")
    return mark + json.dumps({"request": request}, ensure_ascii=False).encode(encoding)


def assert_kept(sender: Sender, printed: Printed, content: bytes) -> str:
    """Assert that a file was refused aloud, and is in refused/ as it came; return the reason that lies beside it."""
    assert (printed.result, printed.code) == ("failure", 1)
    assert printed.message.startswith("nothing is sent: ")
    [kept] = sender.refused()
    assert str(kept) in printed.message
    assert kept.read_bytes() == content
    assert sender.spooled() == []
    return kept.with_suffix(".txt").read_text()


@pytest.mark.parametrize(
    "status", [CLOSED, {**CLOSED, "internal_name": " resolved "}, {**RESOLVED, "internal_name": ""}]
)
def test_a_status_counts_by_its_internal_name_too(rude: Sender, answerer: Answerer, status: dict[str, object]) -> None:
    request = resolved(status=status)
    assert rude.run(rude.file(request)).result == "success"
    assert one_request(answerer) == request


@pytest.mark.parametrize(
    ("status", "hint"),
    [
        ({"name": "Cerrado", "in_progress": False}, True),
        ({"name": "Cerrado", "internal_name": None, "in_progress": False}, True),
        ({"name": "Abierto", "internal_name": "Open", "in_progress": True}, False),
    ],
)
def test_a_status_that_is_passed_over_is_named(
    rude: Sender, answerer: Answerer, status: dict[str, object], *, hint: bool
) -> None:
    printed = rude.run(rude.file(resolved(status=status)))
    assert printed.message.startswith(f"nothing to send: the status is {status['name']}, not Resolved or Closed")
    assert ("it is not in progress" in printed.message) == hint
    assert not answerer.got


@pytest.mark.parametrize(
    ("old", "new", "sent"),
    [
        ({"resolution": None}, {"resolution": {"content": "<p>a</p>", "submitted_by": {"site": {"id": "1"}}}}, True),
        ({"resolution": {"content": "<p>a</p>"}}, {"resolution": {"content": "<p>A</p>"}}, True),
        ({"closure_info": {"closure_comments": None}}, {"closure_info": {"closure_comments": "rebooted"}}, True),
        ({}, {"resolution": {"content": "<p>a</p>"}}, True),
        ({"priority": None, "status": RESOLVED}, {"priority": {"name": "Low"}, "status": RESOLVED}, False),
        ({}, {"status": RESOLVED}, True),
        ({}, {}, True),
    ],
)
def test_a_resolution_that_is_edited_later_is_sent(
    rude: Sender, answerer: Answerer, old: dict[str, object], new: dict[str, object], *, sent: bool
) -> None:
    """Not so another edit of a resolved request; a request that was created as Closed has no edits at all."""
    printed = rude.run(rude.file(resolved(), diff={"old": {"request": old}, "new": {"request": new}}))
    assert printed.result == "success"
    assert len(answerer.got) == sent
    assert (printed.message == "nothing to send: neither its status nor its resolution was edited") != sent


def test_the_status_and_then_the_resolution_are_two_deliveries(sender: Sender, module_database: Database) -> None:
    ticket = resolved(resolution=None)
    assert sender.run(sender.file(ticket)).result == "success"
    edited = {"old": {"request": {"resolution": None}}, "new": {"request": {"resolution": {"content": "rebooted"}}}}
    later = {**ticket, "resolution": {"content": "rebooted"}}
    assert sender.run(sender.file(later, diff=edited)).result == "success"
    assert [json.loads(payload)["request"] for _, payload in arrived(module_database, sender)] == [ticket, later]


def test_the_file_of_complete_json_file_is_named(rude: Sender, answerer: Answerer) -> None:
    content = json.dumps({"request": V1}).encode()
    printed = rude.run(document(rude, content))
    assert "V1" in printed.message
    assert "give $COMPLETE_V3_JSON_FILE in the script's line" in printed.message
    assert "V1" in assert_kept(rude, printed, content)
    assert not answerer.got


@pytest.mark.parametrize(
    "content",
    [
        b'{"request": {}}',
        b'{"request": {"id": "7", "status": "Resolved"}}',
        b'{"request": {"id": null, "status": {"name": "Resolved"}}}',
        b'[{"request": {"id": "7", "status": {"name": "Resolved"}}}]',
    ],
)
def test_a_file_that_is_no_request_is_kept_and_no_success(rude: Sender, answerer: Answerer, content: bytes) -> None:
    assert_kept(rude, rude.run(document(rude, content)), content)
    assert not answerer.got


def test_members_that_differ_only_in_case(rude: Sender, answerer: Answerer) -> None:
    """Python reads such a file; PowerShell cannot, and keeps it."""
    content = json.dumps({"request": resolved(udf_fields={"udf_a": 1, "UDF_A": 2})}).encode()
    printed = rude.run(document(rude, content))
    if rude.script.suffix == ".ps1":
        assert "udf_a" in assert_kept(rude, printed, content).lower()
    else:
        assert printed.result == "success"
        assert one_request(answerer)["udf_fields"] == {"udf_a": 1, "UDF_A": 2}


def test_a_kept_file_is_sent_by_its_path_once_it_can_be_read(rude: Sender, answerer: Answerer) -> None:
    content = encoded("utf-8")
    reason = assert_kept(rude, rude.run(document(rude, content[:-1])), content[:-1])
    assert "run the script with this file's path" in reason
    [kept] = rude.refused()
    kept.write_bytes(content)
    assert rude.run(kept).result == "success"
    assert one_request(answerer)["subject"] == SUBJECT


def test_refused_has_an_end_too(rude: Sender) -> None:
    """A trigger with the wrong variable writes a file at each edit."""
    rude.set(SpoolLimit=2)
    for kept in (1, 2, 2):
        printed = rude.run(document(rude, b"{}"))
        assert printed.result == "failure"
        assert len(rude.refused()) == kept
    assert "NOT KEPT" in printed.message


@pytest.mark.parametrize(
    ("encoding", "mark"), [("utf-16-le", b"\xff\xfe"), ("utf-16-be", b"\xfe\xff"), ("utf-8", b"\xef\xbb\xbf")]
)
def test_a_file_with_a_mark_is_read_by_it(rude: Sender, answerer: Answerer, encoding: str, mark: bytes) -> None:
    printed = rude.run(document(rude, encoded(encoding, mark=mark)))
    assert printed.result == "success"
    assert "WARNING" not in printed.message
    assert one_request(answerer)["subject"] == SUBJECT


def test_a_file_in_a_code_page_that_was_set_arrives_with_a_warning(sender: Sender, module_database: Database) -> None:
    printed = sender.run(document(sender, encoded("windows-1252")), TICKET_INBOX_CODE_PAGE="windows-1252")
    assert printed.result == "success"
    assert "WARNING: the file is not UTF-8 and was read as windows-1252" in printed.message
    [(_, payload)] = arrived(module_database, sender)
    assert json.loads(payload)["request"]["subject"] == SUBJECT


def test_the_systems_code_page(tmp_path: Path, answerer: Answerer) -> None:
    """Only for Python's script: .NET knows no other code page than UTF-8 on Linux."""
    made = shutil.which("localedef") and subprocess.run(
        ["localedef", "-i", "en_US", "-f", "ISO-8859-1", tmp_path / "en_US"], capture_output=True, check=False
    )
    if not made or not (tmp_path / "en_US").exists():
        pytest.skip("NOT RUN: this system can make no locale")
    sender = Sender(tmp_path / "scripts", "send_resolved.py", Tenant("acme", "a-secret"), answerer.url)
    latin = {"LC_ALL": "en_US", "LOCPATH": str(tmp_path)}
    printed = sender.run(document(sender, encoded("latin-1")), **latin)
    assert printed.result == "success"
    assert "WARNING: the file is not UTF-8 and was read as ISO-8859-1" in printed.message
    assert one_request(answerer)["subject"] == SUBJECT


@pytest.mark.parametrize("code_page", ["", "utf-8", "no-such-page"])
def test_a_file_in_neither_is_never_sent_damaged(rude: Sender, answerer: Answerer, code_page: str) -> None:
    content = encoded("windows-1252")
    printed = rude.run(document(rude, content), TICKET_INBOX_CODE_PAGE=code_page, **UTF8_SYSTEM)
    assert_kept(rude, printed, content)
    assert not answerer.got


def test_utf_16_that_was_cut_is_kept(rude: Sender) -> None:
    content = b"\xff\xfe" + json.dumps({"request": resolved()}).encode("utf-16-le")[:-1]
    assert_kept(rude, rude.run(document(rude, content)), content)


def test_half_a_character_is_warned_of(tmp_path: Path, answerer: Answerer) -> None:
    """Only Python's script can meet this: the other one sends the file as it came, and has it refused."""
    sender = Sender(tmp_path / "scripts", "send_resolved.py", Tenant("acme", "a-secret"), answerer.url)
    printed = sender.run(sender.file(resolved(subject="cut \ud83d", status=RESOLVED)))
    assert "WARNING: half of a character became a question mark" in printed.message
    assert sender.run(sender.file(resolved(status=OPEN))).message.startswith("nothing to send")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"\r\n", "nothing is sent: the file is empty; "),
        (b'{"request": ', "nothing is sent: it is no JSON: Expecting value"),
        (encoded("windows-1252"), "invalid start byte; set CODE_PAGE to the file's encoding; "),
    ],
)
def test_why_a_file_cannot_be_read(tmp_path: Path, content: bytes, words: str) -> None:
    """The other script has the words of .NET."""
    sender = Sender(tmp_path / "scripts", "send_resolved.py", Tenant("acme", "a-secret"))
    printed = sender.run(document(sender, content), **UTF8_SYSTEM)
    assert words in printed.message
    assert_kept(sender, printed, content)
