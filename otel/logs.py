"""What does one log line look like?

Every line of either process, ours or a library's, goes through the one handler made here.
"""

import asyncio
import contextlib
import json
import logging
import os
import threading
import time
import traceback
from datetime import UTC, datetime
from typing import Any

import msgspec

from otel import standard_error
from otel.escaped import printable, printable_json
from otel.standard_error import PatientWriter

SDK = "opentelemetry."  # how the names of OpenTelemetry's loggers begin
OF_TELEMETRY = (SDK, "otel.")  # its loggers and ours about exports
NOT_EXPORTED, WARNING = "telemetry_not_exported", "telemetry_warning"
MOST_WARNINGS = 100  # that are remembered, so that each is logged once a minute
# Libraries that report at INFO what our own lines already say.
NOISY = ("httpx", "httpcore", "procrastinate", "uvicorn", "alembic", "urllib3")


def log(logger: logging.Logger, level: int, event: str, **fields: object) -> None:
    """Write one line: `event` names what happened, `fields` the tenant, ticket or job; None fields are left out.

    If `error` is an exception, its message and its traceback are written.
    Never pass a secret, a signature or ticket text: nothing downstream filters them.
    """
    error = fields.get("error")
    raised = error if isinstance(error, BaseException) else None
    logger.log(level, event, extra={"fields": fields}, exc_info=raised)


def configure(level: str, style: str) -> None:
    """Write every log line of this process to standard error, as `json` or for the `console`."""
    writer = standard_error.writer()
    handler = OnceATurn(writer)
    writer.describe = handler.describe
    handler.addFilter(OncePerMinute())
    # No line has the thread, process, task or source line that wrote it: finding these took half of a line's time.
    # Source: https://docs.python.org/3/howto/logging.html#optimization
    for name in ("logThreads", "logProcesses", "logMultiprocessing", "logAsyncioTasks"):
        setattr(logging, name, False)
    logging._srcfile = None  # noqa: SLF001
    handler.setFormatter(JsonLines() if style == "json" else Console())
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    for name in NOISY:
        logging.getLogger(name).setLevel(max(logging.WARNING, logging.getLogger().level))


class OnceATurn(logging.Handler):
    """Writes the lines of one turn of the event loop together: each write is a system call. Without a loop, at once."""

    def __init__(self, writer: PatientWriter) -> None:
        super().__init__()
        self._writer = writer
        self._kept: list[str] = []
        self._loop: asyncio.AbstractEventLoop | None = None  # which will flush them

    def emit(self, record: logging.LogRecord) -> None:
        try:
            self._kept.append(self.format(record) + "\n")
        except Exception:  # noqa: BLE001  (as in logging itself, a line that cannot be formatted fails no caller)
            self.handleError(record)
            return
        if self._loop is None or self._loop.is_closed():
            try:
                self._loop = asyncio.get_running_loop()
                self._loop.call_soon(self.flush)
            except RuntimeError:
                self.flush()

    def flush(self) -> None:
        """Write the lines that were kept. If standard error takes none they are lost, and nothing else fails."""
        with self.lock or contextlib.nullcontext():
            kept, self._kept, self._loop = self._kept, [], None
            self._writer.write_text(kept)

    def describe(self, count: int, since: float) -> str:
        """Return the line about `count` lines that standard error did not take, the first of them at `since`."""
        record = logging.makeLogRecord({"levelname": "WARNING", "msg": "log_lines_dropped"})
        record.fields = {"count": count, "since": datetime.fromtimestamp(since, UTC), "process_id": os.getpid()}
        return self.format(record) + "\n"


