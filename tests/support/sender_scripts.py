"""Run a sender's script as ServiceDesk Plus does, against an HTTP server that gives any answer that a test asks for."""

import contextlib
import json
import re
import shutil
import ssl
import subprocess
import sys
import threading
import uuid
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, NamedTuple

from app.webhook import PATH
from tests import ROOT
from tests.conftest import clean_environment
from tests.support.system import Database, Tenant

SENDERS = ROOT / "docs/webhooks/senders"
PWSH = shutil.which("pwsh") or shutil.which("powershell")
PROGRAMS = {
    "send_resolved.py": [sys.executable],
    "send_resolved.ps1": [PWSH or "pwsh", "-NoProfile", "-ExecutionPolicy", "Bypass", "-File"],
}
RESOLVED = {"id": "4", "name": "Resolved"}
OPEN = {"id": "1", "name": "Open"}
KEPT = "nothing is lost: it will be sent with the next one, or by --flush"
PROBLEM = b'{"title": "Nothing", "detail": "as the problem says"}'


class Printed(NamedTuple):
    """The line that a script printed for the request's history, and the script's exit code."""

    result: str
    message: str
    code: int


class Sender:
    """A script as an administrator would have pasted it, with a test's own constants."""

    def __init__(self, folder: Path, name: str, tenant: Tenant, url: str = "http://127.0.0.1:1") -> None:
        folder.mkdir(exist_ok=True)
        self.folder, self.spool, self.tenant, self.url = folder, folder / "spool", tenant, url
        self.script, self.program = Path(shutil.copy(SENDERS / name, folder)), PROGRAMS[name]
        (folder / "secret").write_text(tenant.secret + "\n")
        (folder / "secret").chmod(0o600)

    def set(self, **constants: int) -> None:
        """Change constants at the script's top, as an administrator would."""
        for name, value in constants.items():
            spelled = rf"^(\${name} = |{re.sub('(?<=.)(?=[A-Z])', '_', name).upper()} = )[0-9]+"
            text, count = re.subn(spelled, rf"\g<1>{value}", self.script.read_text(), flags=re.MULTILINE)
            assert count == 1, name
            self.script.write_text(text)

    def environment(self, **changes: str) -> dict[str, str]:
        kept = {name: value for name, value in clean_environment().items() if not name.startswith("TICKET_INBOX_")}
        return {
            **kept,
            "TICKET_INBOX_URL": self.url,
            "TICKET_INBOX_TENANT": self.tenant.id,
            "TICKET_INBOX_SECRET_FILE": str(self.folder / "secret"),
            "TICKET_INBOX_SPOOL": str(self.spool),
            "no_proxy": "127.0.0.1,localhost",
            **changes,
        }

    def start(self, *arguments: str | Path, **changes: str) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            [*self.program, self.script, *arguments], env=self.environment(**changes),
            stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip

    def run(self, *arguments: str | Path, **changes: str) -> Printed:
        return outcome(self.start(*arguments, **changes))

    def send(self, **changes: str) -> Printed:
        """Run the script for a request that has just become Resolved."""
        return self.run(self.file(resolved()), **changes)

    def file(self, request: dict[str, Any], **sides: Any) -> Path:  # noqa: ANN401
        """Write the file that ServiceDesk Plus gives a script; the status has changed unless `diff` says otherwise."""
        changed = {"old": {"request": {"status": OPEN}}, "new": {"request": {"status": request.get("status")}}}
        document = {"request": request, "diff": changed, **sides}
        path = self.folder / f"{uuid.uuid4().hex}.json"
        path.write_text(json.dumps({name: value for name, value in document.items() if value is not ...}))
        return path

    def spooled(self) -> list[Path]:
        return sorted(self.spool.glob("*.json"))

    def refused(self) -> list[Path]:
        return sorted((self.spool / "refused").glob("*.json"))


def outcome(process: subprocess.Popen[bytes]) -> Printed:
    """Wait until a script ends; assert that it printed one line, and nothing to stderr."""
    out, err = process.communicate(timeout=60)
    assert err == b""
    assert out.count(b"\n") == 1
    assert out.isascii()
    line = json.loads(out)
    assert list(line) == ["result", "message"]
    assert process.returncode == (0 if line["result"] == "success" else 1)
    return Printed(line["result"], line["message"], process.returncode)


def resolved(**members: object) -> dict[str, Any]:
    """Return a resolved request of API V3; a member given as ... is left out."""
    request = {
        "id": str(uuid.uuid4().int)[:18],
        "subject": "VPN drops every hour",
        "description": "<div>Since Monday, on <b>every</b> laptop: the VPN\u2019s gone.</div>",
        "resolution": {"content": "<div>Rolled the gateway's firmware back to 9.1.4.</div>"},
        "priority": {"id": "3", "name": "High"},
        "status": RESOLVED,
        "resolved_time": {"value": "1769851800000", "display_value": "Jan 31, 2026 09:30 AM"},
        "udf_fields": {"udf_char1": None, "udf_double1": 1.5},
        **members,
    }
    return {name: value for name, value in request.items() if value is not ...}


class Got(NamedTuple):
    """A request as it arrived."""

    id: str
    body: bytes
    headers: dict[str, str]


Reply = tuple[int, dict[str, str], bytes]
ACCEPTED: Reply = (202, {}, b"{}")


class Answerer:
    """A real HTTP server that answers each request with what `reply` returns for it."""

    def __init__(self) -> None:
        self.url = ""
        self.got: list[Got] = []
        self.reply: Callable[[Got], Reply] = lambda _: ACCEPTED
        self.arrived = threading.Semaphore(0)

    def replies(self, *replies: Reply) -> None:
        """Answer with these in turn, and then always with the last of them."""
        left = list(replies)
        self.reply = lambda _: left.pop(0) if len(left) > 1 else left[0]

    def hang(self) -> threading.Event:
        """Return an event; no request is answered before it is set."""
        go_on = threading.Event()

        def wait(_: Got) -> Reply:
            go_on.wait(60)
            return ACCEPTED

        self.reply = wait
        return go_on


@contextlib.contextmanager
def answering(tls: ssl.SSLContext | None = None) -> Iterator[Answerer]:
    answerer = Answerer()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"] or 0))
            got = Got(
                self.headers["X-Correlation-ID"], body, {name.lower(): value for name, value in self.headers.items()}
            )
            answerer.got.append(got)
            answerer.arrived.release()
            status, headers, content = answerer.reply(got) if self.path == PATH else (404, {}, b"")
            with contextlib.suppress(OSError):  # the sender may be dead
                self.send_response(status)
                for name, value in {**headers, "Content-Length": str(len(content))}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(content)

        do_GET = do_POST  # noqa: N815  (for a sender that follows a redirect)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    server.handle_error = lambda *_: None  # type: ignore[method-assign]  # a handshake that a sender breaks off
    if tls:
        server.socket = tls.wrap_socket(server.socket, server_side=True)
    answerer.url = f"http{'s' if tls else ''}://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    try:
        yield answerer
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def arrived(database: Database, sender: Sender) -> list[tuple[str, bytes]]:
    """Return the correlation id and the body of each of the sender's webhooks in the inbox, in the order of arrival."""
    rows = database.query(
        "SELECT correlation_id, payload FROM inbox WHERE tenant_id = %s AND status = 'pending' ORDER BY id",
        sender.tenant.id,
    )
    return [(row["correlation_id"], row["payload"]) for row in rows]


def kill(process: subprocess.Popen[bytes]) -> None:
    process.kill()
    process.communicate()
