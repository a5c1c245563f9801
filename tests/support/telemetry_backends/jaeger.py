"""A real Jaeger with its traces in memory, and what its JSON API answers: the one that its pages use."""

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx

from tests.support.free_ports import free_port
from tests.support.telemetry_backends import program
from tests.support.telemetry_backends.running import running

CONFIGURATION = """\
service:
  extensions: [jaeger_storage, jaeger_query]
  pipelines:
    traces: {{receivers: [otlp], exporters: [jaeger_storage_exporter]}}
  telemetry:
    metrics: {{level: none}}
extensions:
  jaeger_storage:
    backends:
      kept: {{memory: {{max_traces: 100000}}}}
  jaeger_query:
    storage: {{traces: kept}}
    enable_tracing: false
    http: {{endpoint: "127.0.0.1:{pages}"}}
    grpc: {{endpoint: "127.0.0.1:{query}"}}
receivers:
  otlp:
    protocols:
      grpc: {{endpoint: "127.0.0.1:{grpc}"}}
      http: {{endpoint: "127.0.0.1:{http}"}}
exporters:
  jaeger_storage_exporter: {{trace_storage: kept}}
"""


def free_ports() -> dict[str, int]:
    """Return a port for each of what a Jaeger listens for."""
    return {name: free_port() for name in ("pages", "query", "grpc", "http")}


class Jaeger:
    """Where a Jaeger listens, and what it has."""

    def __init__(self, ports: dict[str, int] | None = None) -> None:
        self.ports = ports or free_ports()
        self.url = f"http://127.0.0.1:{self.ports['pages']}"

    def environment(self, protocol: str = "http/protobuf") -> dict[str, str]:
        """Return the settings that make a process export to this Jaeger, and soon."""
        return exporting_to(self.ports["grpc" if protocol == "grpc" else "http"], protocol)

    def status(self, trace_id: str) -> int:
        """Return the status with which Jaeger answers for a trace: 200, or 404."""
        return httpx.get(f"{self.url}/api/traces/{trace_id}", timeout=10).status_code

    def trace(self, trace_id: str) -> dict[str, Any]:
        """Return a trace: `spans`, `processes`, `warnings`. Fails if there is none."""
        answer = httpx.get(f"{self.url}/api/traces/{trace_id}", timeout=10)
        assert answer.status_code == 200, answer.text
        [found] = answer.json()["data"]
        return dict(found)

    def search(
        self, service: str = "ticket-inbox-server", operation: str = "", min_duration: str = "", **tags: str
    ) -> list[dict[str, Any]]:
        """Return the traces that Jaeger's search finds, as with `name=value` typed into its field of tags."""
        asked = {"service": service, "operation": operation, "limit": "1500", "tags": json.dumps(tags)}
        asked["minDuration"] = min_duration
        answer = httpx.get(f"{self.url}/api/traces", params=asked, timeout=20)
        assert answer.status_code == 200, answer.text
        return list(answer.json()["data"])


def tags(span: dict[str, Any]) -> dict[str, Any]:
    """Return a span's tags by name."""
    return {tag["key"]: tag["value"] for tag in span["tags"]}


def exporting_to(port: int, protocol: str) -> dict[str, str]:
    """Return the settings that make a process export to a local port, and soon."""
    return {
        "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{port}",
        "OTEL_EXPORTER_OTLP_PROTOCOL": protocol,
        "OTEL_METRICS_EXPORTER": "none",  # Jaeger takes none
        "OTEL_BSP_SCHEDULE_DELAY": "100",
    }


@contextlib.contextmanager
def running_jaeger(directory: Path, ports: dict[str, int] | None = None) -> Iterator[Jaeger]:
    """Run a Jaeger whose files are in `directory`, on these ports or on free ones.

    Skip the test if there is none on this machine.
    """
    binary, jaeger = program("JAEGER_BIN", "jaeger"), Jaeger(ports)
    configuration = directory / "jaeger.yaml"
    configuration.write_text(CONFIGURATION.format_map(jaeger.ports))
    with running([binary, "--config", configuration], directory / "jaeger.log", f"{jaeger.url}/api/services"):
        yield jaeger
