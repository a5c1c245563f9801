"""A real Jaeger and a real Collector, each started once for all tests of a process; without the program, a skip."""

from collections.abc import Iterator

import pytest

from tests.support.telemetry_backends.collector import Collector, running_collector
from tests.support.telemetry_backends.jaeger import Jaeger, running_jaeger


@pytest.fixture(scope="session")
def jaeger(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Jaeger]:
    """A Jaeger that keeps every trace of every test: search by correlation id, ticket or tenant."""
    with running_jaeger(tmp_path_factory.mktemp("jaeger")) as running:
        yield running


@pytest.fixture(scope="session")
def collector(jaeger: Jaeger, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Collector]:
    """A Collector with otel/collector.yaml before that Jaeger."""
    with running_collector(tmp_path_factory.mktemp("collector"), jaeger.ports["grpc"]) as running:
        yield running
