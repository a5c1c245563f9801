"""Every red span says of which kind its error is, and each search of docs/tracing.md has the attributes that it needs."""

import re
from collections.abc import Iterator

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from app.sdp import errors
from app.webhook import problems
from otel import host
from tests import ROOT
from tests.support.fake_sdp import running_sdp
from tests.support.fake_sdp_ways import VENDORS_LIST
from tests.support.otlp_receiver import Receiver, Span, attributes, receiving_http
from tests.support.system import Database
from tests.support.troubles import FINDS, Search, Troubles, searches

pytestmark = pytest.mark.one_postgres

OPERATIONS = (ROOT / "docs/operations.md").read_text()
KINDS = set(re.findall(r"^\| `([a-z-]+)` \|", OPERATIONS.partition("\n## Kinds of failure\n")[2].partition("\n## ")[0], re.MULTILINE))  # fmt: skip
OF_POSTGRES = {"append inbox", "INSERT inbox", "process promote"}
Run = tuple[Troubles, Receiver]


@pytest.fixture(scope="module")
def run(
    module_database: Database,
    module_environment: dict[str, str],
    secrets_key: str,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Run]:
    """All troubles on one server and one worker, and what these exported."""
    with running_sdp(list_lacks=VENDORS_LIST) as sdp, receiving_http() as receiver:
        troubles = Troubles(module_database, secrets_key, sdp)
        troubles.happen({**module_environment, **receiver.environment}, tmp_path_factory.mktemp("troubles"))
        yield troubles, receiver


def test_every_red_span_has_its_type_and_every_kind_of_span_can_be_red(run: Run) -> None:
    red = [span for span in run[1].spans() if span.error is not None]
    names = {*OF_POSTGRES, "promote inbox", "GET /api/v3/requests/{id}", "POST /webhook/servicedesk/resolved-ticket"}
    assert {span.name for span in red} == names
    assert all(span.attributes["is_error"] is True for span in red)
    known = {
        *KINDS, "failed", "rejected", *(kind for kind, _ in problems.KINDS.values()),
        *(name for name, one in vars(errors).items() if isinstance(one, type)),
    }  # fmt: skip
    assert {span.attributes["error.type"] for span in red} <= known
    assert not [span for span in run[1].spans() if span.error is None and "is_error" in span.attributes]


def test_a_red_span_leads_to_the_kinds_of_failure_and_has_postgres_code(run: Run) -> None:
    of_postgres = [span for span in run[1].spans() if span.error is not None and span.name in OF_POSTGRES]
    assert {span.attributes["error.type"] for span in of_postgres} <= KINDS
    codes = {span.attributes.get("db.response.status_code"): span.attributes["error.type"] for span in of_postgres}
    assert codes["53100"] == "disk-full"


def test_a_statement_and_a_job_name_their_webhooks(run: Run) -> None:
    troubles, receiver = run
    for name, size in (
        ("INSERT inbox", "db.operation.batch.size"),
        ("process promote", "messaging.batch.message_count"),
    ):
        spans = receiver.spans(name=name)
        named = [_ids(span) for span in spans]
        assert [len(ids) for ids in named] == [min(20, span.attributes[size]) for span in spans]
        assert {one for ids in named for one in ids} <= troubles.of.keys()


def test_a_promotion_has_its_lag(run: Run) -> None:
    troubles, receiver = run
    for span in receiver.spans(name="promote inbox"):
        is_late = troubles.of[span.attributes["correlation_id"]] == "late"
        assert (span.attributes["lag_ms"] >= 120_000) == is_late == ("is_late" in span.attributes)


def test_an_unverified_request_has_only_the_claim_of_its_sender(run: Run) -> None:
    """A 401 has the tenant that its sender claims to be, and no ticket; a 400 that is no JSON has neither."""
    spans = {run[0].of.get(span.attributes.get("correlation_id", "")): span.attributes for span in run[1].spans()}
    assert spans["signature"]["tenant_id"] == "acme"
    assert not {"tenant_id", "ticket_id"} & {*spans["malformed"], *spans["too large"], *spans["wrong type"]}
    assert "ticket_id" not in spans["signature"]


@pytest.mark.parametrize("search", searches(), ids=lambda search: search.trouble)
def test_each_search_of_the_page_finds_its_trouble_alone(run: Run, search: Search) -> None:
    """As Jaeger searches: one span of that service and operation has all tags, and the whole trace is found."""
    troubles, receiver = run
    traces = {span.trace_id for span in receiver.spans() if _fits(span, search)}
    assert _happened(troubles, [span for span in receiver.spans() if span.trace_id in traces]) == troubles.finds[search.trouble]  # fmt: skip


def test_the_page_searches_for_each_trouble() -> None:
    assert [search.trouble for search in searches()] == list(FINDS)


def test_both_processes_name_the_same_machine(run: Run) -> None:
    resources = [
        attributes(resource.resource.attributes)
        for request in run[1].requests
        if isinstance(request, ExportTraceServiceRequest)
        for resource in request.resource_spans
    ]
    assert {resource["service.name"] for resource in resources} == {"ticket-inbox-server", "ticket-inbox-worker"}
    assert all(resource.items() >= host.attributes().items() for resource in resources)


def _fits(span: Span, search: Search) -> bool:
    seconds = (span.end - span.start) / 1e9
    has = {name: str(value).lower() if value is True else str(value) for name, value in span.attributes.items()}
    return (
        (span.service, search.operation or span.name) == (search.service, span.name)
        and search.wanted.items() <= has.items()
        and seconds >= float(search.min_duration.removesuffix("s") or 0)
    )


def _happened(troubles: Troubles, spans: list[Span]) -> set[str]:
    ids = {one for span in spans for one in [span.attributes.get("correlation_id"), span.attributes.get("ticket_id"), *_ids(span)]}  # fmt: skip
    return {troubles.of[one] for one in ids if one in troubles.of}


def _ids(span: Span) -> list[str]:
    found = span.attributes.get("correlation_ids")
    return [one.string_value for one in found.values] if found else []
