"""The scripts of docs/webhooks/senders, run as ServiceDesk Plus runs them, against our server and a rude one."""

import ast
import datetime as dt
import importlib.util
import ipaddress
import json
import os
import re
import ssl
from collections.abc import Callable, Iterator
from email.utils import format_datetime
from pathlib import Path
from types import ModuleType

import pytest
import tree_sitter
import tree_sitter_powershell
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from app.webhook import signature
from tests.support.free_ports import free_port
from tests.support.sender_scripts import (
    ACCEPTED,
    KEPT,
    OPEN,
    PROBLEM,
    PROGRAMS,
    PWSH,
    RESOLVED,
    SENDERS,
    Answerer,
    Reply,
    Sender,
    answering,
    arrived,
    kill,
    outcome,
    resolved,
)
from tests.support.system import Database, Server, Tenant

pytestmark = pytest.mark.one_postgres

Start = Callable[..., Server]


@pytest.mark.skipif(not PWSH, reason="NOT RUN: PowerShell is not installed, so the tests run only Python's script")
def test_powershell_too() -> None:
    """If PowerShell is installed, each test below runs both scripts."""
    assert PWSH


def id_of(spooled: Path) -> str:
    return spooled.name.split(".")[1]


def test_what_became_resolved_is_in_the_inbox_whole(sender: Sender, module_database: Database) -> None:
    request = resolved()
    printed = sender.run(sender.file(request))
    assert printed.result == "success"
    [(correlation_id, payload)] = arrived(module_database, sender)
    assert correlation_id in printed.message
    assert "WARNING" not in printed.message
    sent = json.loads(payload)
    assert (sent["tenant_id"], sent["request"]) == (sender.tenant.id, request)
    assert sender.spooled() == sender.refused() == []


@pytest.mark.parametrize("subject", ["Größe → 消失 🙂", 'a "quote", a \\ and a\ttab', "\u2028 \x00 </script>"])
def test_any_text_arrives_as_it_was(sender: Sender, module_database: Database, subject: str) -> None:
    document = sender.file(resolved(subject=subject))
    document.write_text(json.dumps(json.loads(document.read_text()), ensure_ascii=False), "utf-8-sig")
    assert sender.run(document).result == "success"
    [(_, payload)] = arrived(module_database, sender)
    assert json.loads(payload)["request"]["subject"] == subject


def test_half_a_surrogate_pair_does_not_cost_the_ticket(
    tmp_path: Path, tenant: Tenant, server: Server, module_database: Database
) -> None:
    """A text may be cut in the middle of an emoji; the server rejects such JSON. Only Python's script can meet this."""
    sender = Sender(tmp_path / "scripts", "send_resolved.py", tenant, server.url)
    assert sender.run(sender.file(resolved(subject="cut \ud83d"))).result == "success"
    [(_, payload)] = arrived(module_database, sender)
    assert json.loads(payload)["request"]["subject"].startswith("cut ")


@pytest.mark.parametrize(
    ("status", "sides", "sent"),
    [
        ("Resolved", {}, True),
        (" closed", {}, True),
        ("Closed", {"diff": {"old": {"request": {"status": RESOLVED}}, "new": {"request": {"status": OPEN}}}}, True),
        ("Resolved", {"diff": ...}, True),
        ("Resolved", {"diff": None}, True),
        ("Resolved", {"diff": {"old": {"request": {"subject": "a"}}, "new": {"request": {"subject": "b"}}}}, False),
        (
            "Resolved",
            {"diff": {"old": {"request": {"status": RESOLVED}}, "new": {"request": {"status": RESOLVED}}}},
            False,
        ),
        ("Open", {}, False),
        ("Open", {"diff": ...}, False),
    ],
)
def test_only_what_became_resolved_or_closed_is_sent(
    rude: Sender, answerer: Answerer, status: str, sides: dict[str, object], *, sent: bool
) -> None:
    printed = rude.run(rude.file(resolved(status={"id": "9", "name": status}), **sides))
    assert printed.result == "success"
    assert printed.message.startswith("nothing to send") != sent
    assert len(answerer.got) == sent


