"""A collector of prometheus_client's may raise whatever it likes: the pushes of metrics go on."""

import threading
from collections.abc import Iterator

import pytest
from prometheus_client import REGISTRY
from prometheus_client.core import Metric
from prometheus_client.registry import Collector

from tests.support.exporting import exporting
from tests.support.otlp_receiver import receiving_http

pytestmark = pytest.mark.one_postgres


class Broken(Collector):
    """Fails until it is mended, but only where metrics are pushed: the test reads its counters meanwhile."""

    is_broken = True

    def collect(self) -> Iterator[Metric]:
        if self.is_broken and threading.current_thread().name == "metrics by OTLP":
            raise ZeroDivisionError
        yield from ()


@pytest.fixture
def broken() -> Iterator[Broken]:
    collector = Broken()
    REGISTRY.register(collector)
    yield collector
    REGISTRY.unregister(collector)


def test_values_that_cannot_be_read_end_no_later_push(broken: Broken) -> None:
    soon = {"OTEL_METRICS_EXPORTER": "otlp", "OTEL_METRIC_EXPORT_INTERVAL": "50"}
    with receiving_http() as receiver, exporting(receiver, **soon) as process:
        receiver.wait_until(lambda: process.count("failure", "metrics") > 1)
        assert not receiver.metric_names()
        broken.is_broken = False
        receiver.wait_until(receiver.metric_names)
    assert process.lines[0]["error"] == "the values cannot be read: ZeroDivisionError"
