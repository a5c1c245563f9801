"""ticket-inbox send: an address with a path or without, and one line with the correlation id where it is refused."""

import re
import subprocess
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import httpx
import pytest

from app.commands import send
from app.webhook import PATH, endpoint
from tests.support.answering import answering
from tests.support.commands_in_process import run_here
from tests.support.system import Server, Tenant

pytestmark = pytest.mark.one_postgres

ID = r"Correlation id [0-9a-f-]{36}\n"


def sent(url: str, tenant: Tenant, *more: str) -> subprocess.CompletedProcess[str]:
    return run_here(["send", "--url", url, "--tenant", tenant.id, "--secret", tenant.secret, *more], {})


def test_an_address_may_have_the_webhooks_path_or_none(server: Server, tenant: Tenant) -> None:
    for url in ("", "/", PATH, f"{PATH}/", "?a=b", f"{PATH}?a=b"):
        assert sent(server.url + url, tenant).returncode == 0, url
    for path in ("/webhook", "/health/live", "/webhook/servicedesk/"):
        done = sent(server.url + path, tenant)
        assert done.returncode == 1
        words = (
            f"Error: 40[45]: nothing takes webhooks at {path}: leave the path out of --url, or end it with {PATH}. {ID}"
        )
        assert re.fullmatch(words, done.stderr), done.stderr


def test_what_is_no_address_is_wrong_use(tenant: Tenant) -> None:
    for url in (
        "127.0.0.1:8000",
        "me:safe@inbox",
        "ftp://inbox",
        "http://",
        "http://[",
        "http://inbox:port",
        "http://x:0",
    ):
        done = sent(url, tenant)
        assert done.returncode == 2
        assert done.stderr.endswith(
            "\nError: --url must be an address like http://127.0.0.1:8000 or https://inbox.example.com\n"
        )
        assert "safe" not in done.stderr
    for url, posted in {
        "https://inbox.example.com": f"https://inbox.example.com{PATH}",
        f"https://example.com/inbox{PATH}/": f"https://example.com/inbox{PATH}",
        "https://example.com/hooks/": "https://example.com/hooks/",  # which a proxy may lead to the webhook
    }.items():
        assert send.webhook_url(url) == posted


def test_a_refusal_is_said_once_with_the_correlation_id(server: Server, tenant: Tenant, tmp_path: Path) -> None:
    done = sent(server.url, Tenant(tenant.id, "wrong"))
    assert re.fullmatch(
        rf"Error: 401 The signature in the header .* does not verify: .* names\. Compare --tenant .* last\. {ID}",
        done.stderr,
    )
    (tmp_path / "event.json").write_text('{"priority": 5}')
    done = sent(server.url, tenant, "--file", str(tmp_path / "event.json"))
    assert re.fullmatch(
        rf"Error: 422 The event breaks its schema: ticket_id is missing.*priority must be a string\. {ID}", done.stderr
    )
    assert done.stderr.count("The event breaks its schema") == 1


def test_a_signature_that_fails_names_what_to_compare() -> None:
    """A server that wants the time signed says so in its answer."""
    response, target = httpx.Response(401), f"http://127.0.0.1{PATH}"
    for signed, is_timed in zip(endpoint.SIGNED, (False, True), strict=True):
        answer = send.Answer(detail=endpoint.NOT_SIGNED.format(signed))
        words = send._refusal(response, answer, target)  # noqa: SLF001
        assert "Compare --tenant with `ticket-inbox tenant list`" in words
        assert ("by --timestamp" in words) == is_timed


def test_what_is_no_ticket_inbox_says_so_in_one_line(tenant: Tenant, monkeypatch: pytest.MonkeyPatch) -> None:
    class Other(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            status, headers = answers[0]
            self.rfile.read(int(self.headers["Content-Length"]))
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(b"<html>" + b" " * 1_000_000)

        def log_message(self, *_: object) -> None:
            pass

    answers: list[tuple[int, dict[str, str]]] = []
    with answering(Other) as url:
        for answer, words in [
            ((202, {}), f"{url}{PATH} answers 202, and not as ticket-inbox does: check --url"),
            ((502, {"X-Correlation-ID": "abc"}), f"{url}{PATH} answers 502, and not as ticket-inbox does: check --url. Correlation id abc"),
            ((308, {"Location": "https://me:safe@inbox/"}), f"{url}{PATH} answers 308 and leads to https://inbox/: give that as --url"),
            ((503, {"Retry-After": "5"}), f"{url}{PATH} answers 503, and not as ticket-inbox does: check --url. Send it again in 5 s"),
        ]:  # fmt: skip
            answers[:] = [answer]
            done = sent(url.replace("//", "//me:safe@"), tenant)
            assert (done.returncode, done.stderr) == (1, f"Error: {words}\n")
    done = sent(url.replace("//", "//me:safe@"), tenant)  # nothing listens there any more
    assert re.fullmatch(rf"Error: {url}{PATH} cannot be reached \(.*\): is ticket-inbox running there\?\n", done.stderr)
    monkeypatch.setenv("HTTP_PROXY", "nonsense://")
    assert sent(url, tenant).stderr.count("\n") == 1
