"""One webhook is one trace: real servers and workers export to a real receiver, and no span lacks its parent."""

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import psycopg
import pytest
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import ConsoleSpanExporter, SimpleSpanProcessor
from opentelemetry.trace import SpanContext, SpanKind

from otel import otlp, tracing
from otel.tracing import Failure
from tests.support.otlp_receiver import Receiver, Span, receiving_grpc, receiving_http
from tests.support.system import Database, Server, Tenant, Worker, running_server

pytestmark = pytest.mark.one_postgres

StartServer = Callable[..., Server]
StartWorker = Callable[..., Worker]
SENDER = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
REQUEST, APPEND, PROMOTE = "POST /webhook/servicedesk/resolved-ticket", "append inbox", "promote inbox"


@pytest.fixture(params=[receiving_http, receiving_grpc], ids=["http", "grpc"])
def each_receiver(request: pytest.FixtureRequest) -> Iterator[Receiver]:
    with request.param() as receiver:
        yield receiver


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with receiving_http() as receiving:
        yield receiving


@pytest.fixture
def tenant(database: Database, secrets_key: str) -> Tenant:
    return database.add_tenant(secrets_key)


@pytest.fixture(scope="module")
def traced(
    module_environment: dict[str, str],
    tenants: Iterator[Tenant],  # noqa: ARG001  (the tenants exist before the server starts)
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[tuple[Receiver, Server]]:
    """A receiver, and a server that exports to it, for tests that only send."""
    with receiving_http() as receiving:
        env = {**module_environment, **receiving.environment}
        with running_server(env, tmp_path_factory.mktemp("traced") / "log") as running:
            yield receiving, running


def whole(receiver: Receiver, correlation_id: str, spans: int = 3) -> list[Span]:
    """Wait for a webhook's spans, and assert that they are one whole trace."""
    found = receiver.wait_for_spans(spans, correlation_id=correlation_id)
    assert len(found) == spans
    [trace_id] = {span.trace_id for span in found}
    ids = {span.id for span in found}
    [root] = [span for span in found if span.name == REQUEST]
    assert all(span.parent_id in ids for span in found if span is not root)
    assert len({span.attributes["tenant_id"] for span in found}) == 1
    assert len({span.attributes["ticket_id"] for span in found}) == 1
    assert receiver.spans(trace_id=trace_id) == [] or len(receiver.spans(trace_id=trace_id)) == spans
    return found


def test_a_webhook_is_one_trace(
    each_receiver: Receiver, database: Database, tenant: Tenant, start_server: StartServer, start_worker: StartWorker
) -> None:
    """By both protocols, with the names of the semantic conventions wherever they have one."""
    server, worker = start_server(**each_receiver.environment), start_worker(**each_receiver.environment)
    answer = server.send(tenant, ticket_id="155000")
    correlation_id = answer.json()["correlation_id"]
    request, append, promote = whole(each_receiver, correlation_id)
    assert [span.name for span in (request, append, promote)] == [REQUEST, APPEND, PROMOTE]
    assert [span.kind for span in (request, append, promote)] == ["SERVER", "PRODUCER", "CONSUMER"]
    assert (request.service, promote.service) == ("ticket-inbox-server", "ticket-inbox-worker")
    assert request.schema_url == tracing.SCHEMA_URL
    assert request.parent_id == ""
    assert append.parent_id == promote.parent_id == request.id
    mine = {"correlation_id": correlation_id, "tenant_id": tenant.id, "ticket_id": "155000"}
    assert request.attributes == mine | {
        "http.request.method": "POST",
        "http.route": "/webhook/servicedesk/resolved-ticket",
        "url.path": "/webhook/servicedesk/resolved-ticket",
        "url.scheme": "http",
        "http.response.status_code": 202,
    }
    [inbox_id] = [row["id"] for row in database.query("SELECT id FROM inbox")]
    job_id = database.value("SELECT job_id FROM inbox")
    assert (
        promote.attributes.items()
        >= (mine | {"inbox_id": inbox_id, "action": "inserted", "attempt": 1, "job_id": job_id}).items()
    )
    assert promote.attributes["messaging.operation.type"] == "process"
    assert append.attributes["messaging.operation.type"] == "send"
    [statement] = each_receiver.wait_for_spans(1, name="INSERT inbox")
    [job] = each_receiver.wait_for_spans(1, name="process promote")
    assert (append.links, promote.links) == ([statement.id], [job.id])
    assert statement.attributes["db.system.name"] == "postgresql"
    assert job.attributes["messaging.batch.message_count"] == 1
    assert len({request.trace_id, statement.trace_id, job.trace_id}) == 3
    assert request.start <= append.start <= append.end <= request.end
    assert promote.error is request.error is None
    for line in (server.wait_for_line("webhook_answered")[0], worker.wait_for_line("ticket_promoted")[0]):
        assert line["trace_id"] == request.trace_id
    assert server.wait_for_line("webhook_answered")[0]["span_id"] == request.id
    assert worker.lines("ticket_promoted")[0]["span_id"] == promote.id


def test_five_hundred_in_a_burst_are_five_hundred_traces(
    receiver: Receiver, database: Database, tenant: Tenant, start_server: StartServer, start_worker: StartWorker
) -> None:
    """Workers promote in batches, and the exports hold no ticket text, secret or signature."""
    server = start_server(**receiver.environment)
    with ThreadPoolExecutor(32) as pool:
        answers = list(pool.map(lambda _: server.send(tenant, description="hush-hush"), range(500)))
    assert {answer.status_code for answer in answers} == {202}
    # One job for all rows, as if the worker had been away.
    database.query("UPDATE procrastinate_jobs SET status = 'cancelled' WHERE task_name = 'promote'")
    ids = [row["id"] for row in database.query("SELECT id FROM inbox ORDER BY id")]
    database.defer("promote", inbox_ids=ids)
    start_worker(**receiver.environment)
    receiver.wait_for_spans(500, name=PROMOTE, within=30)
    receiver.wait_for_spans(500, name=REQUEST)
    for answer in answers:
        whole(receiver, answer.json()["correlation_id"])
    [job] = receiver.wait_for_spans(1, name="process promote")
    assert job.attributes["messaging.batch.message_count"] == 500
    named = [one.string_value for one in job.attributes["correlation_ids"].values]
    first = database.query("SELECT correlation_id FROM inbox ORDER BY id LIMIT 20")
    assert named == [row["correlation_id"] for row in first]
    assert {link for span in receiver.spans(name=PROMOTE) for link in span.links} == {job.id}
    statements = receiver.spans(name="INSERT inbox")
    assert sum(span.attributes["db.operation.batch.size"] for span in statements) == 500
    assert len(statements) < 500
    sent = receiver.raw()
    for private in ("hush-hush", tenant.secret, "firmware", database.value("SELECT signature FROM inbox LIMIT 1")[7:]):
        assert private.encode() not in sent


@pytest.mark.parametrize(
    ("given", "continues"),
    [
        (SENDER, True),
        (SENDER.replace("00-", "01-", 1), True),
        ("00-00000000000000000000000000000000-00f067aa0ba902b7-01", False),
        ("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7", False),
        ("rubbish", False),
    ],
)
def test_a_valid_traceparent_is_continued_and_a_broken_one_ignored(
    traced: tuple[Receiver, Server],
    tenants: Iterator[Tenant],
    given: str,
    continues: bool,  # noqa: FBT001
) -> None:
    (receiver, server), tenant = traced, next(tenants)
    body = tenant.body()
    answer = server.post(body, tenant.headers(body, traceparent=given))
    assert answer.status_code == 202
    request, *_ = receiver.wait_for_spans(2, correlation_id=answer.json()["correlation_id"])
    assert (request.trace_id == SENDER[3:35]) == continues
    assert request.parent_id == (SENDER[36:52] if continues else "")


@pytest.mark.parametrize(
    ("sampler", "header", "sampled"),
    [
        ({"OTEL_TRACES_SAMPLER": "always_off"}, SENDER, False),
        ({"OTEL_TRACES_SAMPLER": "parentbased_always_off"}, SENDER, True),
        ({"OTEL_TRACES_SAMPLER": "parentbased_traceidratio", "OTEL_TRACES_SAMPLER_ARG": "0"}, None, False),
        ({"OTEL_TRACES_SAMPLER": "parentbased_traceidratio", "OTEL_TRACES_SAMPLER_ARG": "1"}, None, True),
        ({}, SENDER[:-1] + "0", False),
        ({"OTEL_SDK_DISABLED": "true"}, SENDER, False),
        ({"OTEL_TRACES_EXPORTER": "none"}, SENDER, False),
    ],
)
def test_the_sampler_decides_at_the_request_and_the_worker_follows(  # noqa: PLR0913, PLR0917
    receiver: Receiver, database: Database, tenant: Tenant, start_server: StartServer, start_worker: StartWorker,
    sampler: dict[str, str], header: str | None, sampled: bool,  # noqa: FBT001
) -> None:  # fmt: skip
    """A trace is whole or absent; the worker's own sampler does not count."""
    server = start_server(**receiver.environment, **sampler)
    own = {name: value for name, value in sampler.items() if not name.startswith("OTEL_TRACES_SAMPLER")}
    start_worker(**receiver.environment, OTEL_TRACES_SAMPLER="always_on" if not sampled else "always_off", **own)
    body = tenant.body()
    answer = server.post(body, tenant.headers(body, **({"traceparent": header} if header else {})))
    database.wait_for("SELECT count(*) FROM ticket_history", 1, within=10)
    if sampled:
        whole(receiver, answer.json()["correlation_id"])
    else:
        time.sleep(1)
        assert receiver.spans() == []


def test_a_rejected_webhook_is_traced_up_to_its_rejection(
    traced: tuple[Receiver, Server], tenants: Iterator[Tenant]
) -> None:
    receiver, server = traced
    answer = server.send(next(tenants), priority=7)
    assert answer.status_code == 422
    request, append = whole(receiver, answer.json()["correlation_id"], spans=2)
    assert request.attributes["http.response.status_code"] == 422
    assert request.attributes["error.type"] == "invalid-event"
    assert "priority must be a string" in request.attributes["error.message"]
    assert request.error is None, "a sender's fault is no error of the server (semantic conventions)"
    assert append.name == APPEND


def test_refusals_are_traced(receiver: Receiver, database: Database, tenant: Tenant, start_server: StartServer) -> None:
    """For a wrong signature the span has the problem's kind; if Postgres is the cause, the span is an error."""
    server = start_server(**receiver.environment, APPEND_TIMEOUT_SECONDS="0.5")
    body = tenant.body()
    refused = server.post(body, {**tenant.headers(body), "X-ServiceDesk-Signature": "0" * 64})
    [request] = receiver.wait_for_spans(1, correlation_id=refused.json()["correlation_id"])
    assert (request.attributes["error.type"], request.error) == ("signature", None)
    with psycopg.connect(database.url) as holder:
        holder.execute("LOCK inbox IN ACCESS EXCLUSIVE MODE")
        slow = server.send(tenant)
    assert slow.status_code == 503
    correlation_id = slow.json()["correlation_id"]
    [request] = receiver.wait_for_spans(1, correlation_id=correlation_id, name=REQUEST)
    assert request.error
    assert "slow" in request.error
    [append] = receiver.wait_for_spans(1, correlation_id=correlation_id, name=APPEND)
    assert append.parent_id == request.id


def test_each_attempt_after_a_database_fault_is_visible(
    receiver: Receiver, database: Database, tenant: Tenant, start_server: StartServer, start_worker: StartWorker
) -> None:
    """The test kills the worker's session while it waits for a lock; the next attempt stores the row."""
    server = start_server(**receiver.environment)
    with psycopg.connect(database.url) as holder:
        holder.execute("LOCK ticket_history IN ACCESS EXCLUSIVE MODE")
        answer = server.send(tenant)
        start_worker(**receiver.environment)
        blocked = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE '%%INSERT INTO ticket_history%%' AND datname = current_database()"  # fmt: skip
        database.wait_for(blocked, 1, within=10)
        database.query(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
        )
        failed, *_ = receiver.wait_for_spans(1, name=PROMOTE)
    database.wait_for("SELECT count(*) FROM ticket_history", 1, within=30)
    *_, stored = whole(receiver, answer.json()["correlation_id"], spans=4)
    assert failed.error
    assert "action" not in failed.attributes
    assert (failed.attributes["attempt"], stored.attributes["attempt"]) == (1, 2)
    assert (stored.attributes["action"], stored.error) == ("inserted", None)
    assert [job.error is None for job in receiver.wait_for_spans(2, name="process promote")] == [False, True]


def test_a_killed_workers_row_is_in_its_trace_once_it_is_swept(
    receiver: Receiver, database: Database, tenant: Tenant, start_server: StartServer, start_worker: StartWorker
) -> None:
    server, first = start_server(**receiver.environment), start_worker(**receiver.environment)
    with psycopg.connect(database.url) as holder:
        holder.execute("LOCK ticket_history IN ACCESS EXCLUSIVE MODE")
        answer = server.send(tenant)
        database.wait_for(
            "SELECT count(*) FROM procrastinate_jobs WHERE task_name = 'promote' AND status = 'doing'", 1, within=10
        )
        first.process.kill()
        first.process.wait()
    start_worker(**receiver.environment)
    database.wait_for("SELECT count(*) FROM ticket_history", 1, within=60)
    *_, promote = whole(receiver, answer.json()["correlation_id"])
    assert promote.attributes["attempt"] == 2


def test_a_reprocess_adds_to_the_trace_and_links_to_its_job(
    receiver: Receiver, database: Database, tenant: Tenant, start_server: StartServer, start_worker: StartWorker
) -> None:
    """Also for a row that was rejected before."""
    server = start_server(**receiver.environment)
    start_worker(**receiver.environment).wait_for_line("worker_started", within=30)
    accepted, rejected = server.send(tenant), server.send(tenant, priority=7)
    database.wait_for("SELECT count(*) FROM ticket_history", 1, within=10)
    database.query("UPDATE inbox SET payload = %s WHERE status = 'rejected'", tenant.body(ticket_id="mended"))
    job_id = database.defer("reprocess", tenant_id=tenant.id)
    *_, again = whole(receiver, accepted.json()["correlation_id"], spans=4)
    promoted = receiver.wait_for_spans(3, correlation_id=rejected.json()["correlation_id"])[-1]
    [job] = receiver.wait_for_spans(1, name="process reprocess")
    assert job.attributes["job_id"] == job_id
    assert again.links == promoted.links == [job.id]
    assert (again.attributes["action"], again.attributes["attempt"]) == ("updated", 2)
    assert (promoted.attributes["action"], promoted.attributes["ticket_id"]) == ("inserted", "mended")


def test_a_row_that_fails_is_an_error_with_its_reason(
    receiver: Receiver, database: Database, tenant: Tenant, start_server: StartServer, start_worker: StartWorker
) -> None:
    server = start_server(**receiver.environment)
    answer = server.send(tenant)
    database.query("UPDATE inbox SET payload = 'x'")
    start_worker(**receiver.environment)
    *_, promote = whole(receiver, answer.json()["correlation_id"])
    assert promote.error == "the payload is not a JSON object in UTF-8"
    assert promote.attributes["error.type"] == "failed"


def test_spans_are_written_as_the_library_writes_them() -> None:
    """Both write the same bytes, for everything that a span of ours may hold."""
    kept: list[ReadableSpan] = []

    class Keeping(SimpleSpanProcessor):
        def on_end(self, span: ReadableSpan) -> None:
            kept.append(span)

    keeping = Keeping(ConsoleSpanExporter())
    provider = TracerProvider(resource=Resource({"service.name": "x"}), shutdown_on_exit=False)
    recorder = tracing.Recorder(provider, keeping)
    root = tracing.position_in_new_trace()
    remote = SpanContext(root.context.trace_id, 7, is_remote=True, trace_flags=tracing.SAMPLED)
    for place in (root, tracing.position_below(root.context), tracing.position_below(remote)):
        for error in (None, Failure("silent", "weil es so ist — 🖨"), Failure("value", "x", "22P02")):
            for text in ("", "é", "x" * 127, "x" * 128, "y" * 70_000):
                for number in (0, 1, 127, 128, 2**31, 2**62):
                    recorder.record(
                        place, text or "name", SpanKind.CONSUMER, number,
                        {"correlation_id": text, "http.route": text, "inbox_id": number, "attempt": -number,
                         "correlation_ids": [text] * (number % 4), "is_late": number > 1},
                        links=[root.context, remote][: number % 3], error=error,
                    )  # fmt: skip
    assert otlp.encode(kept) == encode_spans(kept)
