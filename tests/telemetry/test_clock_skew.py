"""A real Jaeger warns of no clock skew within one machine; of which warnings remain, docs/tracing.md says what they mean."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import psycopg
import pytest

from tests.support.eventually import eventually
from tests.support.system import Database, Server, Tenant, running_server, running_worker
from tests.support.telemetry_backends.jaeger import Jaeger, tags

pytestmark = pytest.mark.one_postgres

TRACE_ID = "4bf92f3577b34da6a3ce929d0e0e4736"
ELSEWHERE = {"OTEL_RESOURCE_ATTRIBUTES": "host.name=elsewhere,ip=198.51.100.7"}
WAITING = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE '%%INSERT INTO inbox%%' AND datname = current_database()"
PENDING = "SELECT count(*) FROM inbox WHERE status = 'pending'"


@pytest.fixture(scope="module")
def server(
    jaeger: Jaeger, module_environment: dict[str, str], tenants: Iterator[Tenant], tmp_path_factory: pytest.TempPathFactory  # noqa: ARG001
) -> Iterator[Server]:  # fmt: skip
    """A server that exports to Jaeger."""
    env = {**module_environment, **jaeger.environment()}
    with running_server(env, tmp_path_factory.mktemp("server") / "log") as running:
        yield running


@pytest.mark.parametrize(("where", "is_warned"), [({}, False), (ELSEWHERE, True)], ids=["here", "elsewhere"])
def test_only_a_promotion_on_another_machine_has_a_warning(  # noqa: PLR0913, PLR0917
    jaeger: Jaeger, server: Server, module_database: Database, module_environment: dict[str, str], tenant: Tenant, tmp_path: Path,
    where: dict[str, str], is_warned: bool,  # noqa: FBT001
) -> None:  # fmt: skip
    """The promotion is shorter than its request, which a lock held up, and comes after it."""
    correlation_id = _send_slowly(server, module_database, tenant)
    env = {**module_environment, **jaeger.environment(), **where}
    with running_worker(env, tmp_path / "log"):
        module_database.wait_for(PENDING, 0, within=20)
        trace = eventually(partial(_whole, jaeger, correlation_id))
    request, _append, promotion = sorted(trace["spans"], key=lambda span: span["startTime"])
    assert promotion["duration"] < request["duration"], "else Jaeger expects nothing"
    assert tags(promotion)["lag_ms"] > promotion["duration"] / 1000
    assert not request["warnings"]
    warned = " ".join(promotion["warnings"] or [])
    assert ("clock skew" in warned) == is_warned, warned
    assert bool(warned) == is_warned, warned


def test_a_senders_span_that_jaeger_lacks_is_named_at_the_request_alone(
    jaeger: Jaeger, server: Server, module_environment: dict[str, str], tenant: Tenant, tmp_path: Path
) -> None:  # fmt: skip
    body = tenant.body()
    answer = server.post(body, tenant.headers(body, traceparent=f"00-{TRACE_ID}-00f067aa0ba902b7-01"))
    with running_worker({**module_environment, **jaeger.environment()}, tmp_path / "log"):
        trace = eventually(partial(_whole, jaeger, answer.json()["correlation_id"]))
    warnings = {span["operationName"]: span["warnings"] for span in trace["spans"] if span["warnings"]}
    assert list(warnings) == ["POST /webhook/servicedesk/resolved-ticket"]
    [[words]] = warnings.values()
    assert words.startswith("invalid parent span IDs")


def _send_slowly(server: Server, database: Database, tenant: Tenant) -> str:
    """Send a webhook whose statement waits for a lock for two seconds; return its correlation id."""
    with ThreadPoolExecutor(1) as pool, psycopg.connect(database.url) as holder:
        holder.execute("LOCK inbox IN ACCESS EXCLUSIVE MODE")
        sent = pool.submit(server.send, tenant)
        database.wait_for(WAITING, 1, within=10)
        holder.execute("SELECT pg_sleep(2)")
        holder.rollback()
        return str(sent.result().json()["correlation_id"])


def _whole(jaeger: Jaeger, correlation_id: str) -> dict[str, Any]:
    found = jaeger.search(correlation_id=correlation_id)
    return next((trace for trace in found if len(trace["spans"]) == 3), {})
