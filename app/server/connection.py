"""How much, for how long and from how many does the server read? uvicorn's HTTP within limits (docs/decisions/0023)."""

import asyncio
import enum
import math
from typing import Any, ClassVar

import httptools
from uvicorn.config import Config
from uvicorn.server import ServerState

from app.server import last_answer, request_head
from app.server.buffered_transport import BufferedTransport
from app.server.plain_http import PlainHttp
from app.settings import Settings
from app.webhook import problems
from app.webhook.problems import Refusal

LINGER_SECONDS = 5.0  # after its last answer, for which a peer may send on without being read
READ = 256 * 1024  # bytes: at most so many come at once
CHUNKED = 8  # times: a body in chunks of one byte each is six times as long on its way
NEVER = math.inf


class State(enum.Enum):
    """What the connection does with the newest request on it; `Connection` draws how they follow each other."""

    IDLE = enum.auto()
    READING = enum.auto()
    ANSWERING = enum.auto()
    REFUSING = enum.auto()
    LINGERING = enum.auto()


class Connection(PlainHttp):
    """One connection. Its peer must send what we wait for by `read_by`, and take what we write by `write_by`.

    ::

              first bytes            last bytes             answered
        IDLE ─────────────► READING ────────────► ANSWERING ─────────► IDLE
          │ no room for it     │ too late, too large, not HTTP
          └─────────┬──────────┘
                    ▼
                REFUSING: reads no more; answers what came before, then refuses
                    │ the last answer is sent
                    ▼
                LINGERING: drops what comes, until the peer closes or LINGER_SECONDS are over

    We wait for the peer in IDLE, READING and LINGERING, the peer waits for us in ANSWERING and REFUSING. A pipelining
    peer sends its next request while we answer: the state is that of the newest one.
    """

    settings: ClassVar[Settings]  # handed in by shedding.within
    open: ClassVar[set["Connection"]] = set()  # all of this process

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self.transport: Any
        self.url = b""  # of the newest request, as far as it came
        self.state = State.IDLE
        self.read_by = self.write_by = NEVER  # by the loop's clock
        self._gathered = 0  # bytes of the request that is being read, and of those that it came together with
        self._stays_open = False  # after that request, once it is whole
        self._refusal: Refusal | None = None  # of the request that is being refused

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(BufferedTransport(transport, self.loop))  # type: ignore[arg-type]
        self.read_by = self.loop.time() + self.settings.request_timeout_seconds
        self.open.add(self)
        if len(self.open) > self.settings.max_connections:
            self._make_room()

    def connection_lost(self, exc: Exception | None) -> None:
        self.open.discard(self)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Read what came, unless the last answer is sent or due."""
        if self._is_deaf():
            return
        before = self.scope
        self._gathered += len(data)
        try:
            self.feed(data)
        except httptools.HttpParserError as error:
            self.refuse(last_answer.of_unread(error))
        if self._refusal or self.scope is None:  # so far, there may be nothing but line ends
            return
        if self._is_partial():
            self._on_partial(is_new=self.scope is not before)
        elif self.state is State.READING or self.scope is not before:
            self._on_whole()

    def eof_received(self) -> bool:  # type: ignore[override]
        """Answer what came although the peer sends no more, then close; TLS closes both ways at once."""
        self.transport.peer_has_ended = True
        if self.state is State.READING and not self.transport.is_closing():
            self.refuse(Refusal(400, "The request ended before it was whole: send it again."))
        is_due = self.state in (State.ANSWERING, State.REFUSING) and not self.transport.is_closing()
        if not is_due or self.scheme == "https":
            self.transport.close()
            return False
        if self.state is State.ANSWERING:
            self.cycle.keep_alive = False  # the newest one's answer is the last
        return True

    def on_headers_complete(self) -> None:
        """Refuse a request by its head, or let it in."""
        if self._gathered > self.settings.max_header_bytes:
            request_head.check_length(self.url, self.headers, self.settings.max_header_bytes)
        self.url = request_head.target_of(self.parser, self.url, self.headers)
        if self.expect_100_continue and self.parser.get_http_version() == "1.0":
            self.expect_100_continue = (
                False  # such a sender would take "100 Continue" for its answer (RFC 9110, 10.1.1)
            )
        self.let_in()

    def let_in(self) -> None:
        """Hand a request to the application."""
        super().on_headers_complete()
        self.headers = []  # for fields that follow the body: they are no headers, and must not sign it

    def on_response_complete(self) -> None:
        """Turn to the next request. uvicorn would start a timer for each answer; here `read_by` is enough."""
        self.server_state.total_requests += 1
        if self.transport.is_closing():
            return
        self.flow.resume_reading()
        if self.pipeline:
            self._start_asgi_task(*self.pipeline.pop())
        elif self._refusal:
            self._send_refusal(self._refusal)
        elif self.state is not State.READING:
            self._enter(State.IDLE, self.settings.idle_timeout_seconds)

    def pause_writing(self) -> None:
        super().pause_writing()
        self.write_by = self.loop.time() + self.settings.request_timeout_seconds

    def resume_writing(self) -> None:
        super().resume_writing()
        self.write_by = NEVER

    def refuse(self, refusal: Refusal) -> None:
        """Read no more of the request that is not whole, and refuse it after the answers that are due."""
        self._refusal = refusal
        self._enter(State.REFUSING)
        cycle = self.cycle
        if cycle is not None and cycle.scope is self.scope and cycle.more_body:
            cycle.keep_alive = self._stays_open = False
            self.scope["cut_short"] = refusal  # type: ignore[typeddict-unknown-key]
            cycle.message_event.set()  # the application answers, as it does every request whose head it has
        elif cycle is None or cycle.response_complete:
            self._send_refusal(refusal)

    def forget(self) -> None:
        """Leave a request that is whole and was answered without ever reaching the application."""
        self.scope = None  # type: ignore[assignment]
        self._enter(State.ANSWERING)
        self._gathered = 0

    def linger(self) -> None:
        """Read no more after an answer that ended the connection, and give the peer a while to close it."""
        is_sent_early = self.state in (State.READING, State.REFUSING)
        patience = LINGER_SECONDS if is_sent_early else self.settings.request_timeout_seconds
        self.state, self.read_by = State.LINGERING, min(self.read_by, self.loop.time() + patience)

    def expire(self) -> None:
        """Give up waiting for the peer: refuse a request whose head is whole, else close."""
        cycle = self.cycle
        has_head = cycle is not None and cycle.scope is self.scope
        if self.state in (State.READING, State.REFUSING) and not self.transport.is_closing() and has_head:
            seconds = self.settings.request_timeout_seconds
            self.refuse(Refusal(408, f"The body did not arrive within {seconds:g} seconds (REQUEST_TIMEOUT_SECONDS)."))
        else:
            self.open.discard(self)
            self.transport.abort()

    def _enter(self, state: State, seconds: float = NEVER) -> None:
        """Change the state; in the new one we wait `seconds` for the peer."""
        self.state, self.read_by = state, self.loop.time() + seconds
        self.transport.peer_sends = state in (State.READING, State.REFUSING)

    def _is_deaf(self) -> bool:
        if self.state in (State.REFUSING, State.LINGERING):
            return True
        return self.state is State.READING and bool(self.transport.is_closing())  # answered before it was whole

    def _is_partial(self) -> bool:
        """Return whether the newest request is not whole yet."""
        cycle = self.cycle
        return cycle is None or cycle.scope is not self.scope or cycle.more_body

    def _on_partial(self, *, is_new: bool) -> None:
        """Wait for the rest of a request, unless it is too long already; a new one has its time from now on."""
        read_by = self.loop.time() + self.settings.request_timeout_seconds if is_new else self.read_by
        self._enter(State.READING)
        self.read_by = read_by
        cycle, most = self.cycle, self.settings.max_header_bytes
        if cycle is None or cycle.scope is not self.scope:
            if self._gathered > most + READ:
                self.refuse(request_head.too_long(most))
            return
        # If it is answered before it is whole, the connection ends: nobody knows where the next request would begin.
        self._stays_open = self._stays_open or cycle.keep_alive
        cycle.keep_alive = False
        if self._gathered > most + CHUNKED * self.settings.max_body_bytes + READ:
            self.refuse(problems.too_long(self.settings.max_body_bytes))

    def _on_whole(self) -> None:
        """Answer a request that is whole."""
        if self.state is State.READING:
            if not self.cycle.response_started:
                self.cycle.keep_alive = self._stays_open
            self._stays_open = False
        self._enter(State.ANSWERING)
        self._gathered = 0

    def _make_room(self) -> None:
        """Close the connection that we have waited for longest; where none keeps us waiting, refuse this new one."""
        owing = [one for one in self.open if one.read_by < NEVER and one is not self]
        if owing:
            min(owing, key=lambda one: one.read_by).expire()
        else:
            self.refuse(Refusal(503, "Too many connections are open (MAX_CONNECTIONS); send it again."))

    def _send_refusal(self, refusal: Refusal) -> None:
        """Send the last answer of this connection, to a request that never reached a route, and log it."""
        has_body = not request_head.is_head(self.parser, self.url)
        last_answer.send(self.transport, refusal, self.headers or [], has_body=has_body)
        self.state, self.read_by = State.LINGERING, self.loop.time() + LINGER_SECONDS