def test_other_names_of_the_statuses(rude: Sender, answerer: Answerer) -> None:
    names = {"TICKET_INBOX_STATUSES": "Gelöst, Geschlossen"}
    assert rude.send(**names).message.startswith("nothing to send")
    closed = rude.file(resolved(status={"id": "9", "name": "geschlossen"}))
    assert rude.run(closed, **names).result == "success"
    assert len(answerer.got) == 1


def test_the_server_away_and_back(
    script: str, tmp_path: Path, start_server: Start, database: Database, secrets_key: str
) -> None:
    """Events from meanwhile arrive with the next one: oldest first, byte for byte, under their own ids."""
    port = free_port()
    sender = Sender(tmp_path / "scripts", script, database.add_tenant(secrets_key), f"http://127.0.0.1:{port}")
    sender.set(Budget=1)
    for count in (1, 2, 3):
        printed = sender.send()
        assert printed.result == "failure"
        assert KEPT in printed.message
        assert f"{count} in the spool" in printed.message
    waiting = [(id_of(path), path.read_bytes()) for path in sender.spooled()]
    assert len({correlation_id for correlation_id, _ in waiting}) == 3
    start_server(PORT=str(port))
    sender.set(Budget=30)
    printed = sender.send()
    assert printed.result == "success"
    assert "4 delivered, 0 in the spool" in printed.message
    assert arrived(database, sender)[:3] == waiting
    assert len(arrived(database, sender)) == 4
    assert sender.spooled() == []


def test_a_flush_sends_what_waits_and_nothing_else(sender: Sender, module_database: Database) -> None:
    url, sender.url = sender.url, "http://127.0.0.1:1"
    sender.set(Budget=1)
    assert sender.run("--flush").result == "success"
    assert (sender.send().result, sender.send().result) == ("failure", "failure")
    printed = sender.run("--flush")
    assert printed.result == "failure"
    assert "0 delivered, 2 in the spool" in printed.message
    waiting = [(id_of(path), path.read_bytes()) for path in sender.spooled()]
    sender.url = url
    sender.set(Budget=30)
    assert sender.run("--flush")[:2] == ("success", "2 delivered, 0 in the spool; 202 Accepted")
    assert arrived(module_database, sender) == waiting


def test_a_wrong_secret_loses_nothing(sender: Sender, module_database: Database) -> None:
    """The script does not retry a 401 in this run; when the secret is right again, it delivers all events."""
    (sender.folder / "secret").write_text("another")
    tenant_id = "TenantId" if sender.script.suffix == ".ps1" else "TENANT_ID"
    for _ in range(2):
        printed = sender.send()
        assert printed.result == "failure"
        assert "401 The signature" in printed.message
        assert f"mend {tenant_id} or the secret" in printed.message
        assert KEPT in printed.message
    assert len(sender.spooled()) == 2
    (sender.folder / "secret").write_text(sender.tenant.secret)
    assert sender.run("--flush").result == "success"
    assert len(arrived(module_database, sender)) == 2


def test_what_is_refused_for_good_is_kept_aside_with_the_reason(sender: Sender, module_database: Database) -> None:
    printed = sender.run(sender.file(resolved(resolved_time=None)))
    assert printed.result == "failure"
    assert "put into refused/: 422" in printed.message
    assert "request.resolved_time" in printed.message
    [aside] = sender.refused()
    assert "request.resolved_time" in aside.with_suffix(".txt").read_text()
    assert sender.run("--flush")[:2] == ("success", "0 delivered, 0 in the spool; nothing was sent")
    printed = sender.send()
    assert printed.result == "success"
    assert sender.refused() == [aside]
    aside.rename(sender.spool / aside.name)
    assert "422" in sender.run("--flush").message
    assert len(arrived(module_database, sender)) == 1


