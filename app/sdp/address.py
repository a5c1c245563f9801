"""At which address does a ServiceDesk Plus answer? People give what their browser shows, and portals differ."""

import re
from collections.abc import Iterator
from urllib.parse import urlsplit, urlunsplit

import msgspec

from app.sdp.account import Account, Cloud
from app.sdp.errors import GoneError, NowhereError, SdpError

PORTAL = re.compile(r"/app/[^/]+\Z")


class Found(msgspec.Struct, frozen=True):
    """The account at the address that answered, and the addresses that did not."""

    account: Account
    silent: list[str]


async def find(account: Account, per_minute: int) -> Found:
    """Ask a ServiceDesk Plus at its address, and at the other form of it. Raises the SdpError of the first address."""
    from app.sdp.client import Client  # noqa: PLC0415  (brings httpx)

    silent: list[str] = []
    first: SdpError | None = None
    for address in (account.base_url, *others(account)):
        tried = msgspec.structs.replace(account, base_url=address)
        try:
            async with Client(tried, per_minute) as client:
                await client.check()
        except (GoneError, NowhereError) as error:
            first = first or _with_the_other(error, account)
            silent.append(address)
        else:
            return Found(tried, silent)
    raise first or SdpError("no address is known")


def _with_the_other(error: SdpError, account: Account) -> SdpError:
    """Return an error that names the other address; that of a bare 404 does so already."""
    return error if isinstance(error, NowhereError) else SdpError(f"{error}: {where_else(account)}")


def others(account: Account) -> Iterator[str]:
    """Yield the other address at which the API of the same portal may be."""
    if isinstance(account.credentials, Cloud):
        parts = urlsplit(account.base_url)
        if PORTAL.match(parts.path):
            yield urlunsplit(parts._replace(path=""))


def where_else(account: Account) -> str:
    """Return what a message says where nothing is at an account's address."""
    if other := next(others(account), None):
        return f"is the API at {other} instead of {account.base_url}?"
    if isinstance(account.credentials, Cloud):
        return f"is it {account.base_url}/app/PORTAL, with the portal's name as a browser shows it?"
    return "is its address right?"