class OncePerMinute(logging.Filter):
    """Lets one line a minute pass about exports that failed, and one of each warning of OpenTelemetry, as one line.

    Each try fails again; and a warning must not hide why nothing arrives.
    """

    def __init__(self) -> None:
        super().__init__()
        self._next: dict[object, float] = {}
        self._counting = threading.Lock()
        self._logged = ""  # the signal of the last line about a failure
        self._held: tuple[float, dict[str, Any]] = (float("-inf"), {})  # when another failed without a line, how

    def filter(self, record: logging.LogRecord) -> bool:
        if not record.name.startswith(OF_TELEMETRY):
            return True
        if record.levelno < logging.WARNING:
            return False
        if record.name.startswith(SDK):
            said = getattr(record, "said", record.msg)  # before another handler's filter made it a line of ours
            return self._has_turn((record.name, said)) and _as_warning(record)
        if record.msg == NOT_EXPORTED:
            return self._take_turns(record)
        key = (WARNING, record.fields["error"]) if record.msg == WARNING else record.msg  # type: ignore[attr-defined]
        return self._has_turn(key)

    def _take_turns(self, record: Any) -> bool:  # noqa: ANN401
        """Let signals take turns: metrics that are refused at each push would always come first."""
        with self._counting:
            now, is_other = time.monotonic(), record.fields["signal"] != self._logged
            if not self._has_waited(NOT_EXPORTED, now):
                if is_other:
                    self._held = now, record.fields
                return False
            when, held = self._held
            if not is_other and now - when < 60:  # noqa: PLR2004
                record.fields = held
            self._logged, self._held = record.fields["signal"], (float("-inf"), {})
            return True

    def _has_turn(self, key: object) -> bool:
        with self._counting:  # each signal has a thread of its own
            return self._has_waited(key, time.monotonic())

    def _has_waited(self, key: object, now: float) -> bool:
        if now < self._next.get(key, now):
            return False
        if len(self._next) >= MOST_WARNINGS:
            self._next = {NOT_EXPORTED: self._next.get(NOT_EXPORTED, now)}
        self._next[key] = now + 60
        return True


def _as_warning(record: logging.LogRecord) -> bool:
    """Make a line of OpenTelemetry's one of ours; it passes."""
    if record.msg != WARNING:
        why = record.exc_info[1] if record.exc_info and record.exc_info[1] else record.getMessage()
        record.said, record.msg, record.args, record.exc_info = record.msg, WARNING, (), None
        record.fields = {"error": " ".join(str(why).split())[:300]}
    return True


class JsonLines(logging.Formatter):
    """One JSON object a line: `timestamp` (UTC), `level`, `event`, then the fields of the line."""

    def format(self, record: logging.LogRecord) -> str:
        found = members(record)
        try:
            line = msgspec.json.encode(found, enc_hook=str).decode()
        except UnicodeEncodeError:  # half of a surrogate pair, such as Python makes of a path that is not UTF-8
            line = json.dumps(msgspec.to_builtins(found, enc_hook=str))
        # The encoder has escaped C0. What else is not printable is DEL, or beyond ASCII; this test takes 0.1 µs.
        return line if line.isascii() and "\x7f" not in line else printable_json(line)


class Console(logging.Formatter):
    """The same line for a person at a terminal; values are quoted and a traceback is indented: none can fake a line."""

    def format(self, record: logging.LogRecord) -> str:
        found = members(record)
        moment, level, event = found.pop("timestamp"), found.pop("level"), found.pop("event")
        trace = found.pop("traceback", None)
        head = f"{moment:%H:%M:%S}.{moment.microsecond // 1000:03d} {level:8}{_line(event)}"
        line = " ".join([head, *(f"{name}={_value(value)}" for name, value in found.items())])
        return "\n".join([line, *(f"  {printable(one)}" for one in trace.split("\n") if one)] if trace else [line])


def members(record: logging.LogRecord) -> dict[str, Any]:
    """Return a line's members: `timestamp`, `level` and `event`, then its fields, `error` and `traceback`."""
    fields: dict[str, object] = getattr(record, "fields", {})
    found: dict[str, Any] = {
        "timestamp": datetime.fromtimestamp(record.created, UTC),
        "level": record.levelname.lower(),
        "event": record.getMessage(),
        **{name: value for name, value in fields.items() if value is not None},
    }
    if record.exc_info and record.exc_info[1]:
        error = record.exc_info[1]
        found["error"] = f"{type(error).__name__}: {error}"
        found["traceback"] = "".join(traceback.format_exception(error))
    return found


def _value(value: object) -> str:
    text = str(value)
    return text if text and text.isprintable() and " " not in text else repr(text)


def _line(text: str) -> str:
    return text if text.isprintable() else repr(text)
