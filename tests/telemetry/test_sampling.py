"""The Collector keeps what otel/collector.yaml and docs/tracing.md say: webhooks of every fate, in a real Jaeger."""

import collections
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest

from app.commands import trace_links
from tests.support.commands_in_process import run_here
from tests.support.system import Database, Tenant
from tests.support.telemetry_backends.collector import CONFIGURATION, running_collector
from tests.support.telemetry_backends.jaeger import Jaeger, tags
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
        yield Kept(sampled, jaeger.search(SERVICE))


def names(spans: Spans) -> list[str]:
    return sorted(span["operationName"] for span in spans)


def promotions(spans: Spans) -> Spans:
    return [span for span in spans if span["operationName"] == "promote inbox"]


def is_in_share(trace_id: str) -> bool:
    """Return True if the share keeps a trace; its id alone says so. Source: probabilistic.go of the processor."""
    hashed = 0xCBF29CE484222325
    for byte in b"default-hash-seed" + bytes.fromhex(trace_id):
        hashed = (hashed ^ byte) * 0x100000001B3 % 2**64
    return hashed <= 2**64 // 10


def test_a_healthy_webhook_is_whole_or_absent(kept: Kept) -> None:
    """The trace id alone decides which tenth is kept; spans that come after the decision follow it, but red ones."""
    trace_ids, found = kept.sampled.trace_ids["healthy"][REPROCESSED_LATE:], kept.of("healthy")[REPROCESSED_LATE:]
    assert [names(spans) for spans in found] == [
        [*[*WEBHOOK[:2], "late span", WEBHOOK[2]] * is_in_share(one), "red span"] for one in trace_ids
    ]
    assert 0 < sum(map(is_in_share, trace_ids)) < len(found) / 4


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
def test_a_late_promotion_is_kept_even_if_its_trace_was_dropped(kept: Kept, fate: str) -> None:
    """It comes without what was dropped: only a trace that the share keeps is whole."""
    shares = map(is_in_share, kept.sampled.trace_ids[fate])
    assert [names(spans) for spans in kept.of(fate)] == [WEBHOOK if share else WEBHOOK[2:] for share in shares]
    for [span] in map(promotions, kept.of(fate)):
        assert tags(span)["lag_ms"] > 10_000
        assert ("error" in tags(span)) == (fate == "poison late")


def test_everything_reprocessed_is_kept_even_if_its_trace_was_dropped(kept: Kept) -> None:
    """It comes without what was dropped; a trace that the share keeps is whole, with both promotions."""
    trace_ids, found = kept.sampled.trace_ids["healthy"][:REPROCESSED_LATE], kept.of("healthy")[:REPROCESSED_LATE]
    assert [names(spans) for spans in found] == [WEBHOOK * is_in_share(one) + WEBHOOK[2:] for one in trace_ids]
    assert all("reprocess" in [tags(span)["task"] for span in promotions(spans)] for spans in found)


def test_no_span_has_a_sender_that_says_no(kept: Kept) -> None:
    assert kept.of("unsampled") == [[]] * 5


def test_every_link_leads_to_a_trace(kept: Kept, jaeger: Jaeger) -> None:
    """Jobs and statements are all kept: links answer 200, for a trace that is whole and for one that is not."""
    links = {found for spans in kept.traces.values() for found in linked(spans)}
    assert len(links) > sum(FATES.values()) / 4
    assert links <= kept.traces.keys()
    assert {jaeger.status(trace_id) for trace_id in sorted(links)[:20]} == {200}
    operations = collections.Counter(name for spans in kept.traces.values() for name in names(spans))
    assert operations["INSERT inbox"] == sum(FATES.values()) - FATES["unauthorized"]


def test_no_span_is_exported_twice(kept: Kept) -> None:
    """Jaeger would show one of the two: the Collector's own count says how many it sent."""
    assert kept.sampled.counted("exporter_sent_spans") == sum(map(len, kept.traces.values()))


def test_what_goes_past_the_sampling_is_what_is_kept_out_of_it() -> None:
    """Another condition on one side would lose spans, or export them twice."""
    processors = msgspec.yaml.decode(CONFIGURATION.read_bytes())["processors"]
    conditions = {name: one["trace_conditions"] for name, one in processors.items() if name.startswith("filter/")}
    [shared], [late] = conditions.pop("filter/no_shared_work"), conditions.pop("filter/no_span_twice")
    assert conditions == {"filter/only_past_sampling": [f"not ({shared} or ({late}))"]}


def test_trace_links_to_a_whole_trace_and_says_why_there_is_none(
    kept: Kept, jaeger: Jaeger, module_database: Database, module_environment: dict[str, str]
) -> None:
    """As an hour later: what is not there by then does not come any more. The search that it names finds the rest."""
    module_database.query(
        "UPDATE inbox SET received_at = received_at - interval '1 hour', promoted_at = promoted_at - interval '1 hour'"
    )
    rows = module_database.query("SELECT split_part(traceparent, '-', 2) AS trace_id, correlation_id FROM inbox")
    correlation_ids = {row["trace_id"]: row["correlation_id"] for row in rows}
    reasons = {
        "healthy": trace_links.ABSENT,
        "late": trace_links.PARTIAL,
        "unsampled": trace_links.NOT_SAMPLED,
        "rejected": "",
    }
    linked_fates = set()
    for fate, reason in reasons.items():
        for trace_id in sorted(kept.sampled.trace_ids[fate][-40:], key=is_in_share)[-6:]:  # some of the share, some not
            correlation_id = correlation_ids[trace_id]
            done = run_here(["trace", correlation_id], {**module_environment, "JAEGER_URL": jaeger.url})
            assert (done.returncode, done.stderr) == (0, "")
            if f"{jaeger.url}/trace/{trace_id}" in done.stdout:
                assert WEBHOOK[0] in names(kept.traces[trace_id])
                linked_fates.add(fate)
                continue
            assert reason
            assert reason in " ".join(done.stdout.split())
            assert WEBHOOK[0] not in names(kept.traces.get(trace_id, []))
            found = jaeger.search(SERVICE, correlation_id=correlation_id)
            assert [names(one["spans"]) for one in found] == [["promote inbox"]] * (fate == "late")
    assert linked_fates == {"healthy", "late", "rejected"}
