"""Real processes with OTEL_* values: which start, what arrives, and through which proxy."""

import contextlib
import json
import re
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from functools import partial

import pytest

from tests.conftest import clean_environment
from tests.support.eventually import eventually
from tests.support.otlp_receiver import Receiver, receiving_grpc, receiving_http
from tests.support.system import Database, Server, run
from tests.support.telemetry_backends.jaeger import Jaeger

pytestmark = pytest.mark.one_postgres

StartServer = Callable[..., Server]
# Exports one span as our processes do, and ends.
EXPORT_ONE = """
import time
from opentelemetry.trace import SpanKind
from otel import export, logs, tracing
logs.configure("info", "json")
stop = export.configure("x")
tracing.record(tracing.position_in_new_trace(), "one", SpanKind.INTERNAL, time.time_ns(), {"correlation_id": "a"})
stop()
"""
# What a .env file or a chart with empty values leaves, and what the SDK trips over without any effect of its own.
LEFT_OVER = {
    **dict.fromkeys(
        [f"OTEL_EXPORTER_OTLP_{of}{option}" for of in ("", "TRACES_", "METRICS_", "LOGS_")
         for option in ("COMPRESSION", "TIMEOUT", "INSECURE", "CERTIFICATE", "HEADERS")], ""),
    "OTEL_EXPORTER_OTLP_COMPRESSION": "none", "OTEL_TRACES_SAMPLER": "", "OTEL_TRACES_SAMPLER_ARG": " ",
    "OTEL_RESOURCE_ATTRIBUTES": "deployment.environment.name=test,", "OTEL_SERVICE_NAME": "",
    "OTEL_BLRP_SCHEDULE_DELAY": "", "OTEL_SPAN_EVENT_COUNT_LIMIT": "few", "OTEL_LOGRECORD_ATTRIBUTE_COUNT_LIMIT": "",
    "OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE": "sideways", "OTEL_PYTHON_METER_PROVIDER": "absent",
    "OTEL_PYTHON_EXPORTER_OTLP_GRPC_CREDENTIAL_PROVIDER": "absent", "OTEL_PROPAGATORS": "absent",
    "OTEL_PYTHON_EXPORTER_OTLP_GRPC_RETRYABLE_ERROR_CODES": "absent", "OTEL_PYTHON_CONTEXT": "absent",
}  # fmt: skip


def export_one(**variables: str) -> list[dict[str, str]]:
    """Export one span in a process with these variables, and return its log lines."""
    without_proxy = {name: value for name, value in clean_environment().items() if not name.lower().endswith("_proxy")}
    done = subprocess.run(
        [sys.executable, "-c", EXPORT_ONE],
        env={**without_proxy, "OTEL_METRICS_EXPORTER": "none", **variables},
        capture_output=True, text=True, timeout=60, check=True,
    )  # fmt: skip
    return [json.loads(line) for line in done.stderr.splitlines()]


@pytest.mark.parametrize("command", ["serve", "worker", "dev"])
def test_a_wrong_value_stops_each_process_with_one_line(environment: dict[str, str], command: str) -> None:
    wrong = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://localhost:4318", "OTEL_EXPORTER_OTLP_COMPRESSION": "zstd"}
    done = run([command], {**environment, **wrong})
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith(
        "Error: OTEL_EXPORTER_OTLP_COMPRESSION is wrong: it must be one of none, gzip, deflate"
    )
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("arguments", "status"), [(["status"], 0), (["trace", "155000"], 1), (["tenant", "list"], 0), (["--help"], 0)]
)
def test_other_commands_do_not_look_at_them(environment: dict[str, str], arguments: list[str], status: int) -> None:
    wrong = {
        "OTEL_EXPORTER_OTLP_ENDPOINT": "grpc://",
        "OTEL_TRACES_SAMPLER": "sometimes",
        "OTEL_PYTHON_CONTEXT": "absent",
    }
    done = run(arguments, {**environment, **wrong})
    assert done.returncode == status, done.stderr
    assert not re.search("(?i)otel|opentelemetry|Traceback", done.stderr)


@pytest.mark.parametrize("receiving", [receiving_http, receiving_grpc], ids=["http", "grpc"])
def test_empty_values_and_those_without_effect_change_nothing(
    database: Database, secrets_key: str, start_server: StartServer, receiving: Callable[..., Receiver]
) -> None:
    """Traces, metrics and log lines are exported, and the log has no line about them."""
    tenant = database.add_tenant(secrets_key)
    with receiving() as receiver:  # type: ignore[attr-defined]
        server = start_server(**{**LEFT_OVER, **receiver.environment, "OTEL_LOGS_EXPORTER": "otlp"})
        correlation_id = server.send(tenant).json()["correlation_id"]
        receiver.wait_for_spans(2, correlation_id=correlation_id)
        receiver.wait_until(receiver.log_records)
        receiver.wait_until(receiver.metric_names)
        assert server.stop() == 0
    assert not [line for line in server.lines() if line["event"].startswith("telemetry_")], server.text()


