"""What did the environment mean by a value: without the quotes, blanks and line breaks that came with it?

A docker --env-file keeps quotes, a mounted file ends with a line break, a Windows editor begins a file with a mark.
"""

import base64
import ipaddress
import re
import string
from collections.abc import Callable, Mapping
from urllib.parse import urlsplit

import msgspec

from app import database_url

QUOTES = {'"': '"', "'": "'", "“": "”", "„": "“", "\u2018": "\u2019"}
_QUOTES = {*QUOTES, *QUOTES.values()}
MARKS = "\ufeff\u200b"  # of a file's encoding, and a blank without width: str.strip() leaves both
PATHS = {"dev_dir"}  # a directory's name may begin and end with anything, so nothing is dropped
TEXTS = {*PATHS, "resolved_statuses"}  # whose end may be a quote that is meant
KEY_BYTES = 32
_AROUND_KEYS = "".join([*_QUOTES, MARKS, string.whitespace])
_NAME = re.compile(r"""[^\s/\\:,;@*?#\[\]'"]+""")
_OF_A_SERVICE = re.compile(r"(?:tcp|udp|sctp)://", re.IGNORECASE)


def bare(text: str) -> str:
    """Return `text` without white space and pairs of quotes around it; quotes within it keep the pair where it is."""
    before = None
    while text != before:
        before = text
        text = text.strip().strip(MARKS)
        if len(text) > 1 and QUOTES.get(text[0]) == text[-1] and not {text[0], text[-1]} & set(text[1:-1]):
            text = text[1:-1]
    return text


def is_of_a_service(text: str) -> bool:
    """Return True for a value like tcp://10.0.0.1:80: Kubernetes sets NAME_PORT to it for each Service `name`."""
    return _OF_A_SERVICE.match(bare(text)) is not None


def read(field: msgspec.structs.FieldInfo, text: str) -> object:
    """Return what the environment's `text` means for a setting. Raises ValueError."""
    if field.name not in PATHS:
        text = _normal(field.name, bare(text))
    kind = field.type.__origin__
    value: object = msgspec.convert(text if kind is str else text.lower(), field.type, strict=False)
    _check(field.name, text)
    return value


def trouble(name: str, text: str) -> str:
    """Return in a few words why `text`, which `read` refused, is wrong; never a part of it."""
    text = text if name in PATHS else bare(text)
    for place, sign in (("begins", text[0]), ("ends", text[-1])):
        if sign in "\r\n":
            return f"{place} with a line break"
        if sign.isspace() or sign in MARKS:
            return f"{place} with a blank"
        if sign in _QUOTES:
            return f"{place} with a quote"
    return "holds a line break" if re.search(r"[\r\n]", text) else "is wrong"


def _normal(name: str, text: str) -> str:
    """Return `text` in the one form that the rest of the code knows."""
    if name == "host" and text.startswith("[") and text.endswith("]") and ":" in text:
        return text[1:-1]
    if name == "secrets_key":
        return ",".join(part.strip(_AROUND_KEYS) for part in text.split(","))
    return text


def _check(name: str, text: str) -> None:
    """Raise ValueError where a text breaks a rule that its type cannot express."""
    has_quote = name not in TEXTS and bool({text[0], text[-1]} & _QUOTES)
    if has_quote or not _RULES.get(name, bool)(text):
        raise ValueError


def _is_host(text: str) -> bool:
    if ":" not in text:
        return _NAME.fullmatch(text) is not None
    return bool(ipaddress.IPv6Address(text))


def _is_page(url: str) -> bool:
    parts = urlsplit(url)  # raises ValueError, as `port` does where it is no number
    return re.fullmatch(r"https?://\S+", url) is not None and bool(parts.hostname) and parts.port != 0


def _is_path(text: str) -> bool:
    """Return False for what nobody means: a blank before a path, a line break after it, quotes around it."""
    return not (text[0].isspace() or text[0] in MARKS or text[-1] in "\r\n" or QUOTES.get(text[0]) == text[-1])


def _is_status(text: str) -> bool:
    return bare(text) == text.strip() and not re.search(r"[\r\n]", text.strip())


def _key(part: str) -> bytes:
    return base64.b64decode(part, altchars=b"-_", validate=True)


# What a type cannot express.
_RULES: Mapping[str, Callable[[str], bool]] = {
    "database_url": database_url.is_one,
    "host": _is_host,
    "jaeger_url": _is_page,
    "secrets_key": lambda keys: all(len(_key(one)) == KEY_BYTES for one in keys.split(",")),
    "resolved_statuses": lambda names: all(map(_is_status, names.split(","))),
    "dev_dir": _is_path,
}
