"""Did the tenant sign these very bytes? Pure functions, no I/O."""

import base64
import hmac
import re
from collections.abc import Iterable

HEADER = "X-ServiceDesk-Signature"
HEADER_BYTES = HEADER.lower().encode()
CHALLENGE = {"WWW-Authenticate": f'HMAC-SHA256 header="{HEADER}"'}  # what a 401 asks for
TIMESTAMP_HEADER = "X-ServiceDesk-Timestamp"
TIMESTAMP_HEADER_BYTES = TIMESTAMP_HEADER.lower().encode()
_PREFIX = "sha256="
_SECONDS = re.compile(rb"[0-9]{1,12}\Z")
_HEX = re.compile(r"[0-9a-fA-F]{64}\Z", re.ASCII)
_BASE64 = re.compile(r"[0-9a-zA-Z+/]{43}=\Z", re.ASCII)


def sign(secret: bytes, body: bytes) -> str:
    """Return the header that signs `body`: `sha256=` and the HMAC-SHA256 in lower-case hexadecimal."""
    return _PREFIX + hmac.digest(secret, body, "sha256").hex()


def verify(secrets: Iterable[bytes], body: bytes, header: str | None) -> bool:
    """Return whether one of `secrets` signed `body`, as `signer` says."""
    return signer(secrets, body, header) is not None


def signer(secrets: Iterable[bytes], body: bytes, header: str | None) -> int | None:
    """Return the position of the first of `secrets` that signed `body`, or None if none did.

    The header may be hexadecimal of either case or standard base64, each with or without `sha256=`.
    Every secret costs its HMAC whatever the header says and whether or not one matched before, so that the time it
    takes reveals nothing (https://github.com/standard-webhooks/standard-webhooks, "Verifying signatures").
    """
    given = _digest(header or "")
    matches = [hmac.compare_digest(hmac.digest(secret, body, "sha256"), given) for secret in secrets]
    return matches.index(True) if True in matches else None


def is_well_formed(header: str) -> bool:
    """Return whether `header` spells a digest, right or wrong."""
    return bool(_digest(header))


def timed(timestamp: bytes, body: bytes) -> bytes:
    """Return the bytes that are signed where the sender's time is signed with the body."""
    return timestamp + b"." + body


def is_fresh(timestamp: bytes, now: float, tolerance: int) -> bool:
    """Return whether `timestamp`, in whole seconds since 1970, is at most `tolerance` seconds away from `now`."""
    return _SECONDS.match(timestamp) is not None and abs(int(timestamp) - now) <= tolerance


def _digest(header: str) -> bytes:
    """Return the 32 bytes that `header` spells, or no byte where it spells no digest."""
    text = header.removeprefix(_PREFIX)
    if _HEX.match(text):
        return bytes.fromhex(text)
    if _BASE64.match(text):
        digest = base64.b64decode(text)
        # The last character carries two bits that no byte holds; only their one right spelling counts.
        return digest if base64.b64encode(digest).decode() == text else b""
    return b""
