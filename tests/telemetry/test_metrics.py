"""The metrics of both processes, at /metrics and by OTLP; a scrape reads no table."""

import re
import socket
import uuid
from collections.abc import Callable
from functools import partial

import httpx
import pytest
from opentelemetry.proto.metrics.v1.metrics_pb2 import Metric
from prometheus_client.openmetrics.parser import text_string_to_metric_families as open_metrics

from otel import metrics
from tests.support.eventually import eventually
from tests.support.free_ports import free_port
from tests.support.otlp_receiver import receiving_http
from tests.support.scraped_metrics import Values, values, webhooks
from tests.support.system import Database, Server, Tenant, Worker, run

pytestmark = pytest.mark.one_postgres

StartServer = Callable[..., Server]
StartWorker = Callable[..., Worker]


def scraped(server: Server) -> Values:
    return values(server.client.get("/metrics").text)


def test_webhooks_are_counted_by_outcome_and_verified_ones_by_tenant(
    database: Database, secrets_key: str, start_server: StartServer
) -> None:
    """A tenant id in an unverified webhook becomes no label."""
    tenant = database.add_tenant(secrets_key, "acme")
    server = start_server()
    for _ in range(3):
        server.send(tenant)
    server.send(tenant, priority=7)
    server.send(Tenant("claimed", "secret"))
    server.client.post("/webhook/servicedesk/resolved-ticket", content=b"{}")
    found = scraped(server)
    assert webhooks(found) == {
        ("accepted", "acme"): 3, ("invalid-event", "acme"): 1, ("signature", ""): 1, ("content-type", ""): 1,
    }  # fmt: skip
    labels = (
        ("error_type", ""), ("http_request_method", "POST"), ("http_response_status_code", "202"),
        ("http_route", "/webhook/servicedesk/resolved-ticket"),
    )  # fmt: skip
    assert found["http_server_request_duration_seconds_count", labels] == 3
    assert 0 < found["http_server_request_duration_seconds_sum", labels] < 3
    assert found["ticket_inbox_append_rows_count", ()] == found["ticket_inbox_append_rows_sum", ()] == 4


def test_answers_that_an_alert_counts_begin_at_zero(server: Server) -> None:
    """Prometheus sees no increase in a counter that it first meets at 1."""
    count, found = "http_server_request_duration_seconds_count", scraped(server)
    begun = {
        (dict(labels)["http_response_status_code"], dict(labels)["error_type"])
        for name, labels in found
        if name == count
    }
    assert begun >= {("202", ""), ("500", "unforeseen"), ("503", "unavailable")}


def test_tenants_are_capped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metrics, "_tenants", set())
    named = {metrics._named(f"tenant-{number}") for number in range(metrics.MOST_TENANTS * 3)}  # noqa: SLF001
    assert len(named) <= metrics.MOST_TENANTS + 1
    assert metrics.OTHER in named


def test_no_tenant_has_the_label_of_the_rest_for_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """One named `other` had: its failures were then those of many, and no alert named it."""
    monkeypatch.setattr(metrics, "_tenants", set())
    metrics.signatures_failed({"other": 4, metrics.OTHER: 3}, {"other", metrics.OTHER})
    for number in range(metrics.MOST_TENANTS):
        metrics.webhook_answered("/of-the-rest", 202, None, 0.1, f"of-the-rest-{number}", None)
    found = values(metrics.exposition("")[0].decode())
    assert found["ticket_inbox_signature_failures_total", (("tenant_id", "other"),)] == 4
    assert "other" in metrics._tenants  # noqa: SLF001
    assert metrics.OTHER not in metrics._tenants  # noqa: SLF001


