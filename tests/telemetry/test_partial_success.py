"""A receiver may reject a part of what it takes: that part failed, and a line says why; any body may be rubbish."""

import logging
from collections.abc import Callable
from contextlib import AbstractContextManager

import pytest

from tests.support.exporting import exporting
from tests.support.otlp_answer import Answer
from tests.support.otlp_receiver import Receiver, receiving_grpc, receiving_http

pytestmark = pytest.mark.one_postgres

Receiving = Callable[..., AbstractContextManager[Receiver]]
BOTH = pytest.mark.parametrize("receiving", [receiving_http, receiving_grpc], ids=["http", "grpc"])
RUBBISH = {
    "empty": b"",
    "binary": b"\xff" * 100,
    "half JSON": b'{"partialSuccess": {"rejectedSpans": ',
    "another JSON": b'{"partialSuccess": [3], "other": {}}',
    "deep JSON": b'{"a":' * 30_000,
    "HTML": b"<html>OK</html>",
    "long": b"\x0a\x02\x08\x05" * 500_000,
}


@BOTH
def test_rejected_spans_failed(receiving: Receiving) -> None:
    """The receiver's reason is one short line, without the token that it repeats."""
    reason = "token hunter2-hunter2\nis\x1b[31m over \x00 its quota" + " very much" * 100
    with (
        receiving() as receiver,
        exporting(receiver, OTEL_EXPORTER_OTLP_HEADERS="authorization=Bearer%20hunter2-hunter2") as process,
    ):
        receiver.answer = Answer(rejected=2, message=reason)
        process.record(*range(5))
        receiver.wait_for_spans(5)
        receiver.wait_until(lambda: process.count("success"))
        receiver.answer = Answer(rejected=9)
        process.record(6)
        receiver.wait_for_spans(6)
    assert (process.counts(), process.count("retried")) == ({"success": 3, "failure": 3}, 0)
    [line] = process.lines
    assert (line["event"], line["signal"]) == ("telemetry_not_exported", "traces")
    assert "rejected 2 items: token … is?[31m over ? its quota very much" in line["error"]
    assert line["error"].isprintable()
    assert len(line["error"]) < 280


@BOTH
def test_a_message_with_nothing_rejected_is_a_warning(receiving: Receiving) -> None:
    with receiving() as receiver, exporting(receiver) as process:
        receiver.answer = Answer(message="this version of OTLP is old")
        process.record(1, 2)
        receiver.wait_for_spans(2)
    assert process.counts() == {"success": 2}
    [line] = process.lines
    assert line["event"] == "telemetry_warning"
    assert line["error"].endswith(": this version of OTLP is old")


@BOTH
def test_rejected_points_and_lines_failed(receiving: Receiving) -> None:
    with receiving() as receiver:
        receiver.answer = Answer(rejected=1)
        wanted = {"OTEL_METRICS_EXPORTER": "otlp", "OTEL_METRIC_EXPORT_INTERVAL": "50", "OTEL_LOGS_EXPORTER": "otlp"}
        with exporting(receiver, **wanted) as process:
            logging.getLogger("test").warning("a line")
            receiver.wait_until(lambda: process.count("failure", "logs") and process.count("failure", "metrics"))
        assert process.counts("logs") == {"failure": 1}
        assert process.count("success", "metrics") > process.count("failure", "metrics")


def test_an_answer_in_json_counts_too() -> None:
    with receiving_http() as receiver, exporting(receiver) as process:
        receiver.answer = Answer(rejected=1, message="no", is_json=True)
        process.record(1, 2)
        receiver.wait_for_spans(2)
    assert process.counts() == {"success": 1, "failure": 1}


def test_a_body_that_cannot_be_read_changes_nothing() -> None:
    """The status has said that the spans were taken; what comes late, or not at all, is not waited for."""
    with receiving_http() as receiver, exporting(receiver, OTEL_EXPORTER_OTLP_TIMEOUT="1") as process:
        for number, body in enumerate(RUBBISH.values()):
            receiver.answer = Answer(body=body, missing=7 if body else 0)
            process.record(number)
            receiver.wait_until(lambda: process.count("success") > number)  # noqa: B023  (it is over before the next)
    assert process.counts() == {"success": len(RUBBISH)}
    assert not process.lines
