"""Webhooks of every fate, sent through a real Collector: healthy, refused, failed, late, reprocessed, not sampled.

It takes half a minute: some promotions come only after the Collector has decided about their traces.
"""

import contextlib
import hashlib
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx

from app.webhook import signature
from tests.support.scraped_metrics import values
from tests.support.system import Database, Server, Tenant, Worker, running_server, running_worker
from tests.support.telemetry_backends.collector import Collector

SERVICE = "sampled"  # the name of both processes, so that one search finds every trace
# How many webhooks of each fate there are; the first waits until the worker has started.
FATES = {"first": 1, "healthy": 60, "unauthorized": 5, "rejected": 5, "poison": 5, "reprocessed soon": 5, "waited": 5, "late": 40,
         "poison late": 5}  # fmt: skip
REPROCESSED_LATE = 20  # of the healthy ones
FUNCTION = "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE data_exception; END $$"
TRIGGER = (
    "CREATE TRIGGER refuse BEFORE INSERT ON ticket_history FOR EACH ROW WHEN (starts_with(NEW.ticket_id, 'poison')) "
    "EXECUTE FUNCTION refuse()"
)


class Sampled:
    """What was sent: trace ids by fate."""

    def __init__(self, database: Database, tenant: Tenant, env: dict[str, str], directory: Path, collector: Collector) -> None:  # fmt: skip
        self._database, self._tenant, self._collector = database, tenant, collector
        self._env = {**env, **collector.environment(), "OTEL_SERVICE_NAME": SERVICE}
        self._directory = directory
        self.trace_ids: dict[str, list[str]] = {}

    def send_all(self) -> None:
        """Send every webhook, and have the promotions of the last ones come after the decision about their traces."""
        for statement in (FUNCTION, TRIGGER):
            self._database.query(statement)
        with running_server(self._env, self._directory / "server.log") as server:
            with self._worker("first"):
                self._send(server, "first")
                self._wait_until_promoted()
                self._send(server, "healthy", "unauthorized", "poison", "reprocessed soon")
                self._send(server, "rejected", priority=5)
                self._send(server, "unsampled", flags="00")
                self._wait_until_promoted()
                self._reprocess("reprocessed soon")
            self._send(server, "waited")
            time.sleep(1.1)
            with self._worker("second"):
                pass
            self._send(server, "late", "poison late")
            self._wait_for_decisions(sum(FATES.values()))
            self._export_late(self.trace_ids["healthy"][REPROCESSED_LATE:])
            with self._worker("third"):
                self._reprocess("healthy")
        self._wait_until_sent()

    def counted(self, name: str) -> float:
        """Return a counter of the Collector's own, summed over its labels."""
        text = httpx.get(f"http://127.0.0.1:{self._collector.ports['8888']}/metrics", timeout=5).text
        return sum(value for (found, _), value in values(text).items() if found.startswith(f"otelcol_{name}"))

    @contextlib.contextmanager
    def _worker(self, name: str) -> Iterator[Worker]:
        """Run a worker until it has nothing left to do, and stop it, so that it exports everything."""
        with running_worker(self._env, self._directory / f"{name}-worker.log") as worker:
            yield worker
            self._wait_until_promoted()
            jobs = (
                "SELECT count(*) FROM procrastinate_jobs WHERE status IN ('todo', 'doing') AND task_name = 'reprocess'"
            )
            self._database.wait_for(jobs, 0, within=20)
            assert worker.stop() == 0

    def _wait_until_promoted(self) -> None:
        self._database.wait_for("SELECT count(*) FROM inbox WHERE status = 'pending'", 0, within=20)

    def _send(self, server: Server, *fates: str, flags: str = "01", **members: object) -> None:
        for fate in fates:
            first = sum(map(len, self.trace_ids.values())) + 1
            self.trace_ids[fate] = [_trace_id(number) for number in range(first, first + FATES.get(fate, 5))]
            for trace_id in self.trace_ids[fate]:
                body = self._tenant.body(ticket_id=f"{fate} {trace_id}", **members)
                headers = self._tenant.headers(body, traceparent=f"00-{trace_id}-{trace_id[16:]}-{flags}")
                if fate == "unauthorized":
                    headers[signature.HEADER] = "0" * 64
                server.post(body, headers)

    def _reprocess(self, fate: str) -> None:
        rows = self._database.query("SELECT id, split_part(traceparent, '-', 2) AS trace_id FROM inbox")
        wanted = self.trace_ids[fate][:REPROCESSED_LATE]
        self._database.defer("reprocess", inbox_ids=[row["id"] for row in rows if row["trace_id"] in wanted])

    def _wait_for_decisions(self, count: int) -> None:
        """Wait until the Collector has decided about at least `count` traces, and none waits any more."""
        deadline = time.monotonic() + 40
        while self.counted("processor_tail_sampling_global_count_traces_sampled") < count or self._undecided():
            assert time.monotonic() < deadline
            time.sleep(0.2)

    def _wait_until_sent(self) -> None:
        """Wait until the Collector, which sends a batch each second, has sent nothing more for two of them."""
        sent = -1.0
        while self._undecided() or sent != (sent := self.counted("exporter_sent_spans")):
            time.sleep(2.5)

    def _export_late(self, trace_ids: list[str]) -> None:
        """Export two spans of each trace, such as waited while the Collector was away; one of them is red."""
        now = str(time.time_ns())
        times = {"startTimeUnixNano": now, "endTimeUnixNano": now}
        late = [{"traceId": one, "spanId": one[:16], "name": "late span", "kind": 4, **times} for one in trace_ids]
        red = {"name": "red span", "kind": 2, "status": {"code": 2}, **times}
        late += [{"traceId": one, "spanId": one[8:24], **red} for one in trace_ids]
        resource = {"attributes": [{"key": "service.name", "value": {"stringValue": SERVICE}}]}
        body = {"resourceSpans": [{"resource": resource, "scopeSpans": [{"spans": late}]}]}
        url = f"http://127.0.0.1:{self._collector.ports['4318']}/v1/traces"
        assert httpx.post(url, json=body, timeout=5).status_code == 200

    def _undecided(self) -> float:
        return self.counted("processor_tail_sampling_sampling_traces_on_memory")


def _trace_id(number: int) -> str:
    """Return the same trace id for a number in every run, so that the share keeps the same ones, yet a random one."""
    return hashlib.sha256(str(number).encode()).hexdigest()[:32]


def linked(spans: list[dict[str, Any]]) -> set[str]:
    """Return the ids of the other traces that these spans link to."""
    references = [reference for span in spans for reference in span["references"]]
    return {one["traceID"] for one in references} - {span["traceID"] for span in spans}
