"""Log lines stay whole if two processes write to one pipe, and a process does not fail if none reads its log."""

import json
import logging
import os
import subprocess
import sys

import pytest

from otel import logs
from otel.logs_by_otlp import Handler

pytestmark = pytest.mark.one_postgres

BURSTS = """
import asyncio, logging, sys
from otel import logs

async def main():
    for burst in range(100):
        for line in range(40):
            logs.log(logging.getLogger("x"), logging.INFO, "line", number=line, text="x" * 150, who=sys.argv[1])
        await asyncio.sleep(0)

logs.configure("info", "json")
asyncio.run(main())
"""
CLOSED = """
import asyncio, logging, os, threading, time
from otel import logs

async def main():
    logging.getLogger("x").info("a line")
    logging.getLogger("x").info("%d", "no number")
    threading.Thread(target=logging.getLogger("x").info, args=["from a thread"]).start()
    await asyncio.sleep(1)

logs.configure("info", "json")
os.close(2)
asyncio.run(main())
logging.getLogger("x").info("after the loop")
print(time.process_time())
"""


def test_lines_of_two_processes_on_one_pipe_are_whole() -> None:
    """A pipe keeps a write together only up to one page."""
    reading, writing = os.pipe()
    running = [subprocess.Popen([sys.executable, "-c", BURSTS, name], stderr=writing) for name in ("a", "b")]
    os.close(writing)
    with os.fdopen(reading) as pipe:
        lines = [json.loads(line) for line in pipe]
    assert [process.wait() for process in running] == [0, 0]
    for name in ("a", "b"):
        assert [line["number"] for line in lines if line["who"] == name] == [*range(40)] * 100


def test_a_closed_standard_error_fails_nothing() -> None:
    """The lines are lost, without an exception or a busy loop."""
    done = subprocess.run([sys.executable, "-c", CLOSED], stdout=subprocess.PIPE, text=True, check=True, timeout=30)
    assert float(done.stdout) < 1


def test_signals_that_fail_take_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    """Metrics that are refused at each push would else hide, for ever, why no span arrives."""
    moment, passed, turns = 0.0, [], logs.OncePerMinute()
    monkeypatch.setattr("time.monotonic", lambda: moment)
    failures = [(60.01 * push, "metrics") for push in range(4)] + [(5.0 * batch + 1, "traces") for batch in range(40)]
    for moment, signal in sorted(failures):  # noqa: B007
        failed = {"name": "otel.outcome", "levelno": logging.WARNING, "msg": logs.NOT_EXPORTED}
        record = logging.makeLogRecord({**failed, "fields": {"signal": signal}})
        passed += [logs.members(record)["signal"]] if turns.filter(record) else []
    assert passed == ["metrics", "traces", "metrics", "traces"]


def test_a_line_that_cannot_be_formatted_fails_no_caller_of_the_exporting_handler() -> None:
    exported: list[object] = []
    handler = Handler(None, exported.append)  # type: ignore[arg-type]
    for argument in (1, "no number"):
        handler.handle(logging.makeLogRecord({"name": "x", "levelno": 30, "msg": "%d", "args": (argument,)}))
    assert len(exported) == 1
