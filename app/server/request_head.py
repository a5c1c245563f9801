"""Which requests are refused by their head alone? Those too long, and those for no host or target (RFC 9112, 3.2)."""

import functools
import re

import httptools

from app.webhook.problems import Refusal

Headers = list[tuple[bytes, bytes]]  # names in lower case

_LETTERS = rb"[A-Za-z0-9._~!$&'()*+,;=-]"
_ESCAPE = rb"%[0-9A-Fa-f]{2}"
_NAME = rb"(?:" + _LETTERS + rb"|" + _ESCAPE + rb")" + _LETTERS + rb"*(?:" + _ESCAPE + _LETTERS + rb"*)*"
_PORT = rb"(?:[0-9]{0,4}|[0-5][0-9]{4}|6[0-4][0-9]{3}|65[0-4][0-9]{2}|655[0-2][0-9]|6553[0-5])"
_AUTHORITY = rb"(?:" + _NAME + rb"|\[[0-9A-Fa-f:.]+\])(?::" + _PORT + rb")?"
_HOST = re.compile(_AUTHORITY)
_URL = re.compile(rb"https?://" + _AUTHORITY + rb"(?:[/?].*)?", re.IGNORECASE | re.DOTALL)
_SLASH = ord("/")
_WITHOUT_HOST = ("0.9", "1.0")  # versions of HTTP


def target_of(parser: httptools.HttpRequestParser, target: bytes, headers: Headers) -> bytes:
    """Return the target to route a request by. Raises Refusal where its Host or its target is not what HTTP allows.

    One pass over the headers: all senders name one host, so its match is remembered.
    """
    hosts = [value for name, value in headers if name == b"host"]
    if len(hosts) != 1 or not _is_host(hosts[0]):
        _check_hosts(hosts, headers, parser.get_http_version())
    if target[0] == _SLASH:
        return target
    return _other_target(target, parser.get_method())


def check_length(target: bytes, headers: Headers, most: int) -> None:
    """Raise the refusal of a head over `most` bytes."""
    if len(target) + sum(len(name) + len(value) + 4 for name, value in headers) > most:
        raise too_long(most)


def too_long(most: int) -> Refusal:
    """Return the refusal of a head over `most` bytes."""
    return Refusal(431, f"The request's line and headers are longer than {most:,} bytes (MAX_HEADER_BYTES).")


def is_head(parser: httptools.HttpRequestParser, target: bytes) -> bool:
    """Return whether the newest request is a HEAD; before its target came, the parser has an older one's method."""
    return bool(target) and parser.get_method() == b"HEAD"


@functools.lru_cache(maxsize=16)
def _is_host(value: bytes) -> bool:
    return _HOST.fullmatch(value) is not None


def _check_hosts(hosts: list[bytes], headers: Headers, version: str) -> None:
    """Refuse all but one valid Host: a proxy in front might route by another one than we would."""
    if not hosts and version in _WITHOUT_HOST:
        return
    if len(hosts) == 1:
        bare = hosts[0].strip(b" \t")
        if _is_host(bare):  # the parser leaves the blanks at a value's end, and Litestar takes them for a part of it
            headers[headers.index((b"host", hosts[0]))] = (b"host", bare)
            return
        found = "a Host that is no host with an optional port" if bare else "an empty Host"
    else:
        found = f"{len(hosts)} Host headers" if hosts else "no Host header"
    raise Refusal(400, f"The request has {found}: send one, the host and port of this server's URL and nothing else.")


def _other_target(target: bytes, method: bytes) -> bytes:
    """Return the target of a request that is not for a path of ours: a whole URL, or `*` for the server itself."""
    if target == b"*" and method == b"OPTIONS":
        return b"/"
    if not _URL.fullmatch(target):
        raise Refusal(400, "The request's target is neither a path nor an http URL of a host alone: send the path.")
    return target
