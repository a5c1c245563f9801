"""How do a supervisor and Prometheus look at a worker? /health/live, /health/ready and /metrics, from a thread.

The thread answers even where the event loop hangs, which is what `live` is for.
"""

import socket
import threading
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

import msgspec

from jobs.vital_signs import VitalSigns
from otel import metrics

JSON, PROBLEM = "application/json", "application/problem+json"
SECONDS = 5.0  # that a client has for its request; each has a thread
Answer = tuple[int, str, bytes]  # status, content type, body


class HealthPort(ThreadingHTTPServer):
    """Answers what a worker's `signs` say, on a socket that listens."""

    daemon_threads = True

    def __init__(self, listening: socket.socket, signs: VitalSigns) -> None:
        self.signs = signs
        super().__init__(listening.getsockname(), Handler, bind_and_activate=False)
        self.socket.close()
        self.socket = listening
        self.server_name, self.server_port = listening.getsockname()[:2]


class Handler(BaseHTTPRequestHandler):
    """One request: GET or HEAD of one of three paths."""

    timeout = SECONDS
    server: HealthPort

    def do_GET(self) -> None:
        status, content_type, body = self._answer(urlsplit(self.path).path)
        self.send_response(status)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)

    do_HEAD = do_GET  # noqa: N815

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        """Log nothing: a probe every second is no news."""

    def _answer(self, path: str) -> Answer:
        signs = self.server.signs
        if path == "/health/live":
            return _health("live", signs.why_not_live())
        if path == "/health/ready":
            return _health("ready", signs.why_not_ready())
        if path in ("/", "/metrics"):
            body, content_type = metrics.exposition(self.headers.get("Accept", ""))
            return 200, content_type, body
        return _problem(404, "there are /health/live, /health/ready and /metrics here")


def serve(listening: socket.socket, signs: VitalSigns) -> None:
    """Answer on a socket that listens, from a thread."""
    answering = HealthPort(listening, signs)
    threading.Thread(target=answering.serve_forever, name="health", daemon=True).start()


def _health(what: str, trouble: str) -> Answer:
    if trouble:
        return _problem(503, f"The worker is not {what}: {trouble}.")
    return 200, JSON, msgspec.json.encode({"status": what})


def _problem(status: int, detail: str) -> Answer:
    problem = {"type": "about:blank", "title": HTTPStatus(status).phrase, "status": status, "detail": detail}
    return status, PROBLEM, msgspec.json.encode(problem)