def test_of_a_thousand_tenants_each_has_its_name_in_both_counters_or_in_neither(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Else the alert finds failures of a tenant, and its webhooks that verified under another name."""
    monkeypatch.setattr(metrics, "_tenants", set())
    known = {f"{uuid.uuid4().hex[:4]}-{number:04}" for number in range(1000)}
    senders = sorted(known)[::-1][:500]
    metrics.signatures_failed({}, known)
    for tenant_id in senders:
        metrics.webhook_answered("/of-many", 202, None, 0.1, tenant_id, None)
    metrics.signatures_failed(dict.fromkeys([*senders, None], 3), known)
    found = values(metrics.exposition("")[0].decode())
    verified, failed = (
        {dict(labels)["tenant_id"] for (name, labels), value in found.items() if name == counter and value} & known
        for counter in ("ticket_inbox_webhooks_total", "ticket_inbox_signature_failures_total")
    )
    assert verified == failed
    assert len(failed) == metrics.MOST_TENANTS


def test_exemplars_lead_to_the_trace(database: Database, secrets_key: str, start_server: StartServer) -> None:
    """Only in OpenMetrics, which allows them, and only for sampled webhooks."""
    tenant = database.add_tenant(secrets_key)
    with receiving_http() as receiver:
        server = start_server(**receiver.environment)
        answer = server.send(tenant)
        [span, *_] = receiver.wait_for_spans(2, correlation_id=answer.json()["correlation_id"])
    text = server.client.get("/metrics", headers={"Accept": "application/openmetrics-text; version=1.0.0"}).text
    families = open_metrics(text)  # type: ignore[no-untyped-call]
    exemplars = [sample.exemplar for family in families for sample in family.samples if sample.exemplar]
    assert [one.labels["trace_id"] for one in exemplars] == [span.trace_id]
    assert "trace_id" not in server.client.get("/metrics").text


def test_a_scrape_shows_the_inbox_as_it_was_last_read(
    database: Database, secrets_key: str, start_server: StartServer
) -> None:
    """The server counts rows every five seconds, however many scrapes come, and no further than 100,000."""
    tenant = database.add_tenant(secrets_key)
    database.query(
        "INSERT INTO inbox (tenant_id, correlation_id, payload, signature, status, received_at) "
        "SELECT 'acme', 'c', '', 's', status, now() - interval '90 seconds' FROM (VALUES ('pending', 3), ('failed', 2), "
        "('rejected', 100500), ('promoted', 9)) AS given (status, rows), generate_series(1, rows)"
    )
    database.query(
        "INSERT INTO search_due (tenant_id, tickets, noted_at) VALUES ('acme', '{1}', now() - interval '100 seconds')"
    )
    server = start_server()
    assert server.send(tenant).status_code == 202
    asked = "SELECT coalesce(sum(idx_scan), 0)::int AS n FROM pg_stat_user_indexes WHERE relname = 'inbox'"
    for _ in range(50):
        found = scraped(server)
    rows = [found["ticket_inbox_rows", (("status", status),)] for status in ("pending", "failed", "rejected")]
    assert rows in ([3, 2, 100_000], [4, 2, 100_000])  # it may have been read again since the webhook came
    assert 90 <= found["ticket_inbox_oldest_pending_seconds", ()] < 120
    assert found["ticket_inbox_workers_alive", ()] == 0
    assert 100 <= found["ticket_inbox_search_lag_seconds", ()] < 120
    database.wait_for(f"SELECT n < 50 FROM ({asked}) AS scans", wanted=True, within=5)


def test_a_worker_has_metrics_of_its_own(database: Database, start_worker: StartWorker) -> None:
    port = free_port()
    start_worker(WORKER_METRICS_PORT=str(port)).wait_for_line("worker_started")
    acme = Tenant("acme", "secret")
    good, damaged = database.deliver(acme.payload(ticket_id="1"), acme.payload(ticket_id="2"))
    database.query("UPDATE inbox SET status = 'pending', payload = 'x' WHERE id = %s", damaged)
    database.wait_for("SELECT count(*) FROM inbox WHERE status = 'pending'", 0, within=10)
    found = eventually(partial(_counted, port))  # a worker counts once its commit is done
    assert found["ticket_inbox_promoted_rows_total", (("action", "inserted"),)] >= 1
    assert found["ticket_inbox_promotion_lag_seconds_count", ()] >= 1
    assert good < damaged


def _counted(port: int) -> Values:
    """Return a worker's metrics once they count two rows, else nothing."""
    found = values(httpx.get(f"http://127.0.0.1:{port}/metrics").text)
    ended = [
        value for (name, _), value in found.items() if name.startswith("ticket_inbox_") and name.endswith("rows_total")
    ]
    return found if sum(ended) == 2 else {}


def test_a_workers_port_that_is_taken_is_one_line(environment: dict[str, str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        done = run(["worker"], {**environment, "WORKER_METRICS_PORT": port})
    assert done.returncode == 1
    assert re.fullmatch(rf"Error: cannot listen on 127.0.0.1:{port} .*WORKER_METRICS_PORT\n", done.stderr), done.stderr


def test_metrics_go_out_by_otlp_with_the_same_values(
    database: Database, secrets_key: str, start_server: StartServer, start_worker: StartWorker
) -> None:
    tenant = database.add_tenant(secrets_key)
    with receiving_http() as receiver:
        server = start_server(**receiver.environment)
        start_worker(**receiver.environment)
        assert server.send(tenant).status_code == 202
        wanted = {
            "http.server.request.duration",
            "ticket_inbox.webhooks",
            "ticket_inbox.promotion_lag",
            "ticket_inbox.rows",
        }
        receiver.wait_until(lambda: wanted <= receiver.metric_names())
        receiver.wait_until(lambda: any(point.count == 1 for point in receiver.points("http.server.request.duration")))
    *_, point = (point for point in receiver.points("http.server.request.duration") if point.count)
    assert len(point.bucket_counts) == len(point.explicit_bounds) + 1
    assert sum(point.bucket_counts) == 1


def test_a_family_without_a_value_does_not_go_out_by_otlp(start_server: StartServer) -> None:
    """A Collector would log 36 lines about each, with every push: no webhook has come, so there are several."""
    with receiving_http() as receiver:
        start_server(**receiver.environment)
        receiver.wait_until(lambda: "ticket_inbox.rows" in receiver.metric_names())
    resources = [one for request in receiver.requests for one in getattr(request, "resource_metrics", [])]
    metrics_sent = [metric for one in resources for scope in one.scope_metrics for metric in scope.metrics]
    assert [metric.name for metric in metrics_sent if not points_of(metric)] == []
    assert "ticket_inbox.webhooks" not in receiver.metric_names()


def points_of(metric: Metric) -> list[object]:
    """Return the points of a metric, of whichever kind it is."""
    return [*metric.gauge.data_points, *metric.sum.data_points, *metric.histogram.data_points]


def test_the_content_type_names_its_charset_once(server: Server) -> None:
    """With two of them it is malformed, and Prometheus 3 rejects the scrape."""
    assert server.client.get("/metrics").headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    accept = {"Accept": "application/openmetrics-text; version=1.0.0"}
    assert server.client.get("/metrics", headers=accept).headers["content-type"].count("charset") == 1
