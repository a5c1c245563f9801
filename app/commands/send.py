"""How is a webhook sent? The reference sender: sign the exact bytes, post them, read the answer."""

import uuid
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlsplit

import httpx
import msgspec

from app.event import flat
from app.webhook import PATH, signature

TIMEOUT = 40.0  # seconds; what ServiceDesk Plus' own invokeurl waits


class SendError(Exception):
    """The webhook was not accepted; the message says why and what to do."""


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


def post(url: str, secret: str, body: bytes, timestamp: int | None = None) -> Answer:
    """Post `body` to the ticket-inbox at `url` (with or without the webhook's path), signed with `timestamp` if given.

    Raises SendError unless it is accepted.
    """
    target = url if urlsplit(url).path.strip("/") else url.rstrip("/") + PATH
    headers = {"Content-Type": "application/json", **signed(secret, body, timestamp)}
    try:
        response = httpx.post(target, content=body, headers=headers, timeout=TIMEOUT)
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise SendError(f"{target} cannot be reached ({error}): is ticket-inbox running there?") from None
    answer = _answer(response)
    if response.status_code != httpx.codes.ACCEPTED:
        again = f" Send it again in {seconds} s." if (seconds := response.headers.get("Retry-After")) else ""
        raise SendError(f"{response.status_code} {answer.title}: {answer.detail}{again}")
    return answer


def _answer(response: httpx.Response) -> Answer:
    try:
        return msgspec.json.decode(response.content, type=Answer)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return Answer(title=response.reason_phrase, detail="the answer is not one of ticket-inbox's; check --url.")
