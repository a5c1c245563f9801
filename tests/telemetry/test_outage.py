"""A real Jaeger that starts after us, and a real Collector that is killed and started again, miss no span."""

from pathlib import Path

import pytest

from otel import export_queue
from otel.tracing import Failure
from tests.support.eventually import eventually
from tests.support.exporting import exporting
from tests.support.otlp_received import Receiver
from tests.support.otlp_receiver import receiving_grpc
from tests.support.telemetry_backends.collector import running_collector
from tests.support.telemetry_backends.jaeger import Jaeger, free_ports, running_jaeger, tags

pytestmark = pytest.mark.one_postgres


def to(port: int, protocol: str) -> Receiver:
    """Return where to export to."""
    away = Receiver()
    away.endpoint, away.protocol = f"http://127.0.0.1:{port}", protocol
    return away


BRIEF = {"OTEL_EXPORTER_OTLP_TIMEOUT": "1"}  # a try is over long before the outage is
FAILED = Failure("test", "it failed")


@pytest.fixture(autouse=True)
def _within_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(export_queue, "LONGEST_WAIT", 1.0)


def test_a_jaeger_that_starts_after_us_gets_everything(tmp_path: Path) -> None:
    ports = free_ports()
    with exporting(to(ports["http"], "http/protobuf"), **BRIEF) as process:
        process.record(*range(1300))
        with exporting(to(ports["grpc"], "grpc"), **BRIEF) as second:
            second.record(*range(1300, 1400))
            eventually(lambda: process.count("retried") > 3 * 512)
            with running_jaeger(tmp_path, ports) as jaeger:
                eventually(lambda: process.count("success") == 1400)
                eventually(lambda: len(jaeger.search()) == 1400)
                arrived = {tags(span)["ticket_id"] for trace in jaeger.search() for span in trace["spans"]}
    assert arrived == TICKETS
    assert process.counts() == {"success": 1400}


def test_the_pages_of_a_jaeger_are_no_receiver(jaeger: Jaeger) -> None:
    """They answer 200."""
    with exporting(to(jaeger.ports["pages"], "http/protobuf")) as process:
        process.record(1)
        eventually(lambda: process.count("failure"))
    assert "answered with a web page" in process.lines[0]["error"]


def test_a_collector_that_is_killed_and_started_again_gets_everything(tmp_path: Path) -> None:
    """The spans are of failures, which it keeps whatever it samples; it decides after a quarter of a minute."""
    with receiving_grpc() as sink:
        port = int(sink.endpoint.rpartition(":")[2])
        with (
            running_collector(tmp_path, port) as collector,
            exporting(to(collector.ports["4318"], "http/protobuf"), **BRIEF) as one,
        ):
            one.record(0)
            eventually(lambda: one.count("success"))
            collector.kill()
            one.record(*range(700), error=FAILED)
            with exporting(to(collector.ports["4317"], "grpc"), **BRIEF) as other:
                other.record(*range(700, 1400), error=FAILED)
                eventually(lambda: one.count("retried") > 3 * 512)
                with running_collector(tmp_path, port, collector.ports):
                    eventually(lambda: one.count("success") == 1401)
                    sink.wait_for_spans(1400, within=40)
    assert {span.attributes["ticket_id"] for span in sink.spans()} == TICKETS
    assert len(sink.spans()) == 1400
    assert one.counts() == {"success": 1401}


TICKETS = {str(number) for number in range(1400)}