@pytest.mark.parametrize("status", [400, 413, 415, 422])
def test_each_refusal_for_good_is_kept_aside(rude: Sender, answerer: Answerer, status: int) -> None:
    answerer.replies((status, {}, PROBLEM))
    printed = rude.send()
    assert printed.result == "failure"
    assert f"{status} as the problem says" in printed.message
    assert len(answerer.got) == len(rude.refused()) == 1


@pytest.mark.parametrize(
    "reply", [(401, {}, PROBLEM), (404, {}, b"<html>"), (200, {}, b"ok"), (302, {"Location": "/x"}, b"")]
)
def test_other_refusals_are_kept_and_tried_once(rude: Sender, answerer: Answerer, reply: Reply) -> None:
    """The script follows no redirect: another address must get neither the ticket nor its signature."""
    answerer.replies(reply)
    printed = rude.send()
    assert printed.result == "failure"
    assert f"{reply[0]} " in printed.message
    assert "mend " in printed.message
    assert KEPT in printed.message
    assert (len(answerer.got), len(rude.spooled()), rude.refused()) == (1, 1, [])


def test_a_401_ends_the_run(rude: Sender, answerer: Answerer) -> None:
    """All waiting events have the same tenant and secret, so a full spool must not cause a thousand refusals."""
    answerer.replies((401, {}, PROBLEM))
    for runs in (1, 2, 3):
        assert rude.send().result == "failure"
        assert len(answerer.got) == len(rude.spooled()) == runs


def test_a_403_is_of_one_event(rude: Sender, answerer: Answerer) -> None:
    """A firewall before the server may refuse just this event's text."""
    answerer.replies((403, {}, b""), ACCEPTED)
    assert rude.send().result == "failure"
    answerer.replies((403, {}, b""), ACCEPTED)
    assert "1 delivered, 1 in the spool" in rude.send().message


@pytest.mark.parametrize("status", [408, 429, 500, 503])
def test_what_may_pass_is_tried_again_under_the_same_id(rude: Sender, answerer: Answerer, status: int) -> None:
    answerer.replies((status, {"Retry-After": "0"}, PROBLEM), (status, {}, b"no JSON"), ACCEPTED)
    printed = rude.send()
    assert printed.result == "success"
    assert len(answerer.got) == 3
    assert {(got.id, got.body) for got in answerer.got} == {(answerer.got[0].id, answerer.got[0].body)}
    assert answerer.got[0].id in printed.message


@pytest.mark.parametrize("spelled", ["seconds", "date"])
def test_retry_after_is_heeded(rude: Sender, answerer: Answerer, spelled: str) -> None:
    """It asks for more time than the run may last, so the script does not retry."""
    hour = dt.timedelta(hours=1)
    date = format_datetime(dt.datetime.now(dt.UTC) + hour, usegmt=True)
    answerer.replies((503, {"Retry-After": date if spelled == "date" else "3600"}, PROBLEM))
    printed = rude.send()
    assert printed.result == "failure"
    assert "503 as the problem says" in printed.message
    assert (len(answerer.got), len(rude.spooled())) == (1, 1)


@pytest.mark.parametrize("after", ["soon", "-1", "Thu, 01 Jan 1970 00:00:00 GMT", "1e9", "²"])
def test_a_retry_after_that_asks_for_nothing(rude: Sender, answerer: Answerer, after: str) -> None:
    answerer.replies((503, {"Retry-After": after}, b""), ACCEPTED)
    assert rude.send().result == "success"


def test_one_event_that_always_fails_does_not_hold_up_the_others(rude: Sender, answerer: Answerer) -> None:
    answerer.replies((500, {"Retry-After": "3600"}, b""))
    assert rude.send().result == "failure"
    [bad] = rude.spooled()
    others: Iterator[Reply] = iter([(500, {}, b""), (422, {}, b"")])
    answerer.reply = lambda got: next(others) if got.id == id_of(bad) else ACCEPTED
    answerer.got.clear()
    printed = rude.send()
    assert printed.result == "success"
    assert f"1 delivered, 0 in the spool; {id_of(bad)} is in refused/: 422" in printed.message
    assert [got.id == id_of(bad) for got in answerer.got] == [True, False, True]


