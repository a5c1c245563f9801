"""What answers at JAEGER_URL, where a real Jaeger would not give the answer that a test is about."""

import contextlib
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

JSON = "application/json"
NO_TRACE = (404, JSON, json.dumps({"data": None, "errors": [{"code": 404, "msg": "\x1b[2Jtrace not found"}]}))
PAGE = "<!doctype html><title>Log in</title>"
Reply = tuple[int, str, str]  # status, content type and body


def trace(*span_ids: str, correlation_id: str = "\x1b[2J") -> Reply:
    """Return Jaeger's answer for a trace of these spans, all of the delivery with this correlation id."""
    tags = [{"key": "inbox_id", "type": "int64", "value": 1}, {"key": "correlation_id", "value": correlation_id}]
    spans = [{"spanID": span_id, "operationName": "\x1b[2J", "tags": tags} for span_id in span_ids]
    return 200, JSON, json.dumps({"data": [{"traceID": "\x1b[2J", "spans": spans}], "errors": None})


class JaegerApi:
    """Where it listens, what it was asked, and what it answers: `reply` to everything, silence if it is None."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.url = f"http://127.0.0.1:{port}"
        self.reply: Reply | None = NO_TRACE
        self.headers: dict[str, str] = {}  # of the answer
        self.most = 1000  # questions that are answered; then it is silent
        self.trickles = False  # a byte at a time, for longer than anybody waits
        self.is_through = False
        self.asked: list[tuple[str, str | None]] = []  # path, Authorization
        self.ends = threading.Event()


@contextlib.contextmanager
def running_jaeger_api() -> Iterator[JaegerApi]:
    """Run one until the block ends."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            api.asked.append((self.path, self.headers.get("Authorization")))
            if api.reply is None or len(api.asked) > api.most:
                api.ends.wait()
                return
            status, content_type, body = api.reply
            self.send_response(status)
            for name, value in {"Content-Type": content_type, "Content-Length": str(len(body)), **api.headers}.items():
                self.send_header(name, value)
            self.end_headers()
            for piece in body if api.trickles else [body]:
                with contextlib.suppress(OSError):
                    self.wfile.write(piece.encode())
                if api.trickles and api.ends.wait(0.2):
                    return
            api.is_through = True

        def log_message(self, *_arguments: Any) -> None:  # noqa: ANN401
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        api = JaegerApi(server.server_port)
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        try:
            yield api
        finally:
            api.ends.set()
            server.shutdown()
            thread.join()
