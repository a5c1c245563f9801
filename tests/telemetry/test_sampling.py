"""The Collector keeps what otel/collector.yaml and docs/tracing.md say: webhooks of every fate, in a real Jaeger."""

import collections
import time
from collections.abc import Iterator
from typing import Any

import pytest

from tests.support.system import Database, Tenant
from tests.support.telemetry_backends.collector import running_collector
from tests.support.telemetry_backends.jaeger import Jaeger, eventually, tags
from tests.support.telemetry_backends.sampled import FATES, REPROCESSED_LATE, SERVICE, Sampled, linked

pytestmark = [pytest.mark.one_postgres, pytest.mark.begins_early]

Spans = list[dict[str, Any]]
WEBHOOK = ["POST /webhook/servicedesk/resolved-ticket", "append inbox", "promote inbox"]


class Kept:
    """Every span that Jaeger has, by fate and trace id."""

    def __init__(self, sampled: Sampled, traces: list[dict[str, Any]]) -> None:
        self.sampled = sampled
        self.traces: dict[str, Spans] = {trace["traceID"].zfill(32): trace["spans"] for trace in traces}

    def of(self, fate: str) -> list[Spans]:
        """Return the spans of each webhook of a fate; none for a trace that was dropped."""
        return [self.traces.get(trace_id, []) for trace_id in self.sampled.trace_ids[fate]]


@pytest.fixture(scope="module")
def kept(
    jaeger: Jaeger, module_database: Database, module_environment: dict[str, str], tenants: Iterator[Tenant],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Kept]:  # fmt: skip
    """What is in Jaeger once all were sent, the Collector has decided and sent everything on."""
    directory = tmp_path_factory.mktemp("sampled")
    with running_collector(directory, jaeger.ports["grpc"]) as collector:
        sampled = Sampled(module_database, next(tenants), module_environment, directory, collector)
        sampled.send_all()
        found = eventually(lambda: len(jaeger.search(SERVICE)) == _settled(jaeger) and jaeger.search(SERVICE))
        yield Kept(sampled, found)


def _settled(jaeger: Jaeger) -> int:
    """Return how many traces there are, once the Collector's batches of a second are through."""
    time.sleep(3)
    return len(jaeger.search(SERVICE))


def names(spans: Spans) -> list[str]:
    return sorted(span["operationName"] for span in spans)


def promotions(spans: Spans) -> Spans:
    return [span for span in spans if span["operationName"] == "promote inbox"]


def test_a_healthy_webhook_is_whole_or_absent(kept: Kept) -> None:
    """A tenth is kept, whole; those that were reprocessed afterwards have that promotion more, or nothing else."""
    found = kept.of("healthy")[REPROCESSED_LATE:]
    assert {tuple(names(spans)) for spans in found} == {(), tuple(WEBHOOK)}
    assert 1 <= sum(map(bool, found)) <= len(found) / 4


@pytest.mark.parametrize(
    ("fate", "expected"),
    [
        ("unauthorized", WEBHOOK[:1]),
        ("rejected", WEBHOOK[:2]),
        ("poison", WEBHOOK),
        ("waited", WEBHOOK),
        ("reprocessed soon", [*WEBHOOK, "promote inbox"]),
    ],
)
def test_what_is_known_before_the_decision_keeps_the_whole_trace(kept: Kept, fate: str, expected: list[str]) -> None:
    assert [names(spans) for spans in kept.of(fate)] == [expected] * FATES[fate]


@pytest.mark.parametrize("fate", ["late", "poison late"])
def test_what_comes_after_the_decision_is_kept_without_what_was_dropped(kept: Kept, fate: str) -> None:
    found = kept.of(fate)
    assert {tuple(names(spans)) for spans in found} <= {("promote inbox",), tuple(WEBHOOK)}
    assert sum(len(spans) == 1 for spans in found) > len(found) / 2
    for [span] in map(promotions, found):
        assert tags(span)["lag_ms"] > 10_000
        assert ("error" in tags(span)) == (fate == "poison late")


def test_everything_reprocessed_after_the_decision_is_kept(kept: Kept) -> None:
    """And nothing more of a trace that was dropped; one that was kept is whole, with both promotions."""
    found = kept.of("healthy")[:REPROCESSED_LATE]
    assert {tuple(names(spans)) for spans in found} <= {("promote inbox",), (*WEBHOOK, "promote inbox")}
    assert all("reprocess" in [tags(span)["task"] for span in promotions(spans)] for spans in found)


def test_no_span_has_a_sender_that_says_no(kept: Kept) -> None:
    assert kept.of("unsampled") == [[]] * 5


def test_every_link_leads_to_a_trace(kept: Kept, jaeger: Jaeger) -> None:
    """Jobs and statements are all kept: links answer 200, for a trace that is whole and for one that is not."""
    links = {found for spans in kept.traces.values() for found in linked(spans)}
    assert len(links) > sum(FATES.values()) / 4
    assert collections.Counter(map(jaeger.status, links)) == {200: len(links)}
    operations = collections.Counter(name for spans in kept.traces.values() for name in names(spans))
    assert operations["INSERT inbox"] == sum(FATES.values()) - FATES["unauthorized"]


def test_no_span_is_exported_twice(kept: Kept) -> None:
    """Jaeger would show one of the two: the Collector's own count says how many it sent."""
    assert kept.sampled.counted("exporter_sent_spans") == sum(map(len, kept.traces.values()))