def test_no_answer_in_time(rude: Sender, answerer: Answerer) -> None:
    go_on = answerer.hang()
    rude.set(Budget=1, Try=1)
    printed = rude.send()
    go_on.set()
    assert printed.result == "failure"
    assert KEPT in printed.message
    assert len(rude.spooled()) == 1


def test_what_was_not_answered_in_time_is_sent_again(rude: Sender, answerer: Answerer) -> None:
    go_on = answerer.hang()
    hanging = answerer.reply
    answerer.reply = lambda got: hanging(got) if len(answerer.got) == 1 else ACCEPTED
    rude.set(Try=1)
    assert rude.send().result == "success"
    go_on.set()
    assert len({got.id for got in answerer.got}) == 1
    assert len(answerer.got) > 1


def test_killed_in_mid_send(rude: Sender, answerer: Answerer) -> None:
    """The script spools an event before it sends it; the next script takes over the events of a dead one."""
    go_on = answerer.hang()
    rude.set(Budget=60, Try=60)
    process = rude.start(rude.file(resolved()))
    assert answerer.arrived.acquire(timeout=30)
    kill(process)
    go_on.set()
    [left] = rude.spooled()
    answerer.replies(ACCEPTED)
    assert rude.run("--flush")[:2] == ("success", "1 delivered, 0 in the spool; 202 Accepted")
    first, second = answerer.got
    assert first.id == second.id == id_of(left)
    assert first.body == second.body


def test_two_at_once_do_not_send_the_same(rude: Sender, answerer: Answerer) -> None:
    go_on = answerer.hang()
    rude.set(Budget=60, Try=60)
    process = rude.start(rude.file(resolved()))
    assert answerer.arrived.acquire(timeout=30)
    printed = rude.run("--flush")
    assert printed.result == "failure"
    assert printed.message == "0 delivered, 1 in the spool; nothing was sent"
    go_on.set()
    assert outcome(process).result == "success"
    assert len(answerer.got) == 1
    assert rude.spooled() == []


def test_a_full_spool(rude: Sender, answerer: Answerer) -> None:
    """An event that does not fit in the spool is sent anyway, and first; the printed line says so."""
    rude.set(SpoolLimit=2)
    answerer.replies((503, {"Retry-After": "60"}, b""))
    assert KEPT in rude.send().message
    assert KEPT in rude.send().message
    printed = rude.send()
    assert printed.result == "failure"
    assert "NOT KEPT" in printed.message
    assert "it holds 2 events" in printed.message
    assert len(rude.spooled()) == 2
    answerer.replies(ACCEPTED)
    answerer.got.clear()
    oldest = rude.spooled()
    printed = rude.send()
    assert printed.result == "success"
    assert "3 delivered, 0 in the spool" in printed.message
    assert "it holds 2 events" in printed.message
    assert [got.id for got in answerer.got][1:] == [id_of(path) for path in oldest]
    assert answerer.got[0].id in printed.message


@pytest.mark.skipif(os.name == "nt", reason="a limit of the size of files is Unix's")
def test_no_room_on_the_disk(rude: Sender, answerer: Answerer) -> None:
    """The script creates the file and cannot write it; then it removes it."""
    if rude.script.suffix == ".ps1":
        pytest.skip("NOT RUN: under `ulimit -f 0` .NET itself does not start")
    rude.program = ["sh", "-c", 'ulimit -f 0; exec "$@"', "sh", *rude.program]
    printed = rude.send()
    assert printed.result == "success"
    assert "could not take it" in printed.message
    assert len(answerer.got) == 1
    assert list(rude.spool.iterdir()) == []


