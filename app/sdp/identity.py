"""How do we log in to a ServiceDesk Plus? On premises by one key; in the Cloud by a token that lasts an hour."""

import time
from collections.abc import Awaitable, Callable

from app.sdp import tokens
from app.sdp.account import Cloud, Credentials, OnPremises
from app.sdp.answers import Answer
from app.sdp.tokens import Shared, Token

ACCEPT = "application/vnd.manageengine.sdp.v3+json"  # else the Cloud answers 415

Post = Callable[[str, dict[str, str]], Awaitable[Answer]]  # posts a form to an address


class Key:
    """A technician's API key."""

    def __init__(self, credentials: OnPremises) -> None:
        self._headers = {"authtoken": credentials.token}
        self.secrets = [credentials.token]  # which must never be shown

    async def headers(self, _post: Post) -> dict[str, str]:
        """Return the headers with our credentials."""
        return self._headers

    def accepted(self) -> None:
        """Do nothing: there is no other key."""

    def refused(self) -> bool:
        """Return False: there is no other key to try."""
        return False


class Session:
    """A token from Zoho, fetched when one is needed and there is none. All portals of a refresh token share it."""

    def __init__(self, credentials: Cloud) -> None:
        self._credentials = credentials
        self.key = tokens.key_of(credentials)
        self.secrets = [credentials.client_secret, credentials.refresh_token]  # and each token, also an old one
        self._used: Token | None = None  # by the last request

    @property
    def shared(self) -> Shared:
        """What this process knows of the token; the event loop that asks is the one that knows it."""
        return tokens.shared(self.key)

    async def headers(self, post: Post) -> dict[str, str]:
        """Return the headers with our credentials. Raises SdpError if Zoho returns no token."""
        async with self.shared.turn:
            used = self.shared.token if self.shared.has_token else None
            if used is None:
                used = await tokens.fetch(self._credentials, self.shared, post, self.secrets)
            self._used = self.shared.token = used
        if used.text not in self.secrets:
            self.secrets.append(used.text)
        return {"Authorization": f"Zoho-oauthtoken {used.text}", "Accept": ACCEPT}

    def accepted(self) -> None:
        """Note that ServiceDesk Plus took the token."""
        if self._used and self._used.is_proven is None:
            self._used.is_proven = True

    def refused(self) -> bool:
        """Note that ServiceDesk Plus refused the token; return True if the next request has another one.

        It has none where the token is fresh: a second one would be refused too, and Zoho gives only a few.
        """
        used = self._used
        if used is None:
            return False
        if used is not self.shared.token:
            return True  # another portal's request has replaced it meanwhile
        if used.is_proven or time.monotonic() - used.made > tokens.FRESH:
            self.shared.token = None
            return True
        used.is_proven = False
        return False


def of(credentials: Credentials) -> Key | Session:
    """Return the key or the session for these credentials."""
    return Key(credentials) if isinstance(credentials, OnPremises) else Session(credentials)
