"""A real Jaeger warns of no clock skew within one machine, and the page says of which warnings it may."""

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest

from tests.support.system import Database, Server, Worker
from tests.support.telemetry_backends.jaeger import Jaeger, eventually

pytestmark = pytest.mark.one_postgres

StartServer = Callable[..., Server]
StartWorker = Callable[..., Worker]
SENDER = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
ELSEWHERE = {"OTEL_RESOURCE_ATTRIBUTES": "host.name=elsewhere,ip=198.51.100.7"}
WEBHOOKS = 30


def test_no_promotion_has_a_warning(
    jaeger: Jaeger, database: Database, secrets_key: str, start_server: StartServer, start_worker: StartWorker
) -> None:
    """Each lasts less than its request, since a lock held that up; on another machine each has a warning."""
    tenant = database.add_tenant(secrets_key)
    server = start_server(**jaeger.environment())
    ids = [_slow(server, database, tenant) for _ in range(3)]
    start_worker(**jaeger.environment())
    database.wait_for("SELECT count(*) FROM inbox WHERE status = 'promoted'", 3, within=10)
