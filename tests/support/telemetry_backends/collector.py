"""A real Collector with otel/collector.yaml, unchanged but for its addresses."""

import contextlib
import re
from collections.abc import Callable, Iterator
from pathlib import Path

from tests import ROOT
from tests.support.free_ports import free_port
from tests.support.telemetry_backends import program
from tests.support.telemetry_backends.jaeger import exporting_to
from tests.support.telemetry_backends.running import running

CONFIGURATION = ROOT / "otel/collector.yaml"
PORTS = ("4317", "4318", "8888", "8889", "13133")  # that the configuration listens on


class Collector:
    """Where a Collector listens, by the ports of its configuration, and what it logs."""

    def __init__(self, directory: Path, ports: dict[str, int] | None = None) -> None:
        self.ports = ports or {port: free_port() for port in PORTS}
        self.log = directory / "collector.log"
        self.kill: Callable[[], None] = lambda: None

    def environment(self, protocol: str = "http/protobuf") -> dict[str, str]:
        """Return the settings that make a process export to this Collector, and soon."""
        return exporting_to(self.ports["4317" if protocol == "grpc" else "4318"], protocol)


@contextlib.contextmanager
def running_collector(
    directory: Path, jaeger_port: int, ports: dict[str, int] | None = None, expires: str = "3m"
) -> Iterator[Collector]:
    """Run a Collector, on these ports or on free ones, that sends traces to the OTLP gRPC port of a Jaeger.

    `expires` is how long it shows the last metrics of a process, after which a test need not wait for three minutes.
    Skip the test if there is none here.
    """
    binary, collector = program("OTELCOL_BIN", "otelcol"), Collector(directory, ports)
    configuration, text = directory / "collector.yaml", CONFIGURATION.read_text()
    assert text.count("metric_expiration: 3m") == 1
    text = text.replace("metric_expiration: 3m", f"metric_expiration: {expires}")
    configuration.write_text(_addressed(text, collector, jaeger_port))
    health = f"http://127.0.0.1:{collector.ports['13133']}/"
    with running([binary, f"--config={configuration}"], collector.log, health) as process:
        collector.kill = process.kill
        yield collector


def _addressed(text: str, collector: Collector, jaeger_port: int) -> str:
    """Return the configuration with this machine's addresses, and nothing else changed."""
    for port, free in collector.ports.items():
        text, count = re.subn(rf"(0\.0\.0\.0:|port: ){port}\b", rf"\g<1>{free}", text)
        assert count == 1, port
    assert text.count("jaeger:4317") == 1
    return text.replace("jaeger:4317", f"127.0.0.1:{jaeger_port}").replace("0.0.0.0", "127.0.0.1")  # noqa: S104  (the other way round)