@pytest.mark.parametrize(
    ("receiving", "compression"),
    [(receiving_http, "gzip"), (receiving_http, "deflate"), (receiving_http, "none"), (receiving_grpc, "gzip"), (receiving_grpc, "none")],
    ids=["http-gzip", "http-deflate", "http-none", "grpc-gzip", "grpc-none"],
)  # fmt: skip
def test_each_compression_really_exports(receiving: Callable[..., Receiver], compression: str) -> None:
    with receiving() as receiver:  # type: ignore[attr-defined]
        others = {
            "OTEL_EXPORTER_OTLP_COMPRESSION": "gzip",
            "OTEL_EXPORTER_OTLP_INSECURE": "false",
            "OTEL_RESOURCE_ATTRIBUTES": "team=a%2Cb, ,",
        }
        said = export_one(**receiver.environment, **others, OTEL_EXPORTER_OTLP_TRACES_COMPRESSION=compression)
        assert [span.name for span in receiver.spans()] == ["one"]
    assert said == []
    assert b"team\x12\x05\n\x03a,b" in receiver.raw()
    if receiver.protocol != "grpc":  # gRPC shows its receiver no encoding
        assert receiver.headers[0].get("content-encoding", "none") == compression


@contextlib.contextmanager
def recording_proxy() -> Iterator[tuple[str, list[str]]]:
    """Yield a proxy's URL, and the first words of each connection, which it then closes."""
    heard: list[str] = []
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def listen() -> None:
            with contextlib.suppress(OSError):  # closed
                while True:
                    connection, _ = listening.accept()
                    with connection:
                        heard.append(" ".join(connection.recv(100).decode().split()[:2]))

        threading.Thread(target=listen, daemon=True).start()
        yield f"http://127.0.0.1:{listening.getsockname()[1]}", heard
        listening.shutdown(socket.SHUT_RDWR)


@pytest.mark.parametrize(
    ("protocol", "variable", "passed_over", "words"),
    [
        ("http/protobuf", "HTTP_PROXY", "NO_PROXY", "POST http://127.0.0.1:4318/v1/traces"),
        ("grpc", "http_proxy", "no_proxy", "CONNECT 127.0.0.1:4318"),
    ],
)
def test_exports_go_through_a_proxy(protocol: str, variable: str, passed_over: str, words: str) -> None:
    """Also those to this machine, unless NO_PROXY names it; what fails is one line and no traceback."""
    telemetry = {
        "OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:4318", "OTEL_EXPORTER_OTLP_PROTOCOL": protocol,
        "OTEL_EXPORTER_OTLP_TIMEOUT": "0.5",
    }  # fmt: skip
    with recording_proxy() as (url, heard):
        said = export_one(**telemetry, **{variable: url})
        assert heard[0] == words
        assert said[0]["event"] == "telemetry_not_exported"
        assert not [line for line in said if "traceback" in line]
        heard.clear()
        export_one(**telemetry, **{variable: url, passed_over: "127.0.0.1"})
        assert heard == []


@pytest.mark.parametrize("url", ["http://", "http://me:hunter2@127.0.0.1:99999"])
def test_a_wrong_proxy_is_a_failed_export(url: str) -> None:
    """Nor is its password in the line."""
    [said] = export_one(OTEL_EXPORTER_OTLP_ENDPOINT="http://collector:4318", HTTP_PROXY=url)
    assert said["event"] == "telemetry_not_exported"
    assert "traceback" not in said
    assert "hunter2" not in str(said)


def test_a_real_jaeger_takes_host_and_port_by_compressed_grpc(
    jaeger: Jaeger, database: Database, secrets_key: str, start_server: StartServer
) -> None:
    tenant = database.add_tenant(secrets_key)
    address = {
        "OTEL_EXPORTER_OTLP_ENDPOINT": f"127.0.0.1:{jaeger.ports['grpc']}",
        "OTEL_EXPORTER_OTLP_INSECURE": "true",
    }
    server = start_server(**{**jaeger.environment("grpc"), **address, "OTEL_EXPORTER_OTLP_COMPRESSION": "gzip"})
    correlation_id = server.send(tenant).json()["correlation_id"]
    assert eventually(partial(jaeger.search, correlation_id=correlation_id))
    assert not server.lines("telemetry_not_exported")