def test_no_folder_for_the_spool(rude: Sender, answerer: Answerer) -> None:
    rude.spool.write_text("a file where the folder should be")
    printed = rude.send()
    assert printed.result == "success"
    assert "could not take it" in printed.message
    answerer.replies((422, {}, PROBLEM))
    printed = rude.send()
    assert printed.result == "failure"
    assert "NOT KEPT" in printed.message


def test_what_cannot_be_sent_now_is_kept_without_a_secret(rude: Sender, answerer: Answerer) -> None:
    (rude.folder / "secret").unlink()
    printed = rude.send()
    assert printed.result == "failure"
    assert "no secret" in printed.message
    assert KEPT in printed.message
    assert len(rude.spooled()) == 1
    assert rude.run("--flush", TICKET_INBOX_SECRET="a-secret").result == "success"  # noqa: S106
    [got] = answerer.got
    assert got.headers[signature.HEADER.lower()] == signature.sign(b"a-secret", got.body)


@pytest.mark.parametrize(
    "content", [b"gr\xc3\xb6\xc3\x9fe\r\n", b"\xef\xbb\xbfgr\xc3\xb6\xc3\x9fe", "größe\r\n".encode("utf-16")]
)
def test_the_secret_as_windows_writes_it(rude: Sender, answerer: Answerer, content: bytes) -> None:
    (rude.folder / "secret").write_bytes(content)
    assert rude.send().result == "success"
    [got] = answerer.got
    assert got.headers[signature.HEADER.lower()] == signature.sign("größe".encode(), got.body)


def test_a_secret_that_others_can_read_is_warned_of(tmp_path: Path, answerer: Answerer) -> None:
    """Only Python's script warns: on Windows the file's rights cannot be read this way."""
    sender = Sender(tmp_path / "scripts", "send_resolved.py", Tenant("acme", "a-secret"), answerer.url)
    (sender.folder / "secret").chmod(0o644)
    printed = sender.send()
    assert printed.result == "success"
    assert "WARNING: others can read" in printed.message


@pytest.mark.parametrize(
    "content", [None, b"", b"{", b"[]", b"{}", b'{"request": []}', b"\xff\xfe\x00", b"[" * 100_000]
)
def test_what_is_no_request(rude: Sender, answerer: Answerer, content: bytes | None) -> None:
    path = rude.folder / "document"
    if content is not None:
        path.write_bytes(content)
    printed = rude.run(path)
    assert printed.result == "failure"
    assert printed.message.startswith("nothing is sent")
    assert not answerer.got
    assert not rude.spooled()
    assert [kept.read_bytes() for kept in rude.refused()] == ([] if content is None else [content])


def test_no_argument_at_all(rude: Sender) -> None:
    assert rude.run().result == "failure"


def test_what_is_spooled_for_another_tenant_is_not_sent_under_this_ones_name(rude: Sender, answerer: Answerer) -> None:
    answerer.replies((503, {"Retry-After": "60"}, b""))
    assert rude.send(TICKET_INBOX_TENANT="globex").result == "failure"
    answerer.replies(ACCEPTED)
    message = rude.send().message
    assert "1 delivered, 1 in the spool" in message
    if rude.script.suffix == ".py":
        assert "; 1 in the spool with another tenant_id: correct it in them, or run with theirs; " in message
    [waiting] = rude.spooled()
    assert json.loads(waiting.read_bytes())["tenant_id"] == "globex"
    assert [json.loads(got.body)["tenant_id"] for got in answerer.got] == ["globex", "acme"]
    waiting.write_bytes(waiting.read_bytes().replace(b"globex", b"acme", 1))  # as senders/README.md says
    assert "1 delivered, 0 in the spool" in rude.run("--flush").message


def test_a_signed_timestamp(
    script: str, tmp_path: Path, start_server: Start, database: Database, secrets_key: str
) -> None:
    tenant = database.add_tenant(secrets_key)
    server = start_server(SIGNED_TIMESTAMP_SECONDS="300")
    sender = Sender(tmp_path / "scripts", script, tenant, server.url)
    assert "401" in sender.send().message
    assert "2 delivered" in sender.send(TICKET_INBOX_SIGNED_TIMESTAMP="1").message


