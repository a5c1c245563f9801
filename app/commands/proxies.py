"""Which requests of a command go past the environment's proxies? Those to this machine, which no proxy can reach."""

import ipaddress
from typing import Any
from urllib.parse import urlsplit

WRONG = "HTTPS_PROXY, ALL_PROXY, SSL_CERT_FILE or their like cannot be used"


def options(url: str, *, directly: bool = False) -> dict[str, Any]:
    """Return how httpx makes a client for requests to `url`, which no proxy gets if `directly` or to this machine.

    It reads variables with errors of its own (ImportError, OSError, ValueError): for plain HTTP to here it reads none.
    """
    if not directly and not _is_here(url):
        return {}
    if urlsplit(url).scheme != "https":
        return {"trust_env": False}
    return {"mounts": {"http://": None, "https://": None}}  # SSL_CERT_FILE counts


def _is_here(url: str) -> bool:
    try:
        host = urlsplit(url).hostname or ""
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
