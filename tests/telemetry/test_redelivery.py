"""What a receiver cannot take yet arrives later, once; what it refuses is lost at once, counted and logged."""

import json
import logging
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import Any

import grpc
import pytest

from otel import export_queue, logs
from tests.support.exporting import exporting
from tests.support.free_ports import free_port
from tests.support.otlp_answer import Answer, unavailable
from tests.support.otlp_receiver import Receiver, receiving_grpc, receiving_http

pytestmark = pytest.mark.one_postgres

Receiving = Callable[..., AbstractContextManager[Receiver]]
Code = grpc.StatusCode
BOTH = pytest.mark.parametrize("receiving", [receiving_http, receiving_grpc], ids=["http", "grpc"])
LATER = [
    *(Answer(status=status) for status in (429, 502, 503, 504)),
    Answer(status=429, headers={"Retry-After": "3600"}),
    Answer(status=503, headers={"Retry-After": "Sun, 06 Nov 1994 08:49:37 GMT"}),
    Answer(status=503, headers={"Retry-After": "-nan, soon"}),
]
GRPC_LATER = [
    *(Answer(code=code) for code in (Code.CANCELLED, Code.DEADLINE_EXCEEDED, Code.ABORTED, Code.OUT_OF_RANGE)),
    *(Answer(code=code) for code in (Code.UNAVAILABLE, Code.DATA_LOSS)),
    Answer(code=Code.RESOURCE_EXHAUSTED, retry_seconds=0),
    Answer(code=Code.UNAVAILABLE, retry_seconds=3600),
]
REFUSED = [Answer(status=status) for status in (400, 401, 403, 404, 405, 413, 500, 501)]
GRPC_REFUSED = [
    *(Answer(code=code) for code in (Code.INVALID_ARGUMENT, Code.UNAUTHENTICATED, Code.PERMISSION_DENIED)),
    *(Answer(code=code) for code in (Code.UNIMPLEMENTED, Code.INTERNAL, Code.UNKNOWN, Code.NOT_FOUND)),
    Answer(code=Code.RESOURCE_EXHAUSTED, message="grpc: received message larger than max"),
]


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A twentieth of each wait."""
    monkeypatch.setattr(export_queue, "FIRST_WAIT", 0.05)
    monkeypatch.setattr(export_queue, "LONGEST_WAIT", 0.2)
    monkeypatch.setattr(export_queue, "LONGEST_ASKED_WAIT", 0.3)


@pytest.fixture(scope="module")
def http() -> Iterator[Receiver]:
    with receiving_http() as receiver:
        yield receiver


@pytest.fixture(scope="module")
def by_grpc() -> Iterator[Receiver]:
    with receiving_grpc() as receiver:
        yield receiver


def of(answer: Answer, http: Receiver, by_grpc: Receiver) -> Receiver:
    """Return the receiver that can give this answer, as if it were new."""
    receiver = by_grpc if answer.code else http
    receiver.answer, receiver.tries = answer, 0
    receiver.forget()
    return receiver


@pytest.mark.parametrize("answer", [*LATER, *GRPC_LATER], ids=str)
def test_what_cannot_be_taken_yet_arrives_later_and_once(http: Receiver, by_grpc: Receiver, answer: Answer) -> None:
    receiver = of(answer, http, by_grpc)
    with exporting(receiver) as process:
        process.record(1, 2, 3)
        receiver.wait_until(lambda: receiver.tries > 1)
        process.record(4)
        receiver.answer = Answer()
        receiver.wait_for_spans(4)
    assert [one.attributes["ticket_id"] for one in receiver.spans()] == ["1", "2", "3", "4"]
    assert process.counts() == {"success": 4}
    assert process.count("retried") >= 2 * 3
    assert [line["event"] for line in process.lines] == ["telemetry_not_exported"]


@pytest.mark.parametrize("answer", [*REFUSED, *GRPC_REFUSED], ids=str)
def test_what_is_refused_for_good_is_lost_at_once(http: Receiver, by_grpc: Receiver, answer: Answer) -> None:
    receiver = of(answer, http, by_grpc)
    with exporting(receiver) as process:
        process.record(1, 2, 3)
        receiver.wait_until(lambda: process.count("failure") == 3)
        receiver.answer = Answer()
        process.record(4)
        receiver.wait_for_spans(1)
    assert [one.attributes["ticket_id"] for one in receiver.spans()] == ["4"]
    assert (process.counts(), process.count("retried"), receiver.tries) == ({"success": 1, "failure": 3}, 0, 2)
    [line] = process.lines
    assert line["signal"] == "traces"
    assert (answer.code.name if answer.code else f"HTTP {answer.status}") in line["error"]


@pytest.mark.parametrize("status", [300, 301, 302, 303, 307, 308])
def test_a_redirect_is_no_success(http: Receiver, by_grpc: Receiver, status: int) -> None:
    """The line says where it leads, and never with a password or token."""
    location = "https://me:hunter2@elsewhere/v1/traces?token=hunter2#hunter2"
    receiver = of(Answer(status=status, headers={"Location": location}), http, by_grpc)
    with exporting(receiver) as process:
        process.record(1, 2)
        receiver.wait_until(lambda: process.count("failure") == 2)
    assert process.counts() == {"failure": 2}
    [line] = process.lines
    assert f"HTTP {status}" in line["error"]
    assert "to https://elsewhere/v1/traces:" in line["error"]
    assert "hunter2" not in json.dumps(process.lines, default=str)


def test_a_web_page_is_no_success(http: Receiver, by_grpc: Receiver) -> None:
    """Jaeger's pages answer any POST with 200."""
    page = Answer(headers={"Content-Type": "text/html; charset=utf-8"}, body=b"<!DOCTYPE html>")
    receiver = of(page, http, by_grpc)
    with exporting(receiver) as process:
        process.record(1)
        receiver.wait_until(lambda: process.count("failure"))
    assert process.counts() == {"failure": 1}
    assert "answered with a web page" in process.lines[0]["error"]


