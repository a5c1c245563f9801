"""How do we log in to a ServiceDesk Plus? On premises by one key; in the Cloud by a token that lasts an hour."""

import time
from collections.abc import Awaitable, Callable

from app.sdp import answers
from app.sdp.account import Cloud, Credentials, OnPremises
from app.sdp.answers import Answer
from app.sdp.errors import AccessError, TransientError, retry_after
from otel import redaction

ACCEPT = "application/vnd.manageengine.sdp.v3+json"  # else the Cloud answers 415
EARLY = 60.0  # a token counts as expired this many seconds before its end: a request takes a while
REFRESH_PATH = "/oauth/v2/token"

Post = Callable[[str, dict[str, str]], Awaitable[Answer]]  # posts a form to an address


class Key:
    """A technician's API key."""

    def __init__(self, credentials: OnPremises) -> None:
        self._headers = {"authtoken": credentials.token}
        self.secrets = [credentials.token]  # which must never be shown

    async def headers(self, _post: Post) -> dict[str, str]:
        """Return the headers with our credentials."""
        return self._headers

    def forget(self) -> bool:
        """Return False: there is no other key to try."""
        return False


class Session:
    """A token from Zoho, fetched when one is needed and there is none."""

    def __init__(self, credentials: Cloud) -> None:
        self._credentials = credentials
        self.secrets = [credentials.client_secret, credentials.refresh_token]  # and each token, also an old one
        self._token, self._ends = "", float("-inf")

    async def headers(self, post: Post) -> dict[str, str]:
        """Return the headers with our credentials. Raises SdpError if Zoho returns no token."""
        if time.monotonic() > self._ends:
            await self._refresh(post)
        return {"Authorization": f"Zoho-oauthtoken {self._token}", "Accept": ACCEPT}

    def forget(self) -> bool:
        """Make the next request fetch a new token, since this one is refused; return True."""
        self._ends = float("-inf")
        return True

    async def _refresh(self, post: Post) -> None:
        given = self._credentials
        form = {name: getattr(given, name) for name in ("client_id", "client_secret", "refresh_token")}
        answer = await post(given.accounts_url + REFRESH_PATH, {"grant_type": "refresh_token", **form})
        if answer.status == 429 or answer.status >= 500:  # noqa: PLR2004
            raise TransientError(f"{given.accounts_url} answered {answer.status}", retry_after(answer.headers))
        token = answers.read(answers.Token, answer.body) if answer.status < 300 else answers.Token()  # noqa: PLR2004
        if not token.access_token:
            why = f"'{redaction.one_line(token.error, self.secrets)}'" if token.error else answer.status
            raise AccessError(f"{given.accounts_url} gives no token for these credentials: it answered {why}")
        self._token, self._ends = token.access_token, time.monotonic() + token.expires_in - EARLY
        self.secrets.append(token.access_token)


def of(credentials: Credentials) -> Key | Session:
    """Return the key or the session for these credentials."""
    return Key(credentials) if isinstance(credentials, OnPremises) else Session(credentials)
