"""A fake ServiceDesk Plus: API V3 on a real socket, as its vendor documents it, or in one of the ways of live portals.

    with running_sdp("cloud") as sdp:
        ticket_id = sdp.add("VPN drops")
        sdp.resolve(ticket_id, resolution="<p>Rolled back.</p>")
        sdp.fail("429", retry_after="1", times=2)  # see FAULTS
        sdp.before_answer = lambda asked: ...      # called before each answer; may edit tickets just then
        sdp.before_sending = lambda asked: ...     # called when an answer is made and not yet sent
        sdp.asked                                  # the requests that it has received
        sdp.ways.ignores_criteria = True           # see fake_sdp_ways.py

Where the vendor documents nothing, it does the least convenient thing: tickets of the same time come in any order. A
list brings what `fields_required` asks for, as live portals do; VENDORS_LIST is what the vendor's page says.
"""

import contextlib
import json
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import msgspec

from tests.support.fake_sdp_ways import DENIED, NO_ARCHIVE, THROTTLES, Ways

ACCEPT = "application/vnd.manageengine.sdp.v3+json"
PORTAL = "/app/itdesk"
ON_PREMISES = {"token": "hush-authtoken-of-a-technician"}
CLOUD = {"client_id": "1000.ID", "client_secret": "hush-client-secret", "refresh_token": "1000.hush-refresh-token"}
FAULTS = {
    "429": "too many requests, with Retry-After",
    "500": "an error of its own",
    "html": "a page for a browser, with 200",
    "502": "a proxy's error page",
    "half": "the connection ends in mid-body",
    "hang": "no answer comes",
    "trickle": "a byte now and then, without end",
    "hang_up": "the connection ends without an answer",
    "401": "it does not accept our credentials",
    "error": "HTTP 200 with an error in the body: `code`, `message`",
    "redirect": "to another host",
    "wrong": "JSON of another shape",
    "throttle": "HTTP 400 with 4015, in a `shape` of THROTTLES",
    "denied": "Zoho gives no token: too many were asked for",
    "raw": "these very bytes: `parts`; the connection ends unless it `stays_open`",
}
CONDITIONS: dict[str, Callable[[Any, Any], bool]] = {
    "is": lambda found, wanted: found == wanted,
    "is not": lambda found, wanted: found != wanted,
    "greater than": lambda found, wanted: found > wanted,
    "greater or equal": lambda found, wanted: found >= wanted,
    "lesser than": lambda found, wanted: found < wanted,
    "lesser or equal": lambda found, wanted: found <= wanted,
}
LIST_INFO = {
    "row_count", "start_index", "sort_field", "sort_order", "search_criteria", "fields_required", "get_total_count"
}  # fmt: skip
SORTABLE = {"created_time", "last_updated_time", "id", "subject"}
BARE_404 = b"<html><body><h1>404 Not Found</h1></body></html>"
HTML = b"<!DOCTYPE html><html><body>Sign in</body></html>"


class Asked(msgspec.Struct, frozen=True):
    """A request that it received: `list_info` if for a list, `ticket_id` if for one ticket, neither if for a token.

    `where` is "requests" or "archive_requests".
    """

    method: str
    path: str
    headers: dict[str, str]
    list_info: dict[str, Any] | None = None
    ticket_id: str | None = None
    where: str = "requests"


class Fault(msgspec.Struct):
    """A fault that happens `times` times, to requests with `on` in their path."""

    kind: str
    times: int
    on: str
    with_: dict[str, Any]


class RefusedError(Exception):
    """An error as API V3 has it: an HTTP status, a code and a message."""


