"""How often is Zoho asked for a token? Once an hour for a refresh token, whatever the number of portals and of runs.

Zoho gives about five tokens a minute for a refresh token, and then none for five to fifteen minutes.
"""

import asyncio
import hashlib
import time
import weakref
from collections.abc import Awaitable, Callable, Iterable
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from app.sdp import answers
from app.sdp.account import Cloud
from app.sdp.answers import Answer
from app.sdp.errors import PAUSE, AccessError, AwayError, DeniedError, SdpError, retry_after
from app.sdp.status import lenient
from otel import redaction

EARLY = 60.0  # a token counts as expired this many seconds before its end, but not before half of its time is over
HOUR = 3600.0  # which a token lasts, if Zoho does not say so
FRESH = 600.0  # seconds in which a token that was refused at once is replaced by no other
REFRESH_PATH = "/oauth/v2/token"
TOO_OFTEN = ("access denied", "too many requests")  # in Zoho's words, with 400


class Token(msgspec.Struct):
    """A token of Zoho's, when it was made, and when it counts as expired, by the monotonic clock.

    `is_proven` is True once the first request that had it was accepted, and False if that was refused.
    """

    text: str
    made: float
    ends: float
    is_proven: bool | None = None
    is_kept: bool = False  # for later runs


class Shared:
    """What the sessions of one refresh token share: the token, whose turn it is to fetch one, and whether none came."""

    def __init__(self) -> None:
        self.turn = asyncio.Lock()
        self.token: Token | None = None
        self.denied = ("", float("-inf"))  # why, and until when

    @property
    def has_token(self) -> bool:
        """Return True if it has a token that has not expired."""
        return self.token is not None and time.monotonic() < self.token.ends


class Granted(msgspec.Struct, frozen=True):
    """Zoho's answer to a refresh token. Its older form has `expires_in` in milliseconds, and `expires_in_sec`."""

    access_token: Annotated[str, Meta(pattern=r"^[\x21-\x7e]{0,2000}\Z")] = ""
    expires_in: Any = None
    expires_in_sec: Any = None
    error: str = ""
    error_description: str = ""


_shared: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, dict[str, Shared]] = weakref.WeakKeyDictionary()


def shared(key: str) -> Shared:
    """Return what the sessions of a refresh token share in this event loop, to which its lock belongs."""
    return _shared.setdefault(asyncio.get_running_loop(), {}).setdefault(key, Shared())


def key_of(credentials: Cloud) -> str:
    """Return by what a refresh token is known without being shown."""
    given = msgspec.json.encode(credentials)
    return hashlib.sha256(given).hexdigest()


async def fetch(
    credentials: Cloud, shared: Shared, post: Callable[[str, dict[str, str]], Awaitable[Answer]], secrets: Iterable[str]
) -> Token:
    """Return a new token. Raises DeniedError while Zoho gives none, and another SdpError if it never will."""
    why, until = shared.denied
    if time.monotonic() < until:
        raise DeniedError(why, until - time.monotonic())
    form = {name: getattr(credentials, name) for name in ("client_id", "client_secret", "refresh_token")}
    answer = await post(credentials.accounts_url + REFRESH_PATH, {"grant_type": "refresh_token", **form})
    try:
        token = _read(credentials.accounts_url, answer, secrets)
    except DeniedError as denied:
        shared.denied = (str(denied), time.monotonic() + denied.retry_after)
        raise
    now, lasts = time.monotonic(), _seconds(token)
    return Token(token.access_token, now, now + max(lasts - EARLY, lasts / 2))


def _read(host: str, answer: Answer, secrets: Iterable[str]) -> Granted:
    """Return Zoho's answer if it has a token. Raises the SdpError that fits any other."""
    token = lenient(Granted, answer.body) or Granted()
    words = " ".join(one for one in (token.error, token.error_description) if one)
    if any(one in words.lower() for one in TOO_OFTEN):
        said = redaction.one_line(words, secrets)
        raise DeniedError(f"{host} gives no token now: it answered {answer.status}, '{said}'", _pause(answer))
    if answer.status == 429 or answer.status >= 500:  # noqa: PLR2004
        raise AwayError(f"{host} answered {answer.status}", retry_after(answer.headers))
    if answer.status < 300 and not (token.access_token or words):  # noqa: PLR2004
        answers.read(Granted, answer.body)  # which says what is wrong with its shape
        raise SdpError(f"{host} answered without a token, and without a reason")
    if answer.status >= 300 or not token.access_token:  # noqa: PLR2004
        why = f"{answer.status}, '{redaction.one_line(words, secrets)}'" if words else answer.status
        raise AccessError(f"{host} gives no token for these credentials: it answered {why}")
    return token


def _pause(answer: Answer) -> float:
    return max(retry_after(answer.headers, PAUSE), EARLY)


def _seconds(token: Granted) -> float:
    """Return how long a token lasts."""
    for found in (token.expires_in_sec, token.expires_in):
        try:
            seconds = float(found)
        except (TypeError, ValueError):
            continue
        if 0 < seconds <= 24 * HOUR:
            return seconds
    return HOUR
