"""An exporter that is away, slow or failing delays nothing; without one, none is loaded; wrong names are one line."""

import json
import re
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from otel import variables
from tests.support.free_ports import free_port
from tests.support.otlp_receiver import attributes, receiving_grpc, receiving_http
from tests.support.system import Database, Server, Worker, run

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


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("OTEL_EXPORTER_OTLP_PROTOCOL", "http/json"),
        ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "carrier pigeon"),
        ("OTEL_TRACES_EXPORTER", "zipkin"),
        ("OTEL_METRICS_EXPORTER", "prometheus"),
        ("OTEL_LOGS_EXPORTER", "console"),
        ("OTEL_TRACES_SAMPLER", "sometimes"),
        ("OTEL_TRACES_SAMPLER_ARG", "a tenth"),
        ("OTEL_TRACES_SAMPLER_ARG", "1.5"),
        ("OTEL_BSP_MAX_QUEUE_SIZE", "many"),
        ("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "16385"),
        ("OTEL_METRIC_EXPORT_INTERVAL", "0"),
    ],
)
@pytest.mark.parametrize("command", ["serve", "worker"])
def test_a_wrong_name_stops_the_start_with_one_line(
    environment: dict[str, str], command: str, name: str, value: str
) -> None:
    done = run([command], {**environment, "OTEL_EXPORTER_OTLP_ENDPOINT": refusing(), name: value})
    assert done.returncode == 1
    assert done.stderr.startswith(f"Error: {name} is wrong: it must be "), done.stderr
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("OTEL_EXPORTER_OTLP_HEADERS", "authorization Bearer hunter2"),
        ("OTEL_EXPORTER_OTLP_HEADERS", "a=b,hunter2"),
        ("OTEL_EXPORTER_OTLP_TRACES_HEADERS", "authorization=Bearer hunter2%0A"),
        ("OTEL_EXPORTER_OTLP_METRICS_HEADERS", 'authorization="hunter2"'),
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "me:hunter2@collector:4318"),
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://me:hunter2/x@collector:4318"),
        ("OTEL_EXPORTER_OTLP_LOGS_ENDPOINT", "http://me:x@hunter2@collector:4318"),
    ],
)
def test_a_token_that_cannot_be_read_is_not_shown(name: str, value: str) -> None:
    """The exporters would log the whole value."""
    with pytest.raises(variables.WrongTelemetryError) as wrong:
        variables.check({name: value})
    assert re.fullmatch(rf"{name} is wrong: it must be .+", str(wrong.value))
    assert "hunter2" not in str(wrong.value)


@pytest.mark.parametrize(
    "environ",
    [
        {"OTEL_EXPORTER_OTLP_HEADERS": "authorization=Bearer a%20token=,x-tenant = 7 ,"},
        {"OTEL_EXPORTER_OTLP_HEADERS": "Authorization=Basic dXNlcjpwYXNz, api-key=a/b+c"},
        {"OTEL_EXPORTER_OTLP_ENDPOINT": "https://me:pass%40word@collector/otlp"},
        {"OTEL_EXPORTER_OTLP_ENDPOINT": "collector:4317", "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"},
        {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://[::1]:4318"},
        {"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://collector:4318/v1/traces"},
    ],
)
def test_addresses_that_the_exporters_accept_are_accepted(environ: dict[str, str]) -> None:
    assert variables.check({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://localhost:4318", **environ})
