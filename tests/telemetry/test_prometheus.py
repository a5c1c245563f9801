"""Alerts and dashboard work in a real Prometheus beside a real server and worker: by scrape, and by OTLP alone."""

import contextlib
import json
import uuid
from collections.abc import Callable
from pathlib import Path

import pytest

from tests import ROOT
from tests.support.free_ports import free_port
from tests.support.system import Database, Server, Tenant, Worker
from tests.support.telemetry_backends.collector import running_collector
from tests.support.telemetry_backends.prometheus import Prometheus, running_prometheus

pytestmark = [pytest.mark.one_postgres, pytest.mark.begins_early]

StartServer = Callable[..., Server]
StartWorker = Callable[..., Worker]
PANELS = json.loads((ROOT / "otel/grafana/dashboard.json").read_text())["panels"]
QUERIES = [target["expr"] for panel in PANELS for target in panel["targets"]]
# A series of these begins with the trouble that it counts.
OF_TROUBLE = {"ticket_inbox_job_retries_total"}


def send_some_of_each_kind(server: Server, tenant: Tenant) -> None:
    """Have webhooks accepted, rejected and refused."""
    for _ in range(3):
        assert server.send(tenant).status_code == 202
    assert server.send(tenant, priority=7).status_code == 422
    assert server.send(Tenant(tenant.id, "wrong")).status_code == 401
    assert server.client.post("/webhook/servicedesk/resolved-ticket", content=b"{}").status_code == 415


def let_a_row_fail(database: Database) -> int:
    """Put a row to work that is no JSON, and return its id."""
    inbox_id = database.value(
        "INSERT INTO inbox (tenant_id, ticket_id, correlation_id, payload, signature) "
        "VALUES ('acme', '1', %s, 'x', 's') RETURNING id",
        uuid.uuid4().hex,
    )
    database.defer("promote", inbox_ids=[inbox_id])
    database.wait_for("SELECT count(*) FROM inbox WHERE status = 'failed'", 1, within=15)
    return int(inbox_id)


def assert_each_panel_has_values(prometheus: Prometheus) -> None:
    """Every query of the dashboard returns a number, but those of a trouble that there was not."""
    for query in QUERIES:
        if not any(name in query for name in OF_TROUBLE):
            prometheus.wait_for(f"({query.replace('$__rate_interval', '30s')}) > -Inf")  # NaN is not


def test_by_scrape_each_panel_has_values_and_an_alert_fires_and_resolves(
    database: Database, secrets_key: str, start_server: StartServer, start_worker: StartWorker, tmp_path: Path
) -> None:
    """The alert on failed rows does so with the first one, after a fresh start of everything."""
    nobody = {"OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{free_port()}", "OTEL_BSP_SCHEDULE_DELAY": "100"}
    tenant, port = database.add_tenant(secrets_key, "acme"), free_port()
    server = start_server(**nobody)
    worker = start_worker(WORKER_METRICS_PORT=str(port), **nobody)
    targets = {
        "ticket-inbox-server": [server.url.removeprefix("http://")],
        "ticket-inbox-worker": [f"127.0.0.1:{port}"],
    }
    worker.wait_for_line("worker_started", within=20)
    send_some_of_each_kind(server, tenant)  # a series that is first seen with its first values shows no increase
    with running_prometheus(tmp_path, targets) as prometheus:
        prometheus.wait_for('min_over_time(max(ticket_inbox_rows{status="failed"})[1m:5s]) == 0')
        prometheus.wait_for("ticket_inbox_promotion_lag_seconds_count > 0")
        send_some_of_each_kind(server, tenant)
        failed = let_a_row_fail(database)
        prometheus.wait_for_alert("TicketInboxRowsFailed", fires=True)
        assert prometheus.firing() == {"TicketInboxRowsFailed"}
        assert_each_panel_has_values(prometheus)
        database.query("UPDATE inbox SET payload = %s WHERE id = %s", tenant.body(), failed)
        database.defer("reprocess", inbox_ids=[failed])
        prometheus.wait_for_alert("TicketInboxRowsFailed", fires=False)
        assert prometheus.firing() == set()


def test_by_otlp_alone_a_server_is_seen_until_it_is_gone(
    database: Database, secrets_key: str, start_server: StartServer, start_worker: StartWorker, tmp_path: Path
) -> None:
    """Through a real Collector with our configuration; it forgets a server after 5 s instead of three minutes."""
    (tmp_path / "collector").mkdir()
    with contextlib.ExitStack() as stack:
        collector = stack.enter_context(running_collector(tmp_path / "collector", free_port(), expires="5s"))
        pushed = {"OTEL_METRICS_EXPORTER": "otlp", "OTEL_METRIC_EXPORT_INTERVAL": "1000"}
        environment = {**collector.environment(), **pushed}
        tenant, targets = database.add_tenant(secrets_key), {"otlp": [f"127.0.0.1:{collector.ports['8889']}"]}
        server, worker = start_server(**environment), start_worker(**environment)
        worker.wait_for_line("worker_started", within=20)
        send_some_of_each_kind(server, tenant)
        (tmp_path / "prometheus").mkdir()
        prometheus = stack.enter_context(running_prometheus(tmp_path / "prometheus", targets, hold="3s"))
        prometheus.wait_for('target_info{job="ticket-inbox/ticket-inbox-server"}')
        prometheus.wait_for("max(ticket_inbox_workers_alive) == 1")
        prometheus.wait_for("ticket_inbox_promotion_lag_seconds_count > 0")
        prometheus.wait_for_alert("TicketInboxServersGone", fires=False)
        send_some_of_each_kind(server, tenant)
        let_a_row_fail(database)
        assert_each_panel_has_values(prometheus)
        assert "TicketInboxServersGone" not in prometheus.firing()
        assert "failed to translate metric" not in collector.log.read_text()
        server.stop()
        prometheus.wait_for_alert("TicketInboxServersGone", fires=True)
