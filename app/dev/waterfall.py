"""How long did each step of the sample take? Its real spans, as the processes export them, drawn in a terminal."""

import asyncio
import contextlib
import threading
from collections.abc import Iterator, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import msgspec
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from app import standard_streams

NAME, BAR = 41, 24  # columns
HERE = "127.0.0.1"
SPANS = 3  # of a webhook that was promoted
PATIENCE = 3.0  # seconds to wait for spans; they come a fifth of a second after their work


class Step(msgspec.Struct, frozen=True):
    """A span: its times are nanoseconds since 1970."""

    name: str
    trace_id: str
    correlation_id: str
    start: int
    end: int


class Receiver:
    """Receives the spans of the server and the worker, and returns those of one webhook."""

    def __init__(self, port: int) -> None:
        self.environment = {
            "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": f"http://{HERE}:{port}/v1/traces",
            "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL": "http/protobuf",
            "OTEL_EXPORTER_OTLP_TRACES_COMPRESSION": "none",
            "OTEL_BSP_SCHEDULE_DELAY": "200",
        }
        self._steps: list[Step] = []
        self._done = False

    def take(self, body: bytes) -> None:
        """Keep the spans of one export request, `body`."""
        if not self._done:  # `dev` may run for days
            self._steps += _steps(ExportTraceServiceRequest.FromString(body))

    async def trace(self, correlation_id: str) -> Sequence[Step]:
        """Wait for a webhook's spans, at most PATIENCE seconds, and return those that came, in order of beginning."""
        found: list[Step] = []
        for _ in range(int(PATIENCE / 0.05)):
            found = [step for step in self._steps if step.correlation_id == correlation_id]
            if len(found) >= SPANS:
                break
            await asyncio.sleep(0.05)
        self._done = True
        self._steps.clear()
        return sorted(found, key=lambda step: (step.start, -step.end))


@contextlib.contextmanager
def receiving() -> Iterator[Receiver]:
    """Yield a receiver that listens on a port of this machine until the block ends."""
    server = ThreadingHTTPServer((HERE, 0), _Handler)
    server.daemon_threads = True
    server.receiver = receiver = Receiver(server.server_port)  # type: ignore[attr-defined]
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.1})
    thread.start()
    try:
        yield receiver
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def lines(steps: Sequence[Step]) -> Iterator[str]:
    """Yield a line for each span, with a bar where it was in time."""
    block, cut = "█…" if standard_streams.can_print("█…") else "#."
    begin = steps[0].start
    whole = max(step.end for step in steps) - begin or 1
    for step in steps:
        left = (step.start - begin) * BAR // whole
        width = max(1, round((step.end - step.start) * BAR / whole))
        bar = (" " * min(left, BAR - 1) + block * width)[:BAR]
        name = step.name if len(step.name) <= NAME else step.name[: NAME - 1] + cut
        yield f"  {name:{NAME}} {bar:{BAR}} {(step.end - step.start) / 1e6:6.1f} ms"


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        self.server.receiver.take(self.rfile.read(int(self.headers["Content-Length"])))  # type: ignore[attr-defined]
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Log nothing: the terminal is for what `dev` prints."""


def _steps(request: ExportTraceServiceRequest) -> Iterator[Step]:
    for resource in request.resource_spans:
        for scope in resource.scope_spans:
            for span in scope.spans:
                found = {one.key: one.value.string_value for one in span.attributes}
                yield Step(
                    span.name,
                    span.trace_id.hex(),
                    found.get("correlation_id", ""),
                    span.start_time_unix_nano,
                    span.end_time_unix_nano,
                )
