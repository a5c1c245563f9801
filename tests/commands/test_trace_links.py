"""`ticket-inbox trace` links to a trace that Jaeger has, and else says why there is no link."""

import json
import subprocess
from collections.abc import Iterator

import pytest

from app.commands import jaeger
from tests.support.commands_in_process import run_here
from tests.support.free_ports import free_port
from tests.support.jaeger_api import JSON, NO_TRACE, PAGE, JaegerApi, Reply, running_jaeger_api, trace
from tests.support.system import Database

pytestmark = pytest.mark.one_postgres

TRACE_ID, SPAN_ID = "0af7651916cd43dd8448eb211c80319c", "00f067aa0ba902b7"
TYPE = "In Jaeger's search choose ticket-inbox-worker, and type into Tags:"
ABSENT = "no span of it in Jaeger: it was sampled out, never exported, or is older than Jaeger keeps"


@pytest.fixture
def jaeger_api() -> Iterator[JaegerApi]:
    with running_jaeger_api() as running:
        yield running


@pytest.fixture(scope="module", autouse=True)
def deliveries(module_database: Database) -> None:
    """Old deliveries by correlation id: sampled, not sampled, from a file, without a trace, and one of this moment."""
    for name, source, flags, age in [
        ("sampled", "webhook_resolved", "01", 60),
        ("unsampled", "webhook_resolved", "00", 60),
        ("imported", "bulk_import", "00", 60),
        ("young", "webhook_resolved", "03", 0),
    ]:
        append(module_database, name, f"00-{TRACE_ID}-{SPAN_ID}-{flags}", source=source, age=age)
    append(module_database, "untraced", None)
    for number in range(30):
        append(module_database, f"many-{number}", f"00-{number + 1:032x}-{SPAN_ID}-01", ticket_id="many")


def append(database: Database, name: str, traceparent: str | None, *, ticket_id: str = "1", age: int = 60, source: str = "webhook_resolved") -> None:  # fmt: skip
    database.query(
        "INSERT INTO inbox (tenant_id, ticket_id, correlation_id, traceparent, source, received_at, payload, signature, status, "
        "promoted_at) SELECT 'acme', %s, %s, %s, %s, moment, '', '', 'promoted', moment "
        "FROM (SELECT now() - make_interval(secs => %s) AS moment) AS past",
        ticket_id, name, traceparent, source, age,
    )  # fmt: skip


@pytest.fixture
def env(module_environment: dict[str, str], jaeger_api: JaegerApi) -> dict[str, str]:
    return {**module_environment, "JAEGER_URL": jaeger_api.url}


def lines(done: subprocess.CompletedProcess[str]) -> str:
    """Return the lines from the trace id on, as one; none is longer than 80 columns, but a link."""
    assert "\x1b" not in done.stdout + done.stderr
    assert all(len(line) <= 80 or "http://" in line for line in done.stdout.splitlines())
    return " ".join(done.stdout.partition("trace id ")[2].split())


def test_a_trace_that_jaeger_has_whole_is_linked(env: dict[str, str], jaeger_api: JaegerApi) -> None:
    for span_id in (SPAN_ID, SPAN_ID.lstrip("0")):  # older Jaegers drop zeros
        jaeger_api.reply = trace("1111111111111111", span_id)
        done = run_here(["trace", "sampled"], env)
        assert (done.returncode, done.stderr) == (0, "")
        assert lines(done) == f"{TRACE_ID} {jaeger_api.url}/trace/{TRACE_ID}"
    assert jaeger_api.asked == [(f"/api/traces/{TRACE_ID}", None)] * 2


def test_what_is_not_there_whole_has_a_reason_and_no_link(env: dict[str, str], jaeger_api: JaegerApi) -> None:
    kept = "kept in part: what came later (a late, failed or repeated promotion) was kept, the rest was sampled out or lost."
    for name, reply, words in [
        ("sampled", NO_TRACE, ABSENT),
        ("sampled", trace("1111111111111111"), ABSENT),  # its sender's
        ("sampled", trace("1111111111111111", correlation_id="sampled"), f"{kept} {TYPE} correlation_id=sampled"),
        ("young", NO_TRACE, "not in Jaeger yet: whether it is kept is decided within half a minute; ask again then"),
        ("young", trace("1111111111111111", correlation_id="young"),
         "in Jaeger in part so far: the rest is decided on within half a minute; ask again then"),
    ]:  # fmt: skip
        jaeger_api.reply = reply
        done = run_here(["trace", name], env)
        assert (done.returncode, done.stderr, lines(done)) == (0, "", f"{TRACE_ID} {words}")


