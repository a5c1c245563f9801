"""How is a webhook sent? The reference sender: sign the exact bytes, post them, read the answer."""

import uuid
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import httpx
import msgspec

from app import correlation
from app.commands import proxies
from app.event import flat
from app.webhook import PATH, signature

TIMEOUT = 40.0  # seconds; what ServiceDesk Plus' own invokeurl waits
NOT_HERE = (404, 405)
MOST_BYTES = 64 * 1024  # of an answer that are read; those of ticket-inbox are shorter
# What an address, a proxy's variable, a certificate or a network leads to.
UNREACHABLE = (httpx.HTTPError, httpx.InvalidURL, ImportError, OSError, ValueError)


class SendError(Exception):
    """The webhook was not accepted; the message says why and what to do."""


class WrongUrlError(SendError):
    """--url must be an address like http://127.0.0.1:8000 or https://inbox.example.com."""

    def __init__(self) -> None:
        super().__init__(str(self.__doc__).rstrip("."))


class Answer(msgspec.Struct):
    """The answer of ticket-inbox to a webhook, accepted or refused."""

    correlation_id: str = ""
    title: str = ""
    detail: str = ""


def sample(tenant_id: str) -> dict[str, Any]:
    """Return a sample payload with a new ticket id."""
    return {
        **flat.EXAMPLE,
        "tenant_id": tenant_id,
        "ticket_id": f"DEMO-{uuid.uuid4().hex[:8]}",
        "resolved_date": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def payload(tenant_id: str, given: bytes | None) -> bytes:
    """Return the bytes to send: `given` with `tenant_id` in it, otherwise unchanged; or a sample.

    Raises SendError if `given` is no JSON object.
    """
    if given is None:
        return msgspec.json.encode(sample(tenant_id))
    try:
        members = msgspec.json.decode(given, type=dict[str, msgspec.Raw])
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise SendError(f"the payload must be a JSON object in UTF-8: {error}") from None
    named = msgspec.json.encode(tenant_id)
    if bytes(members.get("tenant_id", b"")) == named:
        return given
    return msgspec.json.encode({**members, "tenant_id": msgspec.Raw(named)})


def signed(secret: str, body: bytes, timestamp: int | None = None) -> dict[str, str]:
    """Return the headers that sign `body`, and `timestamp` (seconds since 1970) with it if there is one."""
    if timestamp is None:
        return {signature.HEADER: signature.sign(secret.encode(), body)}
    timed = signature.timed(b"%d" % timestamp, body)
    return {
        signature.TIMESTAMP_HEADER: str(timestamp),
        signature.HEADER: signature.sign(secret.encode(), timed),
    }


def post(url: str, secret: str, body: bytes, timestamp: int | None = None, *, directly: bool = False) -> Answer:
    """Post `body` to the ticket-inbox at `url` (with or without the webhook's path), signed with `timestamp` if given.

    `directly` goes past the environment's proxies, as every request to this machine does.
    Raises SendError unless it is accepted.
    """
    target = webhook_url(url)
    headers = {"Content-Type": "application/json", "Accept-Encoding": "identity", **signed(secret, body, timestamp)}
    try:
        with (
            httpx.Client(timeout=TIMEOUT, **proxies.options(target, directly=directly)) as client,
            client.stream("POST", target, content=body, headers=headers) as response,
        ):
            answer = _read(response)
    except httpx.ReadTimeout:
        words = f"{without_login(target)} gives no answer within {TIMEOUT:.0f} s"
        raise SendError(f"{words}: the webhook may have been kept, and sending it again does no harm") from None
    except UNREACHABLE as error:
        why = f"cannot be reached ({error or type(error).__name__})"
        raise SendError(f"{without_login(target)} {why}: is ticket-inbox running there?") from None
    except (ImportError, OSError, ValueError) as error:
        raise SendError(f"{proxies.WRONG}: {error}") from None
    if response.status_code != httpx.codes.ACCEPTED or not answer.correlation_id:
        raise SendError(_refusal(response, answer, target))
    return answer


def webhook_url(url: str) -> str:
    """Return where to post: `url`, with the webhook's path if it has none. Raises WrongUrlError if it is no address."""
    try:
        parts = urlsplit(url)
        is_address = parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0
    except ValueError:  # such as of a port that is no number
        is_address = False
    if not is_address:
        raise WrongUrlError
    path = parts.path.rstrip("/") or PATH
    return urlunsplit((parts.scheme, parts.netloc, path if path.endswith(PATH) else parts.path, parts.query, ""))


def without_login(url: str) -> str:
    """Return `url` without the name and the password that a proxy may want, for what is printed."""
    scheme, separator, rest = url.partition("://")
    host, slash, path = rest.partition("/")
    return f"{scheme}{separator}{host.rpartition('@')[2]}{slash}{path}"


def _read(response: httpx.Response) -> Answer:
    """Return the answer; one that is no JSON of ours, or longer than MOST_BYTES, is empty but for the header's id."""
    read = bytearray()
    for piece in response.iter_raw():
        read += piece
        if len(read) > MOST_BYTES:
            break
    try:
        return msgspec.json.decode(read, type=Answer)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return Answer(correlation_id=response.headers.get(correlation.HEADER, ""))


def _refusal(response: httpx.Response, answer: Answer, target: str) -> str:
    """Return in one line why a webhook was not accepted, what to do, and its correlation id."""
    shown, path, status = without_login(target), urlsplit(target).path, response.status_code
    words = f"{status} {answer.detail or answer.title}".rstrip(".")
    if to := response.headers.get("Location"):
        words = f"{shown} answers {status} and leads to {without_login(to)}: give that as --url"
    elif not path.endswith(PATH) and (status in NOT_HERE or not answer.detail):
        words = f"{status}: nothing takes webhooks at {path}: leave the path out of --url, or end it with {PATH}"
    elif not (answer.detail or answer.title):
        words = f"{shown} answers {status}, and not as ticket-inbox does: check --url"
    words += _of_signature(answer.detail) if status == httpx.codes.UNAUTHORIZED else ""
    again = f". Send it again in {seconds} s" if (seconds := response.headers.get("Retry-After")) else ""
    return words + again + (f". Correlation id {answer.correlation_id}" if answer.correlation_id else "")


def _of_signature(detail: str) -> str:
    """Return what to do about a webhook that was answered 401; `detail` of the answer says what has to be signed."""
    timed = "; sign the time as well, by --timestamp" if signature.TIMESTAMP_HEADER in detail else ""
    of_tenant = "Compare --tenant with `ticket-inbox tenant list`, which must have it enabled"
    return f". {of_tenant}, and --secret with what `tenant add` or `tenant rotate` printed last{timed}"
