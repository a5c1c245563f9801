"""What is a read token, and which one does a request carry? Pure functions, no I/O."""

import hashlib
import re
import secrets as random

PREFIX = "tibx_read_"  # by which secret scanners find one in a repository or a log
BYTES = 32  # 256 bits, in 43 characters of URL-safe base64
_BEARER = re.compile(rb"bearer +([^ ]+)", re.ASCII | re.IGNORECASE)


def make() -> str:
    """Return a new token. It is shown once; what is kept is its `hashed`."""
    return PREFIX + random.token_urlsafe(BYTES)


def hashed(token: bytes) -> bytes:
    """Return the SHA-256 of a token: nobody guesses 256 bits, so a slow hash would protect nothing more."""
    return hashlib.sha256(token).digest()


def carried(authorization: bytes) -> bytes:
    """Return the token in a header `Authorization: Bearer TOKEN`, right or wrong; no byte where it has none."""
    found = _BEARER.fullmatch(authorization.rstrip(b" \t"))  # httptools leaves blanks at the end
    return found[1] if found else b""
