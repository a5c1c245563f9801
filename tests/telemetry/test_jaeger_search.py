"""What docs/tracing.md says to type into a real Jaeger finds each trouble, and nothing else."""

import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.support.fake_sdp import running_sdp
from tests.support.fake_sdp_ways import VENDORS_LIST
from tests.support.system import Database
from tests.support.telemetry_backends.jaeger import Jaeger, running_jaeger, tags
from tests.support.troubles import Search, Troubles, searches

pytestmark = pytest.mark.one_postgres

Run = tuple[Troubles, Jaeger]


@pytest.fixture(scope="module")
def run(
    module_database: Database,
    module_environment: dict[str, str],
    secrets_key: str,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Run]:
    """All troubles on one server and one worker that export to a Jaeger of their own: others send refusals, too."""
    directory = tmp_path_factory.mktemp("troubles")
    with running_sdp(list_lacks=VENDORS_LIST) as sdp, running_jaeger(directory) as jaeger:
        troubles = Troubles(module_database, secrets_key, sdp)
        troubles.happen({**module_environment, **jaeger.environment()}, directory)
        yield troubles, jaeger


@pytest.mark.parametrize("search", searches(), ids=lambda search: search.trouble)
def test_each_search_of_the_page_finds_its_trouble_alone(run: Run, search: Search) -> None:
    troubles, jaeger = run
    found = jaeger.search(search.service, search.operation, search.min_duration, **search.wanted)
    assert _happened(troubles, found) == troubles.finds[search.trouble]


def test_jaegers_own_words_for_an_error_find_nothing(run: Run) -> None:
    """As the page says of 1.76; if this fails, a newer Jaeger finds them, and `is_error` can go."""
    for words in ({"error": "true"}, {"otel.status_code": "ERROR"}):
        assert not run[1].search("ticket-inbox-server", **words)
        assert not run[1].search("ticket-inbox-worker", **words)


def test_each_span_that_jaeger_shows_red_is_found_by_is_error(run: Run) -> None:
    """It shows them by their status, which its search in memory does not look at."""
    for service in ("ticket-inbox-server", "ticket-inbox-worker"):
        every, found = run[1].search(service), run[1].search(service, is_error="true")
        red = {trace["traceID"] for trace in every if any(tags(span).get("error") for span in _of(trace, service))}
        assert {trace["traceID"] for trace in found} == red
    assert red


def _of(trace: dict[str, Any], service: str) -> list[dict[str, Any]]:
    return [span for span in trace["spans"] if trace["processes"][span["processID"]]["serviceName"] == service]


def _happened(troubles: Troubles, traces: list[dict[str, Any]]) -> set[str]:
    has = [tags(span) for trace in traces for span in trace["spans"]]
    ids = {one.get(name) for one in has for name in ("correlation_id", "ticket_id")}
    ids |= {each for one in has for each in json.loads(one.get("correlation_ids", "[]"))}
    return {troubles.of[one] for one in ids if one in troubles.of}