class FakeSdp:
    """The tickets, and the requests that it has received."""

    def __init__(self, edition: str, **ways: Any) -> None:  # noqa: ANN401
        self.edition = edition
        self._first_ways = ways
        self.ways = Ways(**ways)
        self.credentials: dict[str, str] = dict(CLOUD if edition == "cloud" else ON_PREMISES)
        self.skew = timedelta(0)  # of its clock from ours
        self.asked: list[Asked] = []
        self.before_answer: Callable[[Asked], object] = lambda _asked: None
        self.before_sending: Callable[[Asked], object] = lambda _asked: None
        self.tokens: dict[str, float] = {}  # each with the time at which it expires
        self.token_seconds = 3600.0
        self.origin = ""
        self.ended = threading.Event()
        self._faults: list[Fault] = []
        self._disguises: dict[str, dict[str, bytes]] = {}
        self._tickets: dict[str, dict[str, Any]] = {}
        self._archived: dict[str, dict[str, Any]] = {}
        self._lock = threading.RLock()

    @property
    def url(self) -> str:
        """The value for `tenant sdp set --url`."""
        return self.origin + (PORTAL if self.edition == "cloud" else "")

    @property
    def bases(self) -> list[str]:
        """What an address may have between its host and /api/v3."""
        with_portal = [PORTAL] if self.edition == "cloud" else [""]
        return [*with_portal, ""] if self.ways.also_at_host else with_portal

    @property
    def given(self) -> dict[str, str]:
        """The content for `tenant sdp set --credentials-file`."""
        return self.credentials | ({"accounts_url": self.origin} if self.edition == "cloud" else {})

    def now(self) -> int:
        """Return the time by its own clock, in milliseconds."""
        return int((time.time() + self.skew.total_seconds()) * 1000)

    def add(self, subject: str = "VPN drops every hour", at: int | None = None, **members: object) -> str:
        """Add an open ticket, and return its id."""
        with self._lock:
            number = 155_000_000_000_000_000 + len(self._tickets) + len(self._archived)
            ticket_id = str(members.get("id", number))
            moment = {"value": str(at or self.now()), "display_value": "Nov 6, 2020 01:39 AM"}
            self._tickets[ticket_id] = {
                "id": ticket_id, "display_id": ticket_id[-6:].lstrip("0") or "0", "subject": subject, "description": f"<div>{subject}</div>", "resolution": None,
                "priority": {"id": "7", "name": "High"}, "status": {"id": "2", "name": "Open"}, "tags": [],
                "created_time": moment, "last_updated_time": moment, "resolved_time": None, "completed_time": None, **members,
            }  # fmt: skip
            return ticket_id

    def edit(self, ticket_id: str, at: int | None = None, **members: object) -> None:
        """Change members of a ticket, with a given update time or now."""
        with self._lock:
            updated = {"value": str(at or self.now()), "display_value": "Nov 6, 2020 01:39 AM"}
            self._tickets[ticket_id] |= {"last_updated_time": updated, **members}

    def resolve(
        self, ticket_id: str, at: int | None = None, status: str = "Resolved", resolution: str = "Rolled back."
    ) -> int:
        """Resolve a ticket, and return the time in milliseconds."""
        at = at or self.now()
        moment = {"value": str(at), "display_value": "Nov 6, 2020 01:39 AM"}
        content = {"content": f"<div>{resolution}</div>"}
        self.edit(ticket_id, at, status={"id": "4", "name": status}, resolved_time=moment, resolution=content)
        return at

    def add_resolved(self, count: int = 1, at: int | None = None, apart: int = 1000) -> list[str]:
        """Add resolved tickets, `apart` milliseconds from one another, the last at `at` or now; return their ids."""
        first = at or self.now() - (count - 1) * apart
        ids = [self.add(f"Ticket {number}", first) for number in range(count)]
        for number, ticket_id in enumerate(ids):
            self.resolve(ticket_id, first + number * apart)
        return ids

    def disguise(self, ticket_id: str, **members: bytes) -> None:
        """Answer these members of a ticket with this text instead, which need not even be JSON."""
        with self._lock:
            self._disguises[ticket_id] = members

    def clear(self) -> None:
        """Forget all tickets and requests, end all faults, and behave as at the start."""
        with self._lock:
            self.ways = Ways(**self._first_ways)
            self._tickets.clear()
            self._archived.clear()
            self._disguises.clear()
            self.asked.clear()
            self.heal()

    def encoded(self, body: dict[str, Any]) -> bytes:
        """Return an answer as JSON, but for the members that are disguised."""
        text = json.dumps(body).encode()
        for ticket_id, members in self._disguises.items():
            for name, raw in members.items():
                text = text.replace(json.dumps(_mark(ticket_id, name)).encode(), raw)
        return text

    def _shown(self, ticket: dict[str, Any]) -> dict[str, Any]:
        shown = ticket | {name: _mark(ticket["id"], name) for name in self._disguises.get(ticket["id"], {})}
        return {name: value for name, value in shown.items() if name not in self.ways.tickets_lack}

    def delete(self, ticket_id: str) -> None:
        with self._lock:
            self._tickets.pop(ticket_id, None)

    def archive(self, *ticket_ids: str) -> None:
        """Move tickets into the archive, as a schedule of the administrator does: /requests has them no more."""
        with self._lock:
            for ticket_id in ticket_ids:
                self._archived[ticket_id] = self._tickets.pop(ticket_id)

    def ids(self) -> list[str]:
        """Return the ids of all tickets."""
        with self._lock:
            return list(self._tickets)

    def ticket(self, ticket_id: str) -> dict[str, Any]:
        """Return a ticket as it is now."""
        with self._lock:
            return dict((self._tickets | self._archived)[ticket_id])

    def fail(self, kind: str, times: int = 1, on: str = "/api/v3", **with_: object) -> None:
        """Make the next `times` requests with `on` in their path fail in this way."""
        assert kind in FAULTS, kind
        self._faults.append(Fault(kind, times, on, with_))

    def go_away_at(self, ticket_id: str) -> None:
        """Answer nothing any more from the first request for this ticket on."""
        self.before_answer = lambda asked: self.fail("hang_up", times=10_000) if asked.ticket_id == ticket_id else None

    def heal(self) -> None:
        """End all faults."""
        self.before_answer = self.before_sending = lambda _asked: None
        self._faults.clear()

    def fetched(self) -> list[str]:
        """Return the ids of the tickets that were requested one by one."""
        return [one.ticket_id for one in self.asked if one.ticket_id]

    def lists(self, where: str = "requests", by: str = "last_updated_time") -> list[dict[str, Any]]:
        """Return the list_info of the lists that were requested in order of a time, of the archive or of all others."""
        lists = [one.list_info for one in self.asked if one.list_info is not None and one.where == where]
        return [one for one in lists if one.get("sort_field") == by]

    def tokens_asked(self) -> int:
        """Return how many times a token was asked for."""
        return sum(one.method == "POST" for one in self.asked)

    def fault_for(self, path: str) -> Fault | None:
        with self._lock:
            for fault in self._faults:
                if fault.times > 0 and fault.on in path:
                    fault.times -= 1
                    return fault
        return None

    def answer(self, asked: Asked) -> dict[str, Any]:
        """Return the ticket or the list that a request asks for. Raises RefusedError."""
        with self._lock:
            tickets, prefix = self._tickets, ""
            if asked.where == "archive_requests":
                if self.ways.archive in NO_ARCHIVE:
                    raise RefusedError(*NO_ARCHIVE[self.ways.archive], "Not allowed")
                tickets, prefix = self._archived, self.ways.archive
            if asked.ticket_id is None:
                body = self.ways.shaped(self._list(asked.list_info or {}, tickets))
            elif asked.ticket_id in tickets:
                found = self._shown(tickets[asked.ticket_id])
                body = {"request": found, "response_status": {"status_code": 2000, "status": "success"}}
            else:
                raise RefusedError(404, 4007, "Invalid URL or resource not found")
            return {prefix + name if name in ("request", "requests") else name: one for name, one in body.items()}

    def _list(self, info: dict[str, Any], tickets: dict[str, dict[str, Any]]) -> dict[str, Any]:
        start, rows, found = self._found(info, tickets)
        page = found[start - 1 : start - 1 + rows]
        wanted = set(info.get("fields_required") or ["id", "subject", "status", "created_time", "last_updated_time"])
        _require(not wanted & set(self.ways.refuses_fields), f"Not allowed in fields_required: {sorted(wanted)}")
        return {
            "response_status": [{"status_code": 2000, "status": "success"}],
            "list_info": {
                **info,
                "has_more_rows": start - 1 + rows < len(found),
                **({"total_count": len(found)} if info.get("get_total_count") else {}),
            },
            "requests": [
                {name: value for name, value in self._shown(one).items() if name in wanted - set(self.ways.list_lacks)}
                for one in page
            ],
        }

    def _found(self, info: dict[str, Any], tickets: dict[str, dict[str, Any]]) -> tuple[int, int, list[dict[str, Any]]]:
        """Return where a page begins, how many rows it may have, and the whole list. Raises RefusedError."""
        _require(set(info) <= LIST_INFO, f"Extra key found in list_info: {set(info) - LIST_INFO}")
        rows, start = info.get("row_count", 10), info.get("start_index", 1)
        _require(type(rows) is int and 1 <= rows <= 100, "row_count")
        _require(type(start) is int and start >= 1, "start_index")
        field, order = info.get("sort_field", "created_time"), info.get("sort_order", "desc")
        _require(field in SORTABLE and order in ("asc", "desc"), "sort_field, sort_order")
        criteria = info.get("search_criteria", [])
        criteria = criteria if isinstance(criteria, list) else [criteria]
        _require_criteria(criteria)
        if self.ways.ignores_criteria:
            criteria = []
        found = [one for one in tickets.values() if all(_fulfils(one, criterion) for criterion in criteria)]
        found.reverse()
        found.sort(key=lambda one: _value(one, field), reverse=order == "desc")
        return start, rows, found

    def authorize(self, headers: dict[str, str]) -> None:
        """Check the credentials of a request. Raises RefusedError."""
        if self.edition == "on_premises":
            if headers.get("authtoken") != self.credentials["token"]:
                raise RefusedError(401, 4022, f"Invalid API key {headers.get('authtoken')}")
            return
        if headers.get("accept") != ACCEPT:
            raise RefusedError(415, 4000, "Unsupported Accept")
        token = headers.get("authorization", "").removeprefix("Zoho-oauthtoken ")
        if self.tokens.get(token, 0.0) < time.monotonic():
            raise RefusedError(401, 4000, f"UNAUTHORISED {token}")

    def expire_tokens(self) -> None:
        self.tokens.clear()

    def token(self, form: dict[str, str]) -> dict[str, Any]:
        """Return an access token for a refresh token. As at Zoho, errors come with 200."""
        if form != {"grant_type": "refresh_token", **self.credentials}:
            return {"error": "invalid_code"}
        token = f"1000.hush-access-token-{uuid.uuid4().hex}"
        self.tokens[token] = time.monotonic() + self.token_seconds
        return {"access_token": token, "expires_in": self.token_seconds, "token_type": "Bearer"}


