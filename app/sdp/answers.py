"""What does ServiceDesk Plus answer? Its API V3, as far as we read it; the rest of a ticket is passed on as it came."""

import json
from collections.abc import Mapping
from typing import Annotated, TypeVar
from urllib.parse import urlsplit

import msgspec
from msgspec import Meta

from app.sdp.errors import AccessError, GoneError, SdpError, TransientError, retry_after

Read = TypeVar("Read", bound=msgspec.Struct)
Milliseconds = Annotated[str, Meta(pattern=r"^[0-9]{1,15}$")]
TicketId = Annotated[str, Meta(min_length=1, max_length=100)]  # digits, too many for a JavaScript number

# What its codes mean: https://www.manageengine.com/products/service-desk/sdpop-v3-api/getting-started/common-error-code.html
FAILED = 4000  # from here on it is an error, also where HTTP says 200
INTERNAL, TOO_MANY = 4004, 4015
FORBIDDEN, INVALID_KEY = 4002, 4022
NOT_FOUND = 4007


class Answer(msgspec.Struct, frozen=True):
    """An HTTP answer."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class Message(msgspec.Struct, frozen=True):
    """One of the reasons that ServiceDesk Plus gives."""

    status_code: int | None = None
    message: str | None = None


class ResponseStatus(msgspec.Struct, frozen=True):
    """How a request went, as ServiceDesk Plus says."""

    status_code: int = 2000
    messages: list[Message] = []


class Envelope(msgspec.Struct, frozen=True):
    """The status in every answer: in an array if the answer is a list, else alone."""

    response_status: ResponseStatus | list[ResponseStatus] = []


class Moment(msgspec.Struct, frozen=True):
    """A moment. Its display text has no time zone and the user's format, and is not read."""

    value: Milliseconds


class Named(msgspec.Struct, frozen=True):
    """An object with a name."""

    name: str | None = None


class Row(msgspec.Struct, frozen=True):
    """A ticket in a list."""

    id: TicketId
    last_updated_time: Moment
    status: Named | None = None

    @property
    def updated(self) -> int:
        """When it was last updated, in milliseconds since 1970."""
        return int(self.last_updated_time.value)


class ListInfo(msgspec.Struct, frozen=True):
    """What ServiceDesk Plus says of a list."""

    has_more_rows: bool
    total_count: int | None = None


class Page(msgspec.Struct, frozen=True):
    """A part of the list of tickets."""

    requests: list[Row]
    list_info: ListInfo


class Times(msgspec.Struct, frozen=True):
    """The members of a whole ticket that we look at."""

    id: TicketId
    status: Named | None = None
    resolved_time: Moment | None = None
    completed_time: Moment | None = None

    @property
    def resolved(self) -> int | None:
        """When it was resolved, in milliseconds since 1970; None if no member says so."""
        moment = self.resolved_time or self.completed_time
        return int(moment.value) if moment else None


class Whole(msgspec.Struct, frozen=True):
    """A whole ticket, as it came."""

    request: msgspec.Raw


class Token(msgspec.Struct, frozen=True):
    """Zoho's answer to a refresh token."""

    access_token: Annotated[str, Meta(pattern=r"^[\x21-\x7e]*\Z")] = ""
    expires_in: float = 3600.0
    error: str = ""


def read(kind: type[Read], body: bytes | msgspec.Raw) -> Read:
    """Return a successful answer as `kind`. Raises SdpError if it does not have that shape."""
    try:
        return msgspec.json.decode(body, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise SdpError(f"ServiceDesk Plus answered in a shape that we do not know: {error}") from None


def judge(answer: Answer) -> bytes:
    """Return the body of a successful answer, which is JSON. Raises the SdpError that fits any other answer."""
    if 300 <= answer.status < 400:  # noqa: PLR2004
        host = urlsplit(answer.headers.get("location", "")).netloc or "elsewhere"
        raise SdpError(f"ServiceDesk Plus points to {host}, where we do not follow: is its address right?")
    body, envelope = answer.body, _envelope(answer.body)
    if envelope is None:
        body = _mended(answer.body)
        envelope = _envelope(body)
    code, why = _reason(envelope)
    if answer.status == 429 or answer.status >= 500 or code in (TOO_MANY, INTERNAL):  # noqa: PLR2004
        message = f"ServiceDesk Plus answered {answer.status}{why}"
        raise TransientError(message, retry_after(answer.headers))
    if envelope is None and answer.status < 300:  # noqa: PLR2004
        raise TransientError(f"ServiceDesk Plus answered with {_kind(answer)} that is no JSON, or only half of it")
    if is_unknown(answer) or answer.status == 403 or code == FORBIDDEN:  # noqa: PLR2004
        raise AccessError(f"ServiceDesk Plus does not let us in: it answered {answer.status}{why}")
    # A 404 without ServiceDesk Plus' status comes from a gateway or a wrong address: no ticket was deleted.
    if envelope is not None and (code == NOT_FOUND or (answer.status == 404 and envelope.response_status)):  # noqa: PLR2004
        raise GoneError(f"ServiceDesk Plus has no such thing: it answered {answer.status}{why}")
    if answer.status >= 400 or code >= FAILED:  # noqa: PLR2004
        raise SdpError(f"ServiceDesk Plus says no: it answered {answer.status}{why}")
    return body


def is_unknown(answer: Answer) -> bool:
    """Return True if ServiceDesk Plus does not accept our credentials."""
    return answer.status == 401 or _reason(_envelope(answer.body))[0] == INVALID_KEY  # noqa: PLR2004


def _envelope(body: bytes) -> Envelope | None:
    """Return the status around an answer; None if the body is no JSON object."""
    try:
        return msgspec.json.decode(body, type=Envelope)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None


def _mended(body: bytes) -> bytes:
    """Replace each half of a character, which is left where a text was cut, by a question mark.

    One such ticket would hold up all that come after it. Returns the body unchanged if it is no JSON even then.
    """
    try:
        return json.dumps(json.loads(body.decode(errors="replace")), ensure_ascii=False).encode(errors="replace")
    except (ValueError, RecursionError):
        return body


def _reason(envelope: Envelope | None) -> tuple[int, str]:
    """Return ServiceDesk Plus' status code, and its words for it if that is an error."""
    found = envelope.response_status if envelope else []
    statuses = found if isinstance(found, list) else [found]
    worst = max(statuses, key=lambda one: one.status_code, default=ResponseStatus())
    if worst.status_code < FAILED:
        return worst.status_code, ""
    [first, *_] = [*worst.messages, Message()]
    code = first.status_code or worst.status_code
    return code, f" with {code}" + (f", {first.message!r:.200}" if first.message else "")


def _kind(answer: Answer) -> str:
    return answer.headers.get("content-type", "").partition(";")[0].strip()[:50] or "something"
