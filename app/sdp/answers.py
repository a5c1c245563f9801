"""What does ServiceDesk Plus answer? Its API V3, as far as we read it; the rest of a ticket is passed on as it came."""

from collections.abc import Callable, Mapping
from typing import Annotated, Any, TypeVar
from urllib.parse import urlsplit

import msgspec
from msgspec import Meta

from app.sdp.errors import AccessError, GoneError, SdpError, TransientError, retry_after
from app.sdp.mending import mended
from otel import redaction

Read = TypeVar("Read")
Say = Callable[[str], str]  # makes what others wrote one short line without a secret
Digits = Annotated[str, Meta(pattern=r"^[0-9]{1,15}\Z")]
TicketId = Annotated[str, Meta(min_length=1, max_length=100, pattern=r"\A[^\0]*[^\s\0][^\0]*\Z")]

# What its codes mean: https://www.manageengine.com/products/service-desk/sdpop-v3-api/getting-started/common-error-code.html
FAILED = 4000  # from here on it is an error, also where HTTP says 200
INTERNAL, TOO_MANY = 4004, 4015
FORBIDDEN, INVALID_KEY = 4002, 4022
NOT_FOUND = 4007
CODE_DIGITS = 6
STATUS_BYTES = 64 * 1024  # of the status around an answer; a longer one is not read, since each of its members costs
NOT_READ = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)


class Answer(msgspec.Struct, frozen=True):
    """An HTTP answer."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class Message(msgspec.Struct, frozen=True):
    """One of the reasons that ServiceDesk Plus gives."""

    status_code: Any = None
    message: Any = None


class ResponseStatus(msgspec.Struct, frozen=True):
    """How a request went, as ServiceDesk Plus says. A code may come as a text."""

    status_code: Any = None
    messages: msgspec.Raw = msgspec.Raw(b"[]")


class Envelope(msgspec.Struct, frozen=True):
    """The status in every answer: in an array if the answer is a list, else alone."""

    response_status: msgspec.Raw = msgspec.Raw(b"[]")

    def statuses(self) -> list[ResponseStatus]:
        """Return it in any case as a list; empty where it cannot be read."""
        return _one_or_many(ResponseStatus, self.response_status)


class Moment(msgspec.Struct, frozen=True):
    """A moment. Its display text has no time zone and the user's format, and is not read."""

    value: Digits | Annotated[int, Meta(ge=0)]


class Named(msgspec.Struct, frozen=True):
    """An object with a name."""

    name: str | None = None


class Times(msgspec.Struct, frozen=True):
    """The members of a whole ticket that we look at. Times that cannot be read break our rules, and are kept so."""

    id: TicketId
    status: Named | None = None
    resolved_time: msgspec.Raw = msgspec.Raw(b"null")
    completed_time: msgspec.Raw = msgspec.Raw(b"null")

    @property
    def resolved(self) -> int | None:
        """When it was resolved, in milliseconds since 1970; None if no member says so."""
        found = [lenient(Moment, one) for one in (self.resolved_time, self.completed_time)]
        return next((int(one.value) for one in found if one), None)


class Whole(msgspec.Struct, frozen=True):
    """A whole ticket, as it came."""

    request: msgspec.Raw


class Token(msgspec.Struct, frozen=True):
    """Zoho's answer to a refresh token."""

    access_token: Annotated[str, Meta(pattern=r"^[\x21-\x7e]{0,2000}\Z")] = ""
    expires_in: float = 3600.0
    error: str = ""


def read(kind: type[Read], body: bytes | msgspec.Raw) -> Read:
    """Return a successful answer, or a part of one, as `kind`. Raises SdpError if it does not have that shape."""
    try:
        return msgspec.json.decode(body, type=kind)
    except NOT_READ as error:
        words = redaction.one_line(str(error))
        raise SdpError(f"ServiceDesk Plus answered in a shape that we do not know: {words}") from None