def test_what_was_never_exported_has_a_reason_and_is_not_asked_for(env: dict[str, str], jaeger_api: JaegerApi) -> None:
    why = "the sender's traceparent said so, or OTEL_TRACES_SAMPLER, or what received it exports no span"
    for name, words in [
        ("unsampled", f"{TRACE_ID} (not traced) not traced (traceparent ends in 00): {why}"),
        ("imported", f"{TRACE_ID} (not traced) not traced: what a file brings leaves no span"),
        ("untraced", "none"),
    ]:
        for option in ("--check", "--no-check"):
            done = run_here(["trace", name, option], env)
            assert (done.returncode, lines(done)) == (0, words)
        assert "(traceparent" not in run_here(["trace", name], {**env, "JAEGER_URL": ""}).stdout
    assert jaeger_api.asked == []


@pytest.mark.parametrize(
    ("reply", "answers"),
    [
        ((200, "text/html", PAGE), "answers 200, and not as Jaeger does"),
        ((404, "text/html", PAGE), "answers 404, and not as Jaeger does"),
        ((200, JSON, '{"data": null, "errors": [{"code": 500, "msg": "\\u001b[2J"}]}'), "answers 200, and not as"),
        ((200, JSON, '{"data": [{"spans": [{"spanID": 1}]}]}'), "answers 200, and not as"),
        ((200, JSON, "[" * 100_000), "answers 200, and not as"),
        ((200, JSON, f'{{"data": [], "pad": "{"x" * 9_000_000}"}}'), "answers 200, and not as"),
        ((401, JSON, "{}"), "answers 401, and not as"),
        ((503, JSON, NO_TRACE[2]), "answers 503, and not as"),
    ],
)
def test_where_jaeger_cannot_be_asked_the_link_is_marked(
    env: dict[str, str], jaeger_api: JaegerApi, reply: Reply, answers: str
) -> None:
    jaeger_api.reply = reply
    assert_unchecked(env, jaeger_api.port, answers)
    assert_unchecked(env, jaeger_api.port, answers, "--check")


def test_an_answer_that_trickles_is_given_up(env: dict[str, str], jaeger_api: JaegerApi) -> None:
    jaeger_api.reply, jaeger_api.trickles = trace(SPAN_ID), True
    assert_unchecked(env, jaeger_api.port, "gives no answer within 2 s", "--check")
    assert not jaeger_api.is_through


def test_a_redirect_is_not_followed(env: dict[str, str], jaeger_api: JaegerApi) -> None:
    with running_jaeger_api() as other:
        other.reply = trace(SPAN_ID)
        jaeger_api.reply, jaeger_api.headers = (302, "text/html", PAGE), {"Location": f"{other.url}/"}
        assert_unchecked(env, jaeger_api.port, "answers 302, and not as")
        assert other.asked == []


def test_nothing_listens_or_a_proxy_is_none(env: dict[str, str]) -> None:
    port = free_port()
    assert_unchecked({**env, "JAEGER_URL": f"http://127.0.0.1:{port}"}, port, "cannot be reached, or does not speak")
    for proxy, words in [
        ("ftp://nowhere", "a variable is wrong: look at JAEGER_URL, HTTP_PROXY, "),
        ("http://nowhere:port", "a variable is wrong: look at JAEGER_URL, HTTP_PROXY, "),
        (f"http://me:safe@127.0.0.1:{port}", "HTTP; HTTP_PROXY, HTTPS_PROXY, ALL_PROXY and NO_PROXY count\n"),
    ]:
        done = run_here(["trace", "sampled"], {**env, "ALL_PROXY": proxy, "NO_PROXY": ""})
        assert (done.returncode, lines(done).endswith("(not checked)"), words in done.stderr) == (0, True, True)
        assert "safe" not in done.stderr


@pytest.mark.parametrize("changes", [{"JAEGER_URL": "http://ü..de"}, {"NO_PROXY": "http://here:port"}])
def test_an_address_that_cannot_be_read_is_one_line(env: dict[str, str], changes: dict[str, str]) -> None:
    done = run_here(["trace", "sampled"], {**env, **changes})
    assert (done.returncode, done.stderr.count("\n")) == (0, 1)
    assert done.stderr.startswith("Warning: Jaeger could not be asked: a variable is wrong: look at JAEGER_URL, ")


