"""A process that stops sends what it can, and counts and logs the rest; that count still goes out by OTLP."""

import threading
import time
from collections.abc import Iterator

import pytest

from otel import export_queue, metrics
from tests.support.exporting import exporting
from tests.support.free_ports import free_port
from tests.support.otlp_answer import Answer
from tests.support.otlp_receiver import Receiver, receiving_http

pytestmark = pytest.mark.one_postgres


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with receiving_http() as running:
        yield running


def test_a_stop_sends_all_that_waits(receiver: Receiver) -> None:
    """Also what the receiver could not take at first."""
    receiver.answer = Answer(status=503)
    with exporting(receiver, OTEL_BSP_SCHEDULE_DELAY="60000") as process:
        process.record(*range(1200))
        receiver.wait_until(lambda: process.count("retried"))
        receiver.answer = Answer()
    assert len(receiver.spans()) == 1200
    assert process.counts() == {"success": 1200}
    assert "telemetry_dropped" not in {line["event"] for line in process.lines}


def test_a_stop_tries_again_until_its_time_is_over(monkeypatch: pytest.MonkeyPatch) -> None:
    """However long the wait had become: the receiver may be starting anew beside us."""
    monkeypatch.setattr(export_queue, "LONGEST_WAIT", 30.0)
    monkeypatch.setattr(export_queue, "FIRST_WAIT", 30.0)
    with receiving_http(503) as receiver, exporting(receiver) as process:
        process.record(1, 2, 3)
        receiver.wait_until(lambda: receiver.tries == 1)
        monkeypatch.setattr(export_queue, "FIRST_WAIT", 0.2)
        stopping = threading.Thread(target=process.stop)
        stopping.start()
        receiver.wait_until(lambda: receiver.tries > 2)
        receiver.answer = Answer()
        stopping.join()
        assert len(receiver.spans()) == 3
    assert process.counts() == {"success": 3}


@pytest.mark.parametrize("fault", ["away", "503", "slow"])
def test_a_stop_counts_and_logs_what_it_cannot_send(receiver: Receiver, fault: str) -> None:
    """The last push of the metrics comes after that, and has the count."""
    with receiving_http(503 if fault == "503" else 200, delay=5.0 if fault == "slow" else 0.0) as faulty:
        traces = f"http://127.0.0.1:{free_port()}" if fault == "away" else faulty.endpoint
        wanted = {"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": f"{traces}/v1/traces", "OTEL_METRICS_EXPORTER": "otlp"}
        with exporting(receiver, **wanted) as process:
            process.record(*range(1000))
            time.sleep(0.2)
            began = time.monotonic()
            process.stop()
            assert time.monotonic() - began < 10  # it is 3 s: this only ends a test that hangs
            process.record(1000)
        [line] = [line for line in process.lines if line["event"] == "telemetry_dropped"]
    assert line["traces"] == 1000
    assert process.counts() == {"dropped": 1001}
    pushed = [point for metric in receiver.metrics() if metric.name == DROPPED for point in metric.sum.data_points]
    last = [point for point in pushed if point.attributes[0].value.string_value == "traces"][-1]
    assert last.as_double == metrics.DROPPED.labels("traces")._value.get() - 1  # noqa: SLF001  (there is no other way)


DROPPED = "ticket_inbox.telemetry_dropped"
