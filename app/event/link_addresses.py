"""Which address does a link show? The one that a person can open, without what a mail gateway put around it."""

import re
from urllib.parse import parse_qs, unquote, urlsplit

from app.event.characters import decoded
from app.event.text_lines import TextLines

# Gateways that rewrite links, by the end of their host, and the parameter that holds the address.
_WRAPPERS = {
    "safelinks.protection.outlook.com": "url",
    "safelinks.protection.office365.us": "url",
    "linkprotect.cudasvc.com": "a",
    "urldefense.proofpoint.com": "u",
}
_PROOFPOINT = str.maketrans("-_", "%/")  # its own way to write an address within an address
_MOST_WRAPPERS = 3  # in one another: a mail that passed several gateways
_OPENS = re.compile(
    r"(?:mailto|tel|sips?|callto|skype|msteams|onenote):.|[a-z][a-z0-9+.-]*://[^/\s]|\\\\\w", re.IGNORECASE
)
_OPENS_NOWHERE = re.compile(
    r"(?:about|applewebdata|blob|chrome|cid|data|javascript|vbscript|webkit-fake-url|x-apple)\b", re.IGNORECASE
)
_NOT_SEEN = re.compile(r"^(?:https?://(?:www\.)?|mailto:|tel:|callto:|sips?:|www\.)", re.IGNORECASE)
_MAILTO = re.compile(r"(mailto:[^?]+)\?.*", re.IGNORECASE | re.DOTALL)
_SPACES = re.compile(r"\s+")
_BARE = re.compile(r"\bhttps?://[^\s<>]++", re.IGNORECASE)


def shown(href: str | None) -> str:
    """Return the address that a link shows, "" where nobody can open it: `#top`, `javascript:`, a relative one."""
    address = unwrapped(_SPACES.sub("", decoded(href or "")))
    if not _OPENS.match(address) or _OPENS_NOWHERE.match(address):
        return ""
    mail = _MAILTO.fullmatch(address)
    return mail[1] if mail else address


def unwrapped(address: str) -> str:
    """Return the address that a gateway's address leads to; any other as it is."""
    for _ in range(_MOST_WRAPPERS):
        inner = _inner(address)
        if not inner.lower().startswith(("http://", "https://", "mailto:")):
            break
        address = inner
    return address


def _inner(address: str) -> str:
    """Return the address within a gateway's address, "" where there is none."""
    try:
        parts = urlsplit(address)
        host = (parts.hostname or "").lower()
        name = next((given for end, given in _WRAPPERS.items() if host == end or host.endswith(f".{end}")), None)
        found = parse_qs(parts.query).get(name, [""])[0] if name else ""
    except ValueError:
        return ""
    return unquote(found.translate(_PROOFPOINT)) if name == "u" else found


def key(address: str) -> str:
    """Return what is equal for two ways to write one address, such as `https://a.example/` and `www.a.example`."""
    bare = _NOT_SEEN.sub("", unquote(address.strip().strip("<>()[]{},.;\"'")))
    return bare.rstrip("/").casefold()


def is_in(address: str, words: str) -> bool:
    """Return whether a link's words have its address already."""
    wanted = key(address)
    if address.lower().startswith(("tel:", "callto:")):
        return _digits(address) in _digits(words)
    return key(words) == wanted or any(key(word) == wanted for word in words.split())


def _digits(text: str) -> str:
    return re.sub(r"[^0-9+]", "", text)


class Links:
    """The links of one text: an address stands behind its words, once, unless the words have it."""

    def __init__(self, lines: TextLines) -> None:
        self._lines = lines
        self.words: list[str] | None = None  # of the link that is open
        self._href: str | None = None
        self._shown: dict[str, bool] = {}  # each address by its key, and whether in quoted history alone

    def begin(self, href: str | None) -> None:
        """Begin a link; one that was left open ends."""
        self.end()
        self._href, self.words = href, []

    def end(self) -> None:
        """End the link that is open, if one is: show its address, if it has one and it is not shown yet."""
        if self.words is None:
            return
        address, words = shown(self._href), "".join(self.words)
        self.words = None
        if address and not is_in(address, words) and self._see(key(address)):
            self._lines.write_apart(f"({address})")

    def seen_in(self, words: str) -> str:
        """Remember the addresses that stand in words; return them, in a link without what a gateway put around them."""
        if self.words is not None:
            words = _BARE.sub(lambda found: unwrapped(found[0]), words)
        for address in _BARE.findall(words):
            self._see(key(address))
        return words

    def _see(self, address: str) -> bool:
        """Remember that an address is shown; return whether it was not. What is quoted may be cut."""
        is_new = address not in self._shown or (self._shown[address] and not self._lines.is_quoted)
        if is_new:
            self._shown[address] = self._lines.is_quoted
        return is_new