@pytest.fixture
def certificate(tmp_path: Path) -> Path:
    """A self-signed certificate for 127.0.0.1, with its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "ticket-inbox of a test")])
    now = dt.datetime.now(dt.UTC)
    made = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(days=1))
        .not_valid_after(now + dt.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    private = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    path = tmp_path / "certificate.pem"
    path.write_bytes(made.public_bytes(pem) + private)
    return path


def test_a_private_authority(tmp_path: Path, certificate: Path) -> None:
    """An untrusted certificate ends the run at once, and nothing is sent; with CA_FILE the script delivers."""
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    tls.load_cert_chain(certificate)
    with answering(tls) as answerer:
        sender = Sender(tmp_path / "scripts", "send_resolved.py", Tenant("acme", "a-secret"), answerer.url)
        for untrusted in ({}, {"TICKET_INBOX_CA_FILE": "/nowhere"}):
            printed = sender.send(**untrusted)
            assert printed.result == "failure"
            assert "mend URL or CA_FILE" in printed.message
            assert KEPT in printed.message
        assert not answerer.got
        assert "3 delivered" in sender.send(TICKET_INBOX_CA_FILE=str(certificate)).message


VECTOR = (
    b"sk_5Ow7B_4eC39H",
    b"{Order ID: 0932, Currency: USD, Amount: 2500}",
    "sha256=13721963e7ac439f5a2e63c261856393647f3f51b493beebf5919af4bc3de19c",
)


def load(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location("send_resolved", SENDERS / name)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_vendors_own_example_of_a_signature() -> None:
    """The example is from Zoho's documentation of hmacsha256."""
    key, data, signed = VECTOR
    assert signature.sign(key, data) == signed
    assert load("send_resolved.py").sign(key, data) == signed


def test_a_python_of_2019_can_read_it() -> None:
    ast.parse((SENDERS / "send_resolved.py").read_text(), feature_version=(3, 8))


@pytest.mark.parametrize("name", PROGRAMS)
def test_what_is_pasted_is_short_enough_to_be_read(name: str) -> None:
    assert len((SENDERS / name).read_text().splitlines()) <= 290


@pytest.mark.parametrize("name", ["send_resolved.ps1", "send_resolved.dg"])
def test_what_may_be_read_in_another_encoding_is_ascii(name: str) -> None:
    """PowerShell 5.1 reads a script without a byte order mark in the machine's own encoding."""
    assert (SENDERS / name).read_text().isascii()


def test_the_scripts_read_the_same_settings() -> None:
    """Except CA_FILE: Windows itself decides which private authorities it trusts."""
    python, powershell = (set(re.findall(r"TICKET_INBOX_\w+", (SENDERS / name).read_text())) for name in PROGRAMS)
    assert python - powershell == {"TICKET_INBOX_CA_FILE"}
    assert powershell <= python


@pytest.mark.parametrize(
    "line",
    [
        "py send_resolved.py $COMPLETE_V3_JSON_FILE",
        "powershell -NoProfile -ExecutionPolicy Bypass -File send_resolved.ps1 $COMPLETE_V3_JSON_FILE",
    ],
)
def test_guide_and_script_give_the_same_line(line: str) -> None:
    [script] = [name for name in PROGRAMS if name in line]
    for page in (SENDERS / script, SENDERS / "README.md", SENDERS.parent / "resolved-ticket-webhook-setup.md"):
        assert line in page.read_text(), page


def test_the_script_for_powershell_can_be_parsed() -> None:
    """A grammar parses it, not PowerShell, so this finds only slips in the syntax."""
    parser = tree_sitter.Parser(tree_sitter.Language(tree_sitter_powershell.language()))
    assert not parser.parse((SENDERS / "send_resolved.ps1").read_bytes()).root_node.has_error
    assert parser.parse(b"function Send-Nothing { (").root_node.has_error
