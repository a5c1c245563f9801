"""How much, for how long and from how many at once do we listen? uvicorn's HTTP within limits (docs/decisions/0023)."""

import asyncio
import math
from typing import Any

import httptools
from uvicorn.config import Config
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.server import ServerState

from app.server.buffered_transport import CorkedTransport
from app.settings import Settings  # noqa: TC001  (as everywhere here)
from app.webhook import problems, request_record
from app.webhook.problems import Refusal

OPEN: set["Connection"] = set()  # all of this process; app/server/deadlines.py looks after them
LINGER_SECONDS = 5.0  # so long a peer may send on after its last answer, without being heard
READ = 256 * 1024  # bytes: at most so many come at once
CHUNKED = 8  # times: a body in chunks of one byte each is six times as long on its way
OURS = math.inf  # due while it is our turn


class Connection(HttpToolsProtocol):
    """One connection, and by when its peer is `due` to have sent what we wait for."""

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self.transport: Any
        self.settings: Settings = config.loaded_app.state.settings
        self.due = OURS
        self.stuck = OURS  # by when it must have taken what we write
        self.is_lingering = False
        self.is_half = False  # a request has begun and is not whole
        self._gathered = 0  # bytes of that request, and of those that it came together with
        self._keeps_alive = False  # whether it may be followed by another, once it is whole
        self._last: Refusal | None = None  # what ends the connection after the answers that are due

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(CorkedTransport(transport, self.loop))  # type: ignore[arg-type]
        self.due = self.loop.time() + self.settings.request_timeout_seconds
        OPEN.add(self)
        if len(OPEN) > self.settings.max_connections:
            self._make_room()

    def connection_lost(self, exc: Exception | None) -> None:
        OPEN.discard(self)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Take in what came. Once we have said the last word, whatever comes is dropped."""
        if self.is_half and (self._last or self.transport.is_closing()):
            return
        before = self.scope
        self._gathered += len(data)
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade as offer:
            self._decline(offer, memoryview(data))
        except httptools.HttpParserError as error:
            self._misread(error)
        if self._last or self.scope is None:  # so far, there may be nothing but line ends
            return
        cycle = self.cycle
        if cycle is None or cycle.scope is not self.scope or cycle.more_body:
            self._wait(began=self.scope is not before)
        elif self.is_half or self.scope is not before:
            self.due, self._gathered = OURS, 0
            if self.is_half:
                self._go_on()

    def on_headers_complete(self) -> None:
        if self._gathered > self.settings.max_header_bytes:
            self._check_head()
        if self.expect_100_continue and self.parser.get_http_version() == "1.0":
            self.expect_100_continue = (
                False  # such a sender would take "100 Continue" for its answer (RFC 9110, 10.1.1)
            )
        super().on_headers_complete()
        self.headers = []  # for fields that follow the body: they are no headers, and must not sign it

    def on_response_complete(self) -> None:
        """Turn to the next request. uvicorn would start a timer for each answer; here `due` is enough."""
        self.server_state.total_requests += 1
        if self.transport.is_closing():
            return
        self.flow.resume_reading()
        if self.pipeline:
            self._start_asgi_task(*self.pipeline.pop())
        elif self._last:
            self._say_last(self._last)
        elif not self.is_half:
            self.due = self.loop.time() + self.settings.idle_timeout_seconds

    def shutdown(self) -> None:
        """Finish what has begun. A request that is not whole has half of the time for that, so that it is answered."""
        super().shutdown()
        self._keeps_alive = False
        if self.due < OURS or self.is_half:
            self.due = min(self.due, self.loop.time() + self.settings.shutdown_timeout_seconds / 2)

    def pause_writing(self) -> None:
        super().pause_writing()
        self.stuck = self.loop.time() + self.settings.request_timeout_seconds

    def resume_writing(self) -> None:
        super().resume_writing()
        self.stuck = OURS

    def refuse(self, refusal: Refusal) -> None:
        """Refuse the request that is not whole, after the answers that are due, and listen no more."""
        self._last, self.due = refusal, OURS
        self.is_half = self.transport.peer_sends = True
        cycle = self.cycle
        if cycle is not None and cycle.scope is self.scope and cycle.more_body:
            cycle.keep_alive = self._keeps_alive = False
            self.scope["cut_short"] = refusal  # type: ignore[typeddict-unknown-key]
            cycle.message_event.set()  # the application answers, as it does every request whose head it has
        elif cycle is None or cycle.response_complete:
            self._say_last(refusal)

    def forget(self) -> None:
        """Leave a request that is whole and was answered without ever reaching the application."""
        self.scope = None  # type: ignore[assignment]
        self.is_half = self.transport.peer_sends = False
        self._gathered = 0

    def expire(self) -> None:
        """Give up waiting for the peer."""
        cycle = self.cycle
        if self.is_half and not self.transport.is_closing() and cycle is not None and cycle.scope is self.scope:
            seconds = self.settings.request_timeout_seconds
            self.refuse(Refusal(408, f"The body did not arrive within {seconds:g} seconds (REQUEST_TIMEOUT_SECONDS)."))
        else:
            OPEN.discard(self)
            self.transport.abort()

    def _should_upgrade(self) -> bool:
        return True  # uvicorn leaves it to us, and we decline

    def _decline(self, offer: Exception, data: memoryview) -> None:
        """Read a request that offers another protocol as if it did not (RFC 9110, 7.8); Java's HttpClient always does.

        The parser takes no body for such a request, and what follows for anything but HTTP (uvicorn's issue 2722).
        """
        try:
            while offer:
                self._read_plainly()
                data, offer = data[offer.args[0] :], None  # type: ignore[assignment]
                try:
                    self.parser.feed_data(data)
                except httptools.HttpParserUpgrade as another:
                    offer = another
        except httptools.HttpParserError as error:
            self._misread(error)

    def _read_plainly(self) -> None:
        if self.scope["method"] == "CONNECT":
            raise httptools.HttpParserError("CONNECT asks for a tunnel")
        line = [self.scope["method"].encode(), b" ", self.url, b" HTTP/", self.scope["http_version"].encode(), b"\r\n"]
        fields = [b"%b: %b\r\n" % field for field in self.scope["headers"] if field[0] != b"upgrade"]
        self.parser = httptools.HttpRequestParser(self)
        self.parser.set_dangerous_leniencies(lenient_data_after_close=True)
        self.parser.feed_data(b"".join([*line, *fields, b"\r\n"]))

    def _misread(self, error: httptools.HttpParserError) -> None:
        known = error.__context__ if isinstance(error.__context__, Refusal) else None
        # An error of a callback of ours, of which the target is the only cause that we know.
        words = "its target is no path" if isinstance(error, httptools.HttpParserCallbackError) else error
        cause = f"{error}: {error.__context__!r:.200}"
        self.refuse(known or Refusal(400, f"The request cannot be read: {words}.", cause=cause))

    def _check_head(self) -> None:
        """Raise the refusal of a head over the limit; the parser hands it on."""
        most = self.settings.max_header_bytes
        if len(self.url) + sum(len(name) + len(value) + 4 for name, value in self.headers) > most:
            raise _head_too_long(most)

    def _wait(self, *, began: bool) -> None:
        """Wait for the rest of a request, until it is due or too long."""
        if began:
            self.due = self.loop.time() + self.settings.request_timeout_seconds
        self.is_half = self.transport.peer_sends = True
        cycle, most = self.cycle, self.settings.max_header_bytes
        if cycle is None or cycle.scope is not self.scope:
            if self._gathered > most + READ:
                self.refuse(_head_too_long(most))
            return
        # What is answered before it is whole is the last on its connection: nobody knows where the next would begin.
        self._keeps_alive = self._keeps_alive or cycle.keep_alive
        cycle.keep_alive = False
        if self._gathered > most + CHUNKED * self.settings.max_body_bytes + READ:
            self.refuse(problems.too_long(self.settings.max_body_bytes))

    def _go_on(self) -> None:
        """What was half is whole."""
        self.is_half = self.transport.peer_sends = False
        if not self.cycle.response_started:
            self.cycle.keep_alive = self._keeps_alive
        self._keeps_alive = False

    def _make_room(self) -> None:
        """Drop whom we have waited for longest; where all wait for us, refuse the newcomer."""
        owing = [one for one in OPEN if one.due < OURS and one is not self]
        if owing:
            min(owing, key=lambda one: one.due).expire()
        else:
            self.refuse(Refusal(503, "Too many connections are open (MAX_CONNECTIONS); send it again."))

    def _say_last(self, refusal: Refusal) -> None:
        given = dict(reversed(self.headers or [])).get(request_record.HEADER_BYTES)
        self.transport.write(problems.unread(refusal, request_record.correlation_id_of(given)))
        self.transport.close()
        self.due, self.is_lingering = self.loop.time() + LINGER_SECONDS, True


def _head_too_long(most: int) -> Refusal:
    return Refusal(431, f"The request's line and headers are longer than {most:,} bytes (MAX_HEADER_BYTES).")
