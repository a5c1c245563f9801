"""A search has connections of its own, few of them; webhooks never wait for it, and it is refused while they wait."""

from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor

import httpx
import psycopg
import pytest

from app.search import PATH
from app.search.turns import WAITING
from tests.support.commands_in_process import tenant_command
from tests.support.eventually import eventually
from tests.support.otlp_receiver import Receiver, receiving_http
from tests.support.questions import add_ticket, add_token, ask, found
from tests.support.system import Database, Server, Tenant, running_server

pytestmark = pytest.mark.one_postgres

RATE = 2  # a second, and ten times as many at once
AWAY = "ALTER FUNCTION similar_answer RENAME TO similar_answer_away"
BACK = "ALTER FUNCTION similar_answer_away RENAME TO similar_answer"
ARGUMENTS = (
    "for_tenant text, subject text, description text, max_results int, exclude_ticket_id text, "
    "resolved_after timestamptz, priority text[], tags text[], OUT lexemes int, OUT candidates int, OUT tickets json"
)


@pytest.fixture(scope="module")
def receiver() -> Iterator[Receiver]:
    with receiving_http() as one:
        yield one


@pytest.fixture(scope="module")
def small(
    acme: Tenant,  # noqa: ARG001  (the server reads it, and the tokens, when it starts)
    tokens: dict[str, str],  # noqa: ARG001
    module_environment: dict[str, str],
    receiver: Receiver,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Server]:
    """A server whose search has one connection, and each of whose tenants has a limit."""
    changes = {"SEARCH_POOL_SIZE": "1", "TENANT_RATE": str(RATE), **receiver.environment}
    with running_server({**module_environment, **changes}, tmp_path_factory.mktemp("small") / "log") as server:
        yield server


@pytest.fixture(scope="module")
def tokens(module_database: Database, secrets_key: str) -> dict[str, str]:
    """The token of a tenant for each test, with a ticket: none spends another's rate."""
    names = ("patient", "crowd", "sender", "early", "eager", "traced", "leaving")
    for name in names:
        add_ticket(module_database, module_database.add_tenant(secrets_key, name).id, "1")
    return {name: add_token(module_database, name) for name in names}


def refused(answer: httpx.Response) -> str:
    """Return why a question is answered 503."""
    assert (answer.status_code, answer.json()["type"]) == (503, "urn:ticket-inbox:problem:search-unavailable")
    assert int(answer.headers["Retry-After"]) >= 1
    return str(answer.json()["detail"])


def test_webhooks_go_on_while_searches_hang_and_one_too_many_is_refused_at_once(
    small: Server, module_database: Database, acme: Tenant, tokens: dict[str, str]
) -> None:
    """One question asks, four wait, the sixth is refused; each has its end, and none is an empty answer."""
    asking = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'ticket-inbox search' AND datname = current_database()"
    with ThreadPoolExecutor(12) as pool, psycopg.connect(module_database.url) as holding:
        holding.execute("LOCK TABLE ticket_history IN ACCESS EXCLUSIVE MODE")
        first = pool.submit(ask, small, tokens["crowd"])
        module_database.wait_for("SELECT count(*) FROM pg_locks WHERE NOT granted", 1, within=5)
        others = [pool.submit(ask, small, tokens["crowd"]) for _ in range(WAITING + 1)]
        too_many = eventually(lambda: [one.result() for one in others if one.done()])
        assert [refused(one).partition(" (")[0] for one in too_many] == ["Too many questions are waiting for Postgres"]
        assert too_many[0].headers["Retry-After"] == "1"
        assert [small.send(acme).status_code for _ in range(3)] == [202] * 3
        assert module_database.value(asking) == 1
        assert refused(first.result()).startswith("The search took longer than 2 seconds")
        ended = [refused(one.result()) for one in others]
    assert all(word.startswith(("Too many questions", "The search took longer")) for word in ended)
    assert found(ask(small, tokens["patient"])) == ["1"]


