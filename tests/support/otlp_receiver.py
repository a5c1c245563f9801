"""A real OTLP receiver, over HTTP or gRPC, in the tests' own process; its answer may change while it runs."""

import contextlib
import gzip
import socket
import ssl
import threading
import time
import zlib
from collections.abc import Callable, Iterator
from concurrent import futures
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import grpc
from opentelemetry.proto.collector.logs.v1 import logs_service_pb2, logs_service_pb2_grpc
from opentelemetry.proto.collector.metrics.v1 import metrics_service_pb2, metrics_service_pb2_grpc
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2, trace_service_pb2_grpc

from tests.support.certificates import Authority
from tests.support.otlp_answer import Answer
from tests.support.otlp_received import Receiver, Span, attributes

__all__ = ["Receiver", "Span", "attributes", "receiving_grpc", "receiving_http"]
MESSAGES: dict[str, tuple[Any, Any]] = {  # request and answer
    "/v1/traces": (trace_service_pb2.ExportTraceServiceRequest, trace_service_pb2.ExportTraceServiceResponse),
    "/v1/metrics": (metrics_service_pb2.ExportMetricsServiceRequest, metrics_service_pb2.ExportMetricsServiceResponse),
    "/v1/logs": (logs_service_pb2.ExportLogsServiceRequest, logs_service_pb2.ExportLogsServiceResponse),
}
UNPACK: dict[str, Callable[[bytes], bytes]] = {"": bytes, "gzip": gzip.decompress, "deflate": zlib.decompress}


@contextlib.contextmanager
def receiving_http(
    answer: int = 200, delay: float = 0.0, port: int = 0, tls: Authority | None = None
) -> Iterator[Receiver]:
    """Receive OTLP over HTTP; answer with `answer` after `delay` seconds, or what the receiver's `answer` is set to.

    With `tls` it shows that authority's certificate `receiver`, and wants one of it from clients.
    """
    receiver = Receiver()
    receiver.answer = Answer(status=answer, delay=delay)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            answer = receiver.answer
            time.sleep(answer.delay)
            receiver.headers.append({name.lower(): value for name, value in self.headers.items()})
            request, response = MESSAGES[self.path]
            receiver.receive(request.FromString(UNPACK[self.headers.get("Content-Encoding", "")](body)), answer)
            self._write(answer, answer.http_body(response()))

        def _write(self, answer: Answer, body: bytes) -> None:
            self.send_response(answer.status)
            for name, value in answer.headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(body) + answer.missing))
            self.end_headers()
            self.wfile.write(body)
            self.close_connection = bool(answer.missing)

        def log_message(self, *_: object) -> None:
            pass

    server = Listener(("127.0.0.1", port), Handler)
    if tls:
        server.socket = _wanting_certificates(tls).wrap_socket(server.socket, server_side=True)
    scheme = "https" if tls else "http"
    receiver.endpoint, receiver.protocol = f"{scheme}://127.0.0.1:{server.server_port}", "http/protobuf"
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    try:
        yield receiver
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class Listener(ThreadingHTTPServer):
    """A server whose clients may break off."""

    daemon_threads = True

    def __init__(self, *arguments: Any) -> None:  # noqa: ANN401
        super().__init__(*arguments)
        self._connections: list[socket.socket] = []

    def get_request(self) -> tuple[socket.socket, Any]:
        connection, address = super().get_request()
        self._connections.append(connection)
        return connection, address

    def server_close(self) -> None:
        """Close the connections too: a client that keeps one would go on talking to a thread of this server."""
        super().server_close()
        for connection in self._connections:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def handle_error(self, *_: object) -> None:
        pass


def _wanting_certificates(authority: Authority) -> ssl.SSLContext:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=str(authority.path))
    certificate = authority.sign("receiver", "127.0.0.1")
    context.load_cert_chain(certificate, certificate.with_suffix(".key"))
    context.verify_mode = ssl.CERT_REQUIRED
    return context


@contextlib.contextmanager
def receiving_grpc(port: int = 0, tls: Authority | None = None) -> Iterator[Receiver]:
    """Receive OTLP over gRPC; answer as the receiver's `answer` is set to, with `tls` as over HTTP."""
    receiver = Receiver()

    def taking(response: type[Any]) -> Callable[..., Any]:
        def export(_self: object, request: Any, context: Any) -> Any:  # noqa: ANN401
            answer = receiver.answer
            time.sleep(answer.delay)
            receiver.headers.append(dict(context.invocation_metadata()))
            receiver.receive(request, answer)
            answer.abort(context)
            return answer.fill(response())

        return export

    server = grpc.server(futures.ThreadPoolExecutor(4))
    for module, grpc_module, name in (
        (trace_service_pb2, trace_service_pb2_grpc, "Trace"),
        (metrics_service_pb2, metrics_service_pb2_grpc, "Metrics"),
        (logs_service_pb2, logs_service_pb2_grpc, "Logs"),
    ):
        export = taking(getattr(module, f"Export{name}ServiceResponse"))
        servicer = type(name, (getattr(grpc_module, f"{name}ServiceServicer"),), {"Export": export})()
        getattr(grpc_module, f"add_{name}ServiceServicer_to_server")(servicer, server)
    address, receiver.protocol = f"127.0.0.1:{port}", "grpc"
    chosen = server.add_secure_port(address, _credentials(tls)) if tls else server.add_insecure_port(address)
    receiver.endpoint = f"{'https' if tls else 'http'}://127.0.0.1:{chosen}"
    server.start()
    try:
        yield receiver
    finally:
        server.stop(grace=None).wait()


def _credentials(authority: Authority) -> Any:  # noqa: ANN401
    certificate = authority.sign("receiver", "127.0.0.1")
    pair = certificate.with_suffix(".key").read_bytes(), certificate.read_bytes()
    return grpc.ssl_server_credentials([pair], authority.path.read_bytes(), require_client_auth=True)
