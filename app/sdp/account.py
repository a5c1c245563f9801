"""Where is a tenant's ServiceDesk Plus, and with which credentials do we ask it?"""

import re
from typing import Annotated
from urllib.parse import SplitResult, urlsplit, urlunsplit

import msgspec
from msgspec import Meta

from db import sdp
from db.tenants import Secrets

API = "/api/v3"
# Where the address of a portal ends, in that of one of its pages: …/app/itdesk/ui/requests?mode=list, …/HomePage.do
PAGE = re.compile(r"/(?:ui|api|jsp)(?:/|\Z)|/\w+\.(?:do|cc|jsp|html?)\Z")
# A value for a header or a form. `\Z`, because `$` also matches before the end of a line.
Word = Annotated[str, Meta(pattern=r"^[\x21-\x7e]{1,2000}\Z")]


class WrongAccountError(ValueError):
    """The given address or credentials cannot be a ServiceDesk Plus'; the message says what they must be like."""


class OnPremises(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A technician's API key (`authtoken`)."""

    token: Word

    def __repr__(self) -> str:
        """Show nothing of the key."""
        return "OnPremises(…)"


class Cloud(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A client registered with Zoho, and its refresh token."""

    client_id: Word
    client_secret: Word
    refresh_token: Word
    accounts_url: str = "https://accounts.zoho.com"

    def __repr__(self) -> str:
        """Show nothing of the credentials."""
        return "Cloud(…)"


Credentials = OnPremises | Cloud
SHAPES = {
    sdp.ON_PREMISES: '{"token": "…"}',
    sdp.CLOUD: '{"client_id": "…", "client_secret": "…", "refresh_token": "…", "accounts_url": "https://accounts.zoho.eu"}',
}


class Account(msgspec.Struct, frozen=True):
    """A ServiceDesk Plus, and our credentials there. `base_url` ends before /api/v3."""

    base_url: str
    credentials: Credentials


def read(edition: str, url: str, credentials: bytes) -> Account:
    """Return the account that an operator gave. Raises WrongAccountError, which repeats nothing of the credentials."""
    base_url = _base_url(edition, url)
    kind: type[Credentials] = OnPremises if edition == sdp.ON_PREMISES else Cloud
    try:
        found = msgspec.json.decode(credentials, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise WrongAccountError(f"the credentials must be JSON like {SHAPES[edition]}, and nothing else") from None
    if isinstance(found, Cloud):
        found = msgspec.structs.replace(found, accounts_url=_accounts_url(found.accounts_url))
    return Account(base_url, found)


def of_config(config: sdp.Config, keys: Secrets) -> Account:
    """Return a stored account. Raises UnreadableSecretError, or WrongAccountError for what an older version allowed."""
    return read(config.edition, config.base_url, keys.decrypt(config.credentials))


def kept(account: Account) -> str:
    """Return the credentials as JSON, to be encrypted and stored."""
    return msgspec.json.encode(account.credentials).decode()


def _base_url(edition: str, url: str) -> str:
    parts = _parts(_without_page(url))
    path = parts.path.rstrip("/")
    if edition == sdp.CLOUD and not re.fullmatch(r"(/app/[^/]+)?", path):
        raise WrongAccountError(f"{url!r} is not like https://sdpondemand.manageengine.com/app/PORTAL")
    return urlunsplit(parts._replace(path=path))


def _without_page(url: str) -> str:
    """Return an address without what a browser, or the API's pages, show behind that of the portal itself."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return url
    if found := PAGE.search(parts.path):
        return urlunsplit(parts._replace(path=parts.path[: found.start()], query="", fragment=""))
    return url


def _accounts_url(url: str) -> str:
    parts = _parts(url)
    if parts.path.strip("/"):
        raise WrongAccountError(f"accounts_url is {url!r}, and must be like https://accounts.zoho.eu")
    return urlunsplit(parts._replace(path=""))


def _parts(url: str) -> SplitResult:
    import httpx  # noqa: PLC0415  (every worker's start would wait for it)

    try:
        parts = urlsplit(url)
        is_one = parts.scheme in ("http", "https") and bool(httpx.URL(url).host) and parts.port != 0
    except (ValueError, httpx.InvalidURL):
        is_one = False
    if not is_one or parts.username is not None or parts.query or parts.fragment or not url.isprintable() or " " in url:
        raise WrongAccountError(
            "the address must be like https://sdp.example.com:8080, without a name or a password in it"
        )
    return parts