class Handler(BaseHTTPRequestHandler):
    """One connection."""

    protocol_version = "HTTP/1.1"
    sdp: FakeSdp

    def do_GET(self) -> None:
        try:
            asked = self._read()
            self.sdp.asked.append(asked)
            self.sdp.before_answer(asked)
            if fault := self.sdp.fault_for(self.path):
                self._go_wrong(fault, asked)
                return
            self.sdp.authorize(asked.headers)
            answer = self.sdp.answer(asked)
            self.sdp.before_sending(asked)
            self._send(200, answer)
        except RefusedError as refused:
            status, code, message = refused.args
            self._send(
                status, failed(code, message) if code else BARE_404, None if code else {"Content-Type": "text/html"}
            )

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"])).decode()
        self.sdp.asked.append(Asked("POST", self.path, self._headers()))
        if fault := self.sdp.fault_for(self.path):
            self._go_wrong(fault, None)
            return
        assert self.headers["Content-Type"] == "application/x-www-form-urlencoded"
        assert self.path == "/oauth/v2/token", self.path
        self._send(200, self.sdp.token({name: values[0] for name, values in parse_qs(body).items()}))

    def log_message(self, *_: object) -> None:
        """Log nothing."""

    def date_time_string(self, timestamp: float | None = None) -> str:
        """Return its own time, for the header Date."""
        return super().date_time_string(int((timestamp or time.time()) + self.sdp.skew.total_seconds()))

    def _read(self) -> Asked:
        parts = urlsplit(self.path)
        base, _, rest = parts.path.partition("/api/v3/")
        if base == self.sdp.ways.answers_bare_404_at or base not in self.sdp.bases:
            self.sdp.asked.append(Asked("GET", self.path, self._headers()))
            raise RefusedError(404, 0, "")
        query = parse_qs(parts.query, keep_blank_values=True)
        where, is_one, ticket_id = rest.partition("/")
        if where not in ("requests", "archive_requests") or (is_one and query):
            raise RefusedError(404, 4007, "Invalid URL or resource not found")
        if is_one:
            return Asked("GET", self.path, self._headers(), ticket_id=unquote(ticket_id), where=where)
        _require(set(query) <= {"input_data"}, f"Unknown parameters {set(query)}")
        data = json.loads(query.get("input_data", ["{}"])[0])
        _require(set(data) <= {"list_info"}, "input_data")
        return Asked("GET", self.path, self._headers(), list_info=data.get("list_info", {}), where=where)

    def _headers(self) -> dict[str, str]:
        return {name.lower(): value for name, value in self.headers.items()}

    def _go_wrong(self, fault: Fault, asked: Asked | None) -> None:
        given = fault.with_
        if fault.kind in REFUSALS:
            self._send(*REFUSALS[fault.kind](given))
        elif fault.kind == "raw":
            self.close_connection = not given.get("stays_open")
            for part in given["parts"]:
                self.wfile.write(part)
        else:
            self._break_off(fault.kind, json.dumps(self.sdp.answer(asked)).encode() if asked else b"{}")

    def _break_off(self, kind: str, body: bytes) -> None:
        """Send part of an answer, or none."""
        self.close_connection = True
        if kind == "hang":
            self.sdp.ended.wait()
        if kind in ("half", "trickle"):
            self.wfile.write(
                b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(body)
            )
        if kind == "half":
            self.wfile.write(body[: len(body) // 2])
        while kind == "trickle" and not self.sdp.ended.wait(0.05):
            try:
                self.wfile.write(b" ")
            except OSError:
                return

    def _send(self, status: int, body: dict[str, Any] | bytes, headers: dict[str, str] | None = None) -> None:
        encoded = body if isinstance(body, bytes) else self.sdp.encoded(body)
        self.send_response(status)
        for name, value in {"Content-Type": "application/json", **(headers or {})}.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(encoded)))
        self.end_headers()
        with contextlib.suppress(OSError):
            self.wfile.write(encoded)


