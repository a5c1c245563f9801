"""What does ServiceDesk Plus answer? Its API V3, as far as we read it; the rest of a ticket is passed on as it came."""

import re
from collections.abc import Mapping
from typing import Annotated, TypeVar
from urllib.parse import urlsplit

import msgspec
from msgspec import Meta

from app.event import native
from app.event.moment import Moment, milliseconds
from app.sdp import status
from app.sdp.errors import (
    PAUSE,
    AccessError,
    AwayError,
    GoneError,
    NowhereError,
    RefusedError,
    SdpError,
    TransientError,
    retry_after,
)
from app.sdp.mending import mended
from app.sdp.status import FAILED, FORBIDDEN, INTERNAL, INVALID_KEY, NOT_FOUND, NOT_READ, Envelope, Reason, Say, lenient
from otel import redaction

Read = TypeVar("Read")
TicketId = Annotated[str, Meta(min_length=1, max_length=100, pattern=r"\A[^\0]*[^\s\0][^\0]*\Z")]
NULL, FALSE = msgspec.Raw(b"null"), msgspec.Raw(b"false")
_NUMBER = re.compile(rb"[0-9]{1,15}")  # of more digits it may be another ticket's: JSON's usual readers round it
LABEL_CHARS = 50  # of a status' name in a line


class Answer(msgspec.Struct, frozen=True):
    """An HTTP answer."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class Status(native.Status, frozen=True):
    """A ticket's status; `in_progress` is false where ServiceDesk Plus counts it as done."""

    in_progress: msgspec.Raw = NULL

    @property
    def label(self) -> str:
        """Its name as people see it, short enough for a line."""
        return redaction.one_line(self.name or self.internal_name or "(none)")[:LABEL_CHARS]

    @property
    def is_named(self) -> bool:
        """Whether it says anything: a list may bring no status, or its id alone."""
        return bool((self.name or "").strip() or (self.internal_name or "").strip())

    @property
    def is_done(self) -> bool:
        """Whether ServiceDesk Plus says that it is no more in progress."""
        return self.in_progress == FALSE


class Times(msgspec.Struct, frozen=True):
    """The members of a whole ticket that we look at. Those that cannot be read break our rules, and are kept so."""

    id: msgspec.Raw
    status: msgspec.Raw = NULL
    resolved_time: msgspec.Raw = NULL
    completed_time: msgspec.Raw = NULL

    @property
    def resolved(self) -> int | None:
        """When it was resolved, in milliseconds since 1970; None if no member says so."""
        return milliseconds(*(lenient(Moment, one) for one in (self.resolved_time, self.completed_time)))


def read_id(raw: msgspec.Raw) -> str | None:
    """Return a ticket's id, which may be a number of up to 15 digits; None where it cannot be read."""
    return bytes(raw).decode() if _NUMBER.fullmatch(raw) else lenient(TicketId, raw)


def read_status(raw: msgspec.Raw) -> Status | None:
    """Return a ticket's status, which may be null; None where it cannot be read."""
    return Status() if raw == NULL else lenient(Status, raw)


class Whole(msgspec.Struct, frozen=True):
    """A whole ticket, as it came; the archive may name it otherwise."""

    request: msgspec.Raw = msgspec.Raw()
    archive_request: msgspec.Raw = msgspec.Raw()

    @property
    def ticket(self) -> msgspec.Raw:
        """The ticket. Raises SdpError without one."""
        if found := self.request or self.archive_request:
            return found
        raise SdpError("ServiceDesk Plus answered in a shape that we do not know: it has no member `request`")


def read(kind: type[Read], body: bytes | msgspec.Raw) -> Read:
    """Return a successful answer, or a part of one, as `kind`. Raises SdpError if it does not have that shape."""
    try:
        return msgspec.json.decode(body, type=kind)
    except NOT_READ as error:
        words = redaction.one_line(str(error))
        raise SdpError(f"ServiceDesk Plus answered in a shape that we do not know: {words}") from None


def judge(answer: Answer, say: Say = redaction.one_line) -> bytes:
    """Return the body of a successful answer, which is JSON. Raises the SdpError that fits any other answer."""
    refuse_redirect("ServiceDesk Plus", answer.status, answer.headers, say)
    body, envelope = answer.body, lenient(Envelope, answer.body)
    if envelope is None:
        body = mended(answer.body)
        envelope = lenient(Envelope, body)
    reason = status.reason(envelope, say)
    _refuse_for_now(answer, reason, say, is_json=envelope is not None)
    if answer.status in (401, 403) or reason.code in (FORBIDDEN, INVALID_KEY):
        raise AccessError(f"ServiceDesk Plus does not let us in: it answered {answer.status}{reason.words}")
    _refuse(answer.status, reason, is_of_sdp=envelope is not None and bool(envelope.statuses()))
    return body


def _refuse_for_now(answer: Answer, reason: Reason, say: Say, *, is_json: bool) -> None:
    """Raise TransientError if a later try may succeed."""
    message = f"ServiceDesk Plus answered {answer.status}{reason.words}"
    if status.is_throttle(answer.status, reason, answer.body):
        raise AwayError(message, retry_after(answer.headers, PAUSE))
    if answer.status == 429:  # noqa: PLR2004
        raise AwayError(message, retry_after(answer.headers))
    if answer.status >= 500 or reason.code == INTERNAL:  # noqa: PLR2004
        raise TransientError(message, retry_after(answer.headers))
    if not is_json and answer.status < 300:  # noqa: PLR2004
        kind = say(answer.headers.get("content-type", "").partition(";")[0])[:50] or "something"
        raise TransientError(f"ServiceDesk Plus answered with {kind} that is no JSON, or only half of it")


def _refuse(http_status: int, reason: Reason, *, is_of_sdp: bool) -> None:
    """Raise GoneError or RefusedError for an answer that is no success."""
    # A 404 without ServiceDesk Plus' status comes from a gateway or a wrong address: no ticket was deleted.
    if http_status == 404 and not is_of_sdp:  # noqa: PLR2004
        raise NowhereError(f"ServiceDesk Plus says no: it answered {http_status}{reason.words}")
    if http_status == 404 or reason.code == NOT_FOUND:  # noqa: PLR2004
        raise GoneError(f"ServiceDesk Plus has no such thing: it answered {http_status}{reason.words}")
    if http_status >= 400 or reason.code >= FAILED:  # noqa: PLR2004
        raise RefusedError(f"ServiceDesk Plus says no: it answered {http_status}{reason.words}")


def refuse_redirect(host: str, status: int, headers: Mapping[str, str], say: Say) -> None:
    """Raise SdpError if an answer of `host` points elsewhere."""
    if 300 <= status < 400:  # noqa: PLR2004
        to = say(_host(headers.get("location", ""))) or "elsewhere"
        raise SdpError(f"{host} points to {to}, where we do not follow: is its address right?")


def is_unknown(answer: Answer) -> bool:
    """Return True if ServiceDesk Plus does not accept our credentials."""
    return answer.status == 401 or status.reason(lenient(Envelope, answer.body), str).code == INVALID_KEY  # noqa: PLR2004


def _host(location: str) -> str:
    try:
        return urlsplit(location).netloc.rpartition("@")[2]
    except ValueError:
        return "what is no address"