def lenient(kind: type[Read], body: bytes | msgspec.Raw) -> Read | None:
    """Return a part of an answer as `kind`; None if it does not have that shape."""
    try:
        return msgspec.json.decode(body, type=kind)
    except NOT_READ:
        return None


def judge(answer: Answer, say: Say = redaction.one_line) -> bytes:
    """Return the body of a successful answer, which is JSON. Raises the SdpError that fits any other answer."""
    refuse_redirect("ServiceDesk Plus", answer.status, answer.headers, say)
    body, envelope = answer.body, lenient(Envelope, answer.body)
    if envelope is None:
        body = mended(answer.body)
        envelope = lenient(Envelope, body)
    code, why = _reason(envelope, say)
    if answer.status == 429 or answer.status >= 500 or code in (TOO_MANY, INTERNAL):  # noqa: PLR2004
        message = f"ServiceDesk Plus answered {answer.status}{why}"
        raise TransientError(message, retry_after(answer.headers))
    if envelope is None and answer.status < 300:  # noqa: PLR2004
        kind = say(answer.headers.get("content-type", "").partition(";")[0])[:50] or "something"
        raise TransientError(f"ServiceDesk Plus answered with {kind} that is no JSON, or only half of it")
    if answer.status in (401, 403) or code in (FORBIDDEN, INVALID_KEY):
        raise AccessError(f"ServiceDesk Plus does not let us in: it answered {answer.status}{why}")
    # A 404 without ServiceDesk Plus' status comes from a gateway or a wrong address: no ticket was deleted.
    if envelope is not None and (code == NOT_FOUND or (answer.status == 404 and envelope.statuses())):  # noqa: PLR2004
        raise GoneError(f"ServiceDesk Plus has no such thing: it answered {answer.status}{why}")
    if answer.status >= 400 or code >= FAILED:  # noqa: PLR2004
        raise SdpError(f"ServiceDesk Plus says no: it answered {answer.status}{why}")
    return body


def refuse_redirect(host: str, status: int, headers: Mapping[str, str], say: Say) -> None:
    """Raise SdpError if an answer of `host` points elsewhere."""
    if 300 <= status < 400:  # noqa: PLR2004
        to = say(_host(headers.get("location", ""))) or "elsewhere"
        raise SdpError(f"{host} points to {to}, where we do not follow: is its address right?")


def is_unknown(answer: Answer) -> bool:
    """Return True if ServiceDesk Plus does not accept our credentials."""
    return answer.status == 401 or _reason(lenient(Envelope, answer.body), str)[0] == INVALID_KEY  # noqa: PLR2004


def _host(location: str) -> str:
    try:
        return urlsplit(location).netloc.rpartition("@")[2]
    except ValueError:
        return "what is no address"


def _reason(envelope: Envelope | None, say: Say) -> tuple[int, str]:
    """Return ServiceDesk Plus' status code, and its words for it if that is an error."""
    statuses = envelope.statuses() if envelope else []
    worst = max(statuses, key=lambda one: _code(one.status_code), default=ResponseStatus())
    if _code(worst.status_code) < FAILED:
        return _code(worst.status_code), ""
    [first, *_] = [*_one_or_many(Message, worst.messages), Message()]
    code = _code(first.status_code) or _code(worst.status_code)
    return code, f" with {code}" + (f", '{say(first.message)}'" if isinstance(first.message, str) else "")


def _code(found: object) -> int:
    """Return a status code, which may come as a text; 0 for what is none."""
    if isinstance(found, str) and found.isascii() and found.isdecimal():
        found = int(found[:CODE_DIGITS])
    return found if isinstance(found, int) and 0 <= found < 10**CODE_DIGITS else 0


def _one_or_many(kind: type[Read], found: msgspec.Raw) -> list[Read]:
    """Return a member that is an object or an array of them as a list; empty where it cannot be read."""
    if len(found) > STATUS_BYTES:
        return []
    one = lenient(kind, found)
    return [one] if one is not None else lenient(list[kind], found) or []  # type: ignore[valid-type]