def failed(code: int, message: str) -> dict[str, Any]:
    """Return an error in the form of API V3."""
    reason = {"status_code": code, "type": "failed", "message": message}
    return {"response_status": {"status_code": 4000, "messages": [reason], "status": "failed"}}


Given = dict[str, Any]
# What it sends: a status, a body, and headers.
REFUSALS: dict[str, Callable[[Given], tuple[int, Given | bytes, dict[str, str]]]] = {
    "429": lambda given: (
        429, failed(4015, "API rate limit reached"), {"Retry-After": str(given.get("retry_after", "0"))}
    ),
    "500": lambda _: (500, failed(4004, "Internal error"), {}),
    "html": lambda _: (200, HTML, {"Content-Type": "text/html;charset=UTF-8"}),
    "502": lambda _: (502, HTML, {"Content-Type": "text/html;charset=UTF-8"}),
    "401": lambda _: (401, failed(4000, "UNAUTHORISED"), {}),
    "error": lambda given: (200, failed(given.get("code", 4000), given.get("message", "Failed")), {}),
    "throttle": lambda given: (
        400, THROTTLES[given.get("shape", "object")], {"Retry-After": given["retry_after"]} if "retry_after" in given else {}
    ),
    "denied": lambda _: (400, DENIED, {}),
    "redirect": lambda given: (302, b"", {"Location": given.get("to", "http://127.0.0.1:1/elsewhere")}),
    "wrong": lambda given: (200, given.get("body", {"requests": "none", "request": []}), {}),
}  # fmt: skip