def assert_unchecked(env: dict[str, str], port: int, words: str, *options: str) -> None:
    """The link is marked, with one reason; only if the check was asked for is it a failure."""
    link = f"{TRACE_ID} http://127.0.0.1:{port}/trace/{TRACE_ID} (not checked)"
    code, kind = (1, "Error") if options else (0, "Warning")
    done = run_here(["trace", "sampled", *options], env)
    assert (done.returncode, lines(done), done.stderr.count("\n")) == (code, link, 1)
    assert done.stderr.startswith(f"{kind}: Jaeger could not be asked: 127.0.0.1:{port} {words}")


def test_many_are_asked_for_until_one_fails(env: dict[str, str], jaeger_api: JaegerApi) -> None:
    jaeger_api.reply = trace(SPAN_ID)
    assert run_here(["trace", "many"], env).stdout.count(f"{jaeger_api.url}/trace/") == 30
    assert len(jaeger_api.asked) == 30
    jaeger_api.asked.clear()
    jaeger_api.reply = None
    done = run_here(["trace", "many"], env)
    assert (done.stdout.count("(not checked)"), done.stderr.count("\n")) == (30, 1)
    assert "gives no answer within 2 s" in done.stderr
    assert len(jaeger_api.asked) <= 4


def test_what_was_answered_in_time_counts(
    env: dict[str, str], jaeger_api: JaegerApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of thirty, ten are answered before the time is up."""
    monkeypatch.setattr(jaeger, "WITHIN_FOR_ALL", 1.5)
    jaeger_api.reply, jaeger_api.most = NO_TRACE, 10
    done = run_here(["trace", "many"], env)
    assert (done.stdout.count("no span of it in Jaeger"), done.stdout.count("(not checked)")) == (10, 20)
    assert done.stderr.endswith(f"127.0.0.1:{jaeger_api.port} has not answered for all traces within 2 s\n")
    assert len(jaeger_api.asked) == 14


def test_without_the_check_nothing_is_asked(env: dict[str, str], jaeger_api: JaegerApi) -> None:
    done = run_here(["trace", "sampled", "--no-check"], env)
    assert (done.returncode, lines(done)) == (0, f"{TRACE_ID} {jaeger_api.url}/trace/{TRACE_ID}")
    assert jaeger_api.asked == []


def test_the_check_needs_a_jaeger(env: dict[str, str]) -> None:
    done = run_here(["trace", "sampled", "--check"], {**env, "JAEGER_URL": ""})
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.endswith("\nError: --check asks Jaeger: set JAEGER_URL to the address of its pages\n")


def test_a_path_and_a_password_are_used_and_the_password_is_not_printed(
    env: dict[str, str], jaeger_api: JaegerApi
) -> None:
    url = f"http://me:s%40fe@127.0.0.1:{jaeger_api.port}/jaeger/"
    for reply in (trace(SPAN_ID), (401, JSON, "{}")):
        jaeger_api.reply = reply
        done = run_here(["trace", "sampled"], {**env, "JAEGER_URL": url})
        assert f" http://127.0.0.1:{jaeger_api.port}/jaeger/trace/{TRACE_ID}" in done.stdout
        assert "fe@" not in done.stdout + done.stderr
    assert set(jaeger_api.asked) == {(f"/jaeger/api/traces/{TRACE_ID}", "Basic bWU6c0BmZQ==")}


def test_json_has_the_same_link_or_the_reason(env: dict[str, str], jaeger_api: JaegerApi) -> None:
    link = f"{jaeger_api.url}/trace/{TRACE_ID}"
    for name, options, reply, is_sampled, found, url in [
        ("sampled", ["--no-check"], NO_TRACE, True, None, link),
        ("sampled", [], NO_TRACE, True, "absent", None),
        ("sampled", ["--check"], trace(SPAN_ID), True, "whole", link),
        ("sampled", ["--check"], trace("1111111111111111", correlation_id="sampled"), True, "partial", None),
        ("sampled", ["--check"], trace("1111111111111111"), True, "absent", None),
        ("sampled", ["--check"], NO_TRACE, True, "absent", None),
        ("sampled", ["--check"], (500, JSON, "{}"), True, "unknown", link),
        ("unsampled", ["--check"], NO_TRACE, False, None, None),
    ]:  # fmt: skip
        jaeger_api.reply = reply
        done = run_here(["trace", name, "--json", *options], env)
        [delivery] = json.loads(done.stdout)["deliveries"]
        assert (delivery["is_sampled"], delivery["trace_found"], delivery["trace_url"]) == (is_sampled, found, url)
        assert (delivery["trace_id"], done.returncode) == (TRACE_ID, int(found == "unknown"))
        assert (delivery["trace_reason"] is None) == (url is not None)
    assert len(jaeger_api.asked) == 6
