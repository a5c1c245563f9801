"""Is a trace in Jaeger, whole? `trace` asks before it prints a link.

Of an answer only the status and the ids of its spans count: nothing of what a server sends is printed.
"""

import queue
import threading
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import urlsplit, urlunsplit

import msgspec

if TYPE_CHECKING:
    import httpx

    Todo = queue.SimpleQueue["Wanted"]
    Answers = queue.SimpleQueue[tuple["Wanted", "Answer"]]

WITHIN = 2.0  # seconds for one answer
WITHIN_FOR_ALL = 5.0  # seconds
AT_ONCE = 4  # questions
MOST_BYTES = 8 * 1024 * 1024  # of an answer; a webhook's trace has some 5 KB, but its sender may have added to it
HAS_IT, HAS_NONE = 200, 404
VARIABLES = "JAEGER_URL, HTTP_PROXY, HTTPS_PROXY, ALL_PROXY, NO_PROXY, SSL_CERT_FILE, SSL_CERT_DIR"


class Wanted(msgspec.Struct, frozen=True):
    """A delivery's trace and, in it, the span that stands for the request: their ids in hexadecimal."""

    trace_id: str
    span_id: str
    correlation_id: str


class Answer(msgspec.Struct, frozen=True):
    """What Jaeger has of a delivery: `whole` with the request's span, `partial` without it; why not, if it is unknown.

    It is `absent` too where its trace has others' spans alone, such as its sender's.
    """

    found: Literal["whole", "partial", "absent", "unknown"]
    reason: str | None = None


class _Tag(msgspec.Struct):
    key: str
    value: Any = None


class _Span(msgspec.Struct):
    id: str = msgspec.field(name="spanID")
    tags: list[_Tag] = []


class _Trace(msgspec.Struct):
    spans: list[_Span]


class _Error(msgspec.Struct):
    code: int = 0


class _Reply(msgspec.Struct):
    """What Jaeger's API answers: traces, or errors."""

    data: list[_Trace] | None
    errors: list[_Error] | None = None


class Jaeger:
    """A Jaeger by the URL of its pages, which may have a path, and a name and password for a proxy before it."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self._url = url
        self.host = parts.netloc.rpartition("@")[2]
        self._base = urlunsplit((parts.scheme, self.host, parts.path.rstrip("/"), "", ""))

    def link(self, trace_id: str) -> str:
        """Return the address of a trace's page, without name and password."""
        return f"{self._base}/trace/{trace_id}"

    def ask(self, wanted: Sequence[Wanted]) -> dict[Wanted, Answer]:
        """Return what Jaeger has of each trace; past WITHIN or WITHIN_FOR_ALL, or after one failure, it is unknown."""
        import httpx  # noqa: PLC0415  (--help stays fast)

        try:
            whose = httpx.URL(self._url)
            auth = (whose.username, whose.password) if whose.userinfo else None
            client = httpx.Client(timeout=WITHIN, auth=auth, follow_redirects=False)
        except (ImportError, OSError, ValueError, httpx.InvalidURL):
            return dict.fromkeys(wanted, Answer("unknown", f"a variable is wrong: look at {VARIABLES}"))
        with client:
            return self._collect(client, list(dict.fromkeys(wanted)))

    def _collect(self, client: "httpx.Client", wanted: list[Wanted]) -> dict[Wanted, Answer]:
        """Have threads ask, since nothing can cut a name's lookup short: one that still waits ends with the process."""
        todo: Todo = queue.SimpleQueue()
        answers: Answers = queue.SimpleQueue()
        for one in wanted:
            todo.put(one)
        for _ in wanted[:AT_ONCE]:
            threading.Thread(target=self._ask_each, args=(client, todo, answers), daemon=True).start()
        found: dict[Wanted, Answer] = {}
        deadline = time.monotonic() + WITHIN_FOR_ALL
        while len(found) < len(wanted):
            which, answer = self._next(answers, deadline - time.monotonic())
            if which is None or answer.reason:
                return dict.fromkeys(wanted, answer) | found
            found[which] = answer
        return found

    def _next(self, answers: "Answers", left: float) -> "tuple[Wanted | None, Answer]":
        """Return the next answer; or None, and why the rest is given up, `left` seconds before the end of all."""
        try:
            if left > 0:
                return answers.get(timeout=min(WITHIN, left))
        except queue.Empty:
            if left > WITHIN:
                return None, self._late()
        return None, Answer("unknown", f"{self.host} has not answered for all traces within {WITHIN_FOR_ALL:.0f} s")

    def _ask_each(self, client: "httpx.Client", todo: "Todo", answers: "Answers") -> None:
        while True:
            try:
                one = todo.get_nowait()
            except queue.Empty:
                return
            answer = self._ask_one(client, one)
            answers.put((one, answer))
            if answer.reason:
                return  # the first failure ends the asking

    def _ask_one(self, client: "httpx.Client", wanted: Wanted) -> Answer:
        from urllib.request import getproxies  # noqa: PLC0415  (--help stays fast)

        import httpx  # noqa: PLC0415

        try:
            with client.stream("GET", f"{self._base}/api/traces/{wanted.trace_id}") as response:
                return self._judge(response.status_code, _body(response), wanted)
        except httpx.TimeoutException:
            return self._late()
        except Exception:  # noqa: BLE001  (whatever an address, a proxy or an answer leads to: its words are not ours)
            variables = "; HTTP_PROXY, HTTPS_PROXY, ALL_PROXY and NO_PROXY count" if getproxies() else ""
            return Answer("unknown", f"{self.host} cannot be reached, or does not speak HTTP{variables}")

    def _judge(self, status: int, body: bytes, wanted: Wanted) -> Answer:
        """Return what an answer says; a page, such as a proxy's login, says nothing of a trace."""
        reply = _decoded(body)
        if status == HAS_IT and reply and reply.data:
            return Answer(_found([span for trace in reply.data for span in trace.spans], wanted))
        if status == HAS_NONE and reply and any(error.code == HAS_NONE for error in reply.errors or ()):
            return Answer("absent")
        return Answer("unknown", f"{self.host} answers {status}, and not as Jaeger does")

    def _late(self) -> Answer:
        return Answer("unknown", f"{self.host} gives no answer within {WITHIN:.0f} s")


def _body(response: "httpx.Response") -> bytes:
    """Return the answer's body, or as much of it as may be read."""
    read = bytearray()
    for piece in response.iter_bytes():
        read += piece
        if len(read) > MOST_BYTES:
            break
    return bytes(read)


def _found(spans: list[_Span], wanted: Wanted) -> Literal["whole", "partial", "absent"]:
    """Return what of a delivery is among a trace's spans; each of ours has its correlation id."""
    if any(span.id.zfill(16) == wanted.span_id for span in spans):
        return "whole"
    ours = _Tag("correlation_id", wanted.correlation_id)
    return "partial" if any(ours in span.tags for span in spans) else "absent"


def _decoded(body: bytes) -> _Reply | None:
    try:
        return msgspec.json.decode(body, type=_Reply)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
