"""An exporter that is away, slow or failing delays nothing; without one, none is loaded."""

import json
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.support.free_ports import free_port
from tests.support.otlp_receiver import attributes, receiving_grpc, receiving_http
from tests.support.system import Database, Server, Worker

pytestmark = pytest.mark.one_postgres

StartServer = Callable[..., Server]
StartWorker = Callable[..., Worker]


@pytest.fixture
def silent() -> Iterator[str]:
    """An address of a server that accepts connections and never answers."""
    with socket.create_server(("127.0.0.1", 0), backlog=64) as listening:
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"


DROPPED = 'ticket_inbox_telemetry_dropped_total{signal="traces"}'


def refusing() -> str:
    """Return an address where no process listens."""
    return f"http://127.0.0.1:{free_port()}"


@pytest.mark.parametrize("protocol", ["http/protobuf", "grpc"])
@pytest.mark.parametrize("fault", ["refusing", "silent", "500"])
def test_a_faulty_exporter_delays_no_webhook_and_no_end(  # noqa: PLR0913, PLR0917
    database: Database, secrets_key: str, start_server: StartServer, start_worker: StartWorker, silent: str,
    fault: str, protocol: str,
) -> None:  # fmt: skip
    """Each process logs it once, in one line, and ends on SIGTERM."""
    with receiving_http(answer=500) as lying:
        endpoint = {"refusing": refusing(), "silent": silent, "500": lying.endpoint}[fault]
        telemetry = {
            "OTEL_EXPORTER_OTLP_ENDPOINT": endpoint, "OTEL_EXPORTER_OTLP_PROTOCOL": protocol,
            "OTEL_BSP_SCHEDULE_DELAY": "50", "OTEL_METRIC_EXPORT_INTERVAL": "100", "OTEL_LOGS_EXPORTER": "otlp",
            "OTEL_EXPORTER_OTLP_TIMEOUT": "1",
        }  # fmt: skip
        tenant = database.add_tenant(secrets_key)
        worker, server = start_worker(**telemetry), start_server(**telemetry)
        worker.wait_for_line("worker_started")
        for _ in range(20):
            assert server.send(tenant).status_code == 202
        database.wait_for("SELECT count(*) FROM ticket_history", 20, within=5)
        time.sleep(2)
        assert server.send(tenant).status_code == 202
        began = time.monotonic()
        assert (server.stop(), worker.stop()) == (0, 0)
        assert time.monotonic() - began < 12
    for process in (server, worker):
        said = process.lines("telemetry_not_exported")
        assert len(said) == 1, process.text()
        assert said[0]["error"]
        assert "Traceback" not in process.text()


def test_a_full_queue_drops_and_counts_and_holds_its_length(
    database: Database, secrets_key: str, start_server: StartServer, silent: str
) -> None:
    tenant = database.add_tenant(secrets_key)
    limits = {"OTEL_BSP_MAX_QUEUE_SIZE": "16", "OTEL_BSP_MAX_EXPORT_BATCH_SIZE": "8"}
    server = start_server(OTEL_EXPORTER_OTLP_ENDPOINT=silent, **limits)
    for _ in range(40):
        assert server.send(tenant).status_code == 202
    metrics = server.client.get("/metrics").text
    [dropped] = [line for line in metrics.splitlines() if line.startswith(DROPPED)]
    # Each webhook has three spans here; eight are being exported, sixteen wait.
    assert float(dropped.split()[1]) >= 40 * 3 - 8 - 16 - 8


@pytest.mark.parametrize("receiving", [receiving_http, receiving_grpc], ids=["http", "grpc"])
def test_log_lines_are_exported_if_a_setting_asks_for_it(
    database: Database, secrets_key: str, start_server: StartServer, receiving: Callable[..., Any]
) -> None:
    """They carry the trace's ids in OpenTelemetry's fields, and everything else as attributes."""
    tenant = database.add_tenant(secrets_key)
    with receiving() as receiver:
        server = start_server(**receiver.environment, OTEL_LOGS_EXPORTER="otlp", OTEL_BLRP_SCHEDULE_DELAY="100")
        correlation_id = server.send(tenant).json()["correlation_id"]
        receiver.wait_until(lambda: any(one.body.string_value == "webhook_answered" for one in receiver.log_records()))
        [record] = [one for one in receiver.log_records() if one.body.string_value == "webhook_answered"]
    [line] = server.wait_for_line("webhook_answered")
    assert (record.trace_id.hex(), record.span_id.hex()) == (line["trace_id"], line["span_id"])
    logged = attributes(record.attributes)
    assert (logged["correlation_id"], logged["tenant_id"], logged["status"]) == (correlation_id, tenant.id, 202)
    assert record.severity_text == "INFO"


def test_nothing_configured_loads_no_exporter(environment: dict[str, str]) -> None:
    """It starts no thread of one either."""
    program = """
import json, sys, threading
from otel import export
stop = export.configure("x")
heavy = [name for name in ("grpc", "requests", "opentelemetry.sdk._logs", "opentelemetry.exporter") if name in sys.modules]
print(json.dumps([heavy, threading.active_count()]))
stop()
"""
    done = subprocess.run(
        [sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True, timeout=60
    )
    assert json.loads(done.stdout) == [[], 1]