def test_it_is_refused_as_soon_as_webhooks_wait_and_answers_again_after_that(
    small: Server, module_database: Database, acme: Tenant, tokens: dict[str, str]
) -> None:
    with ThreadPoolExecutor(4) as pool, psycopg.connect(module_database.url) as holding:
        holding.execute("LOCK TABLE inbox IN EXCLUSIVE MODE")
        webhook: Future[httpx.Response] = pool.submit(small.send, acme)
        [answer] = eventually(lambda: [one for one in [ask(small, tokens["sender"])] if one.status_code != 200])
        holding.rollback()
        assert (refused(answer), webhook.result().status_code) == (
            "Webhooks wait for Postgres, and come first; ask again.",
            202,
        )
    eventually(lambda: ask(small, tokens["sender"]).status_code == 200)


def test_what_is_not_built_or_not_set_up_yet_is_503_and_says_so(
    small: Server, module_database: Database, tokens: dict[str, str]
) -> None:
    module_database.query(AWAY)
    try:
        assert refused(ask(small, tokens["early"])).startswith("The search is not set up yet: `ticket-inbox migrate`")
        module_database.query(
            f"CREATE FUNCTION similar_answer({ARGUMENTS}) LANGUAGE plpgsql AS "
            "$$ BEGIN RAISE object_not_in_prerequisite_state; END $$"
        )
        answer = ask(small, tokens["early"])
        assert refused(answer) == "The tenant's tickets are being indexed for the search; ask again in a minute."
        assert answer.headers["Retry-After"] == "60"
        module_database.query("DROP FUNCTION similar_answer")
    finally:
        module_database.query(BACK)
    assert found(ask(small, tokens["early"])) == ["1"]
    [line, *_] = [line for line in small.lines("question_answered") if line.get("tenant_id") == "early"]
    assert "similar_answer" in line["error"]  # the log has Postgres' own words


def test_429_says_when_to_come_back_and_webhooks_have_a_rate_of_their_own(
    small: Server, acme: Tenant, tokens: dict[str, str]
) -> None:
    assert {ask(small, tokens["eager"]).status_code for _ in range(RATE * 10)} == {200}
    [refused] = eventually(lambda: [one for one in [ask(small, tokens["eager"])] if one.status_code != 200])
    assert refused.status_code == 429
    assert refused.json()["type"] == "urn:ticket-inbox:problem:question-rate"
    assert refused.headers["Retry-After"] == "1"
    assert ask(small, tokens["patient"]).status_code == 200
    assert small.send(acme).status_code == 202


def test_each_change_is_in_force_within_ten_seconds(
    small: Server, module_environment: dict[str, str], tokens: dict[str, str]
) -> None:
    """A token is made, its tenant disabled and enabled again, another token of it revoked, then this one."""
    kept, token = tokens["leaving"], tenant_command(module_environment, "token", "add", "leaving")

    def answers(one: str, status: int) -> None:
        eventually(lambda: ask(small, one, b"").status_code == status, within=10)  # 400 where the token is in force

    answers(token, 400)
    tenant_command(module_environment, "disable", "leaving")
    answers(token, 401)
    assert ask(small, kept).status_code == 401
    tenant_command(module_environment, "enable", "leaving")
    answers(token, 400)
    tenant_command(module_environment, "token", "revoke", "leaving", "token-1")
    answers(token, 401)
    assert ask(small, kept).status_code == 200


def test_a_question_is_a_trace_of_two_spans_without_its_text(
    small: Server, receiver: Receiver, tokens: dict[str, str]
) -> None:
    parent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
    small.client.headers["traceparent"] = parent
    try:
        answer = ask(small, tokens["traced"], subject="Wontbeseen VPN")
    finally:
        del small.client.headers["traceparent"]
    correlation_id = answer.json()["correlation_id"]
    request, query = receiver.wait_for_spans(2, correlation_id=correlation_id)
    assert (request.name, request.kind, request.parent_id) == (f"POST {PATH}", "SERVER", "00f067aa0ba902b7")
    assert (query.name, query.kind, query.parent_id) == ("SELECT similar_answer", "CLIENT", request.id)
    for span in (request, query):
        assert (span.trace_id, span.error) == ("4bf92f3577b34da6a3ce929d0e0e4736", None)
        assert span.attributes["tenant_id"] == "traced"
        assert span.attributes["results"] == 1
        assert span.attributes["candidates"] == 1
        assert span.attributes["lexemes"] >= 1
    assert request.attributes["http.response.status_code"] == 200
    assert query.attributes["db.query.summary"] == "SELECT similar_answer"
    for private in (b"Wontbeseen", tokens["traced"].encode(), b"firmware"):
        assert private not in receiver.raw()