def _mark(ticket_id: str, name: str) -> str:
    """Return what stands for a disguised member until the answer is written."""
    return f"disguised {name} of {ticket_id}"


def _require(fulfilled: object, rule: str) -> None:
    if not fulfilled:
        raise RefusedError(400, 4000, rule)


def _require_criteria(criteria: list[dict[str, Any]]) -> None:
    for number, one in enumerate(criteria):
        _require(set(one) <= {"field", "condition", "value", "values", "logical_operator"}, "search_criteria")
        _require(number == 0 or one.get("logical_operator") == "AND", "logical_operator")
        _require(one.get("condition") in CONDITIONS, f"Unknown condition {one.get('condition')}")
        _require(one.get("field") in SORTABLE | {"display_id"}, f"Unknown field {one.get('field')}")
        _require(("value" in one) != ("values" in one), "value or values")
        _require(not one["field"].endswith("_time") or str(one["value"]).isdecimal(), "a time is in milliseconds")


def _fulfils(ticket: dict[str, Any], criterion: dict[str, Any]) -> bool:
    if "values" in criterion:
        one_of = {name: said for name, said in criterion.items() if name != "values"}
        return any(_fulfils(ticket, {**one_of, "value": one}) for one in criterion["values"])
    wanted, found = str(criterion["value"]), _value(ticket, criterion["field"])
    if found == NEVER:
        return False
    return CONDITIONS[criterion["condition"]](found, int(wanted) if wanted.isdecimal() else wanted)


NEVER = -1  # instead of a time that is null or empty: no criterion finds it


def _value(ticket: dict[str, Any], field: str) -> Any:  # noqa: ANN401
    found = ticket.get(field)
    if isinstance(found, dict):
        found = found["value"]
    if field.endswith("_time"):
        return int(found) if found not in (None, "") else NEVER
    is_number = field == "id" or (field == "display_id" and str(found).isdecimal())
    return int(str(found)) if is_number else found


@contextlib.contextmanager
def running_sdp(edition: str = "on_premises", **ways: Any) -> Iterator[FakeSdp]:  # noqa: ANN401
    """Run a fake ServiceDesk Plus that behaves in these ways (see Ways); it ends with the block."""
    sdp = FakeSdp(edition, **ways)
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Bound", (Handler,), {"sdp": sdp}))
    server.daemon_threads = True
    sdp.origin = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield sdp
    finally:
        sdp.ended.set()
        server.shutdown()
        thread.join()
        server.server_close()
