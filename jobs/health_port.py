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
    """Answers what a worker's `signs` say; IPv6's any-address takes IPv4 too."""

    daemon_threads = True

    def __init__(self, host: str, port: int, signs: VitalSigns) -> None:
        self.signs = signs
        host = host.strip("[]")
        self.address_family = socket.AF_INET6 if ":" in host else socket.AF_INET
        super().__init__((host, port), Handler)

    def server_bind(self) -> None:
        if self.address_family == socket.AF_INET6 and socket.has_dualstack_ipv6():
            self.socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        super().server_bind()


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


def serve(host: str, port: int, signs: VitalSigns) -> None:
    """Answer on `port`, from a thread; not at all if it is 0. Raises OSError."""
    if port:
        answering = HealthPort(host, port, signs)
        threading.Thread(target=answering.serve_forever, name="health", daemon=True).start()


def _health(what: str, trouble: str) -> Answer:
    if trouble:
        return _problem(503, f"The worker is not {what}: {trouble}.")
    return 200, JSON, msgspec.json.encode({"status": what})


def _problem(status: int, detail: str) -> Answer:
    problem = {"type": "about:blank", "title": HTTPStatus(status).phrase, "status": status, "detail": detail}
    return status, PROBLEM, msgspec.json.encode(problem)