@BOTH
def test_a_full_queue_drops_its_oldest(receiving: Receiving) -> None:
    """A batch that was sent once is kept beside the queue: memory holds no more than both."""
    with receiving() as receiver:
        receiver.answer = unavailable(receiver.protocol)
        limits = {"OTEL_BSP_MAX_QUEUE_SIZE": "16", "OTEL_BSP_MAX_EXPORT_BATCH_SIZE": "8"}
        with exporting(receiver, **limits) as process:
            process.record(*range(8))
            receiver.wait_until(lambda: receiver.tries)
            process.record(*range(8, 48))
            assert process.counts() == {"dropped": 24}
            receiver.answer = Answer()
            receiver.wait_for_spans(24)
        assert {int(one.attributes["ticket_id"]) for one in receiver.spans()} == {*range(8), *range(32, 48)}
        assert process.counts() == {"success": 24, "dropped": 24}
        assert {line["event"] for line in process.lines} == {"telemetry_not_exported", "telemetry_queue_full"}


@BOTH
def test_a_receiver_that_is_away_gets_everything_when_it_is_back(receiving: Receiving) -> None:
    port = free_port()
    protocol = "grpc" if receiving is receiving_grpc else "http/protobuf"
    away = Receiver()
    away.endpoint, away.protocol = f"http://127.0.0.1:{port}", protocol
    with exporting(away, OTEL_LOGS_EXPORTER="otlp") as process:
        for number in range(2):
            tickets = range(number * 700, number * 700 + 700)
            process.record(*tickets)
            logging.getLogger("test").warning("line %d", number)
            with receiving(port=port) as receiver:
                receiver.wait_for_spans(700)
                receiver.wait_until(receiver.log_records)
                assert {int(one.attributes["ticket_id"]) for one in receiver.spans()} == {*tickets}
                assert [one.body.string_value for one in receiver.log_records()] == [f"line {number}"]
    assert (process.counts(), process.counts("logs")) == ({"success": 1400}, {"success": 2})


@pytest.mark.parametrize(
    ("signal", "words"),
    [("TRACES", "set OTEL_BSP_MAX"), ("LOGS", "set OTEL_BLRP_MAX"), ("METRICS", "set the receiver's")],
)
def test_what_is_too_large_names_the_variable_of_its_signal(
    http: Receiver, by_grpc: Receiver, signal: str, words: str
) -> None:
    receiver = of(Answer(status=413), http, by_grpc)
    wanted = {f"OTEL_{one}_EXPORTER": "otlp" if one == signal else "none" for one in ("TRACES", "LOGS", "METRICS")}
    with exporting(receiver, **wanted) as process:
        process.record(1)
        logging.getLogger("test").warning("a line")
        receiver.wait_until(lambda: process.count("failure", signal.lower()))
    [line] = [line for line in process.lines if line["event"] == logs.NOT_EXPORTED]
    assert words in line["error"]


def test_a_push_of_metrics_is_replaced_by_the_next(http: Receiver, by_grpc: Receiver) -> None:
    receiver = of(Answer(status=503), http, by_grpc)
    with exporting(receiver, OTEL_METRICS_EXPORTER="otlp", OTEL_METRIC_EXPORT_INTERVAL="50") as process:
        receiver.wait_until(lambda: process.count("retried", "metrics"))
        receiver.answer = Answer()
        receiver.wait_until(receiver.metric_names)
        receiver.wait_until(lambda: process.count("success", "metrics"))
        receiver.answer = Answer(status=400)
        receiver.wait_until(lambda: process.count("failure", "metrics"))


def test_the_first_push_of_metrics_does_not_wait(http: Receiver, by_grpc: Receiver) -> None:
    """It has the zeroes: Prometheus sees no increase in what first comes as 1."""
    receiver = of(Answer(), http, by_grpc)
    with exporting(receiver, OTEL_METRICS_EXPORTER="otlp", OTEL_METRIC_EXPORT_INTERVAL="60000"):
        receiver.wait_until(receiver.metric_names)


def test_a_warning_of_the_sdk_hides_no_failure(http: Receiver, by_grpc: Receiver) -> None:
    """Each has its own line a minute; the SDK's has the name `telemetry_warning`."""
    receiver = of(Answer(status=400), http, by_grpc)
    sdk = logging.getLogger("opentelemetry.sdk.resources")
    with exporting(receiver) as process, exporting(receiver):  # with two handlers, as logs by OTLP have
        for value in ("a", "b"):
            sdk.warning("invalid pair: %s", value)
        sdk.warning("unknown sampler")
        for number in range(3):
            process.record(number)
            receiver.wait_until(lambda: process.count("failure") > number)  # noqa: B023  (it is over before the next)
    found: list[tuple[Any, Any]] = [(line["event"], line.get("signal")) for line in process.lines]
    assert found == [(logs.WARNING, None), (logs.WARNING, None), (logs.NOT_EXPORTED, "traces")]
    assert [line["error"] for line in process.lines[:2]] == ["invalid pair: a", "unknown sampler"]
