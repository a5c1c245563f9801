"""How is a secret kept out of a text that others wrote? It is removed first, before the text is cut, quoted or logged.

What is cut first may end within a secret, and what is quoted first has another form of it: neither would be found.
"""

import html
import re
from collections.abc import Iterable, Sequence

PIECE = 8  # characters of a secret that are removed wherever they stand: whoever sent the text may have cut it
LONGEST = 20_000  # characters of a text that are looked at; no line shows more
MARK = "…"
USER = re.compile(r"//\S+@")  # and a password, in a URL that a library shows whole
# One character as a URL, JSON, Python or HTML may write it, also twice over.
_WRITTEN = re.compile(
    r"%(?:25)*([0-9A-Fa-f]{2})|\\+(?:u|U0000)([0-9A-Fa-f]{4})|\\+x([0-9A-Fa-f]{2})|(&(?:\#\w{1,7}|[a-z]{2,4});)|(.)",
    re.DOTALL,
)
Character = tuple[str, int, int]  # a character, and from where to where in the text it is written


def without(text: str, secrets: Iterable[str]) -> str:
    """Return the beginning of a text with a mark for each secret in it, however that is written, and for each piece.

    Users and passwords in URLs are removed too.
    """
    is_cut = len(text) > LONGEST
    characters = _characters(text[:LONGEST])
    hidden = [False] * len(characters)
    for secret in secrets:
        if plain := "".join(one for one, *_ in _characters(secret)):
            _hide(hidden, characters, plain)
    if is_cut:  # it may end with a piece that is too short to be found
        hidden[1 - PIECE :] = [True] * (PIECE - 1)
    return USER.sub(f"//{MARK}@", _with_marks(text, characters, hidden))


def one_line(text: str, secrets: Iterable[str] = (), most: int = 200) -> str:
    """Return a text without secrets as one printable line of at most `most` characters."""
    line = " ".join(without(text, secrets).split())
    return "".join(one if one.isprintable() else "?" for one in line)[:most]


def _hide(hidden: list[bool], characters: Sequence[Character], secret: str) -> None:
    """Set `hidden` for the characters that belong to a secret, or to a piece of it."""
    size = min(PIECE, len(secret))
    pieces = {secret[first : first + size] for first in range(len(secret) - size + 1)}
    plain = "".join(one for one, *_ in characters)
    for first in range(len(plain) - size + 1):
        if plain[first : first + size] in pieces:
            hidden[first : first + size] = [True] * size


def _characters(text: str) -> list[Character]:
    """Return what a text's characters mean; neither blanks nor backslashes, which come and go where it is quoted."""
    found = []
    for one in _WRITTEN.finditer(text):
        character = _meant(one)
        if character not in "\\ \t\r\n":
            found.append((character, one.start(), one.end()))
    return found


def _meant(written: re.Match[str]) -> str:
    percent, escape, short, entity, plain = written.groups()
    if plain:
        return str(plain)
    meant = html.unescape(entity) if entity else chr(int(percent or escape or short, 16))
    return meant if len(meant) == 1 else written[0][:1]


def _with_marks(text: str, characters: Sequence[Character], hidden: Sequence[bool]) -> str:
    """Return a text with one mark in place of each run of hidden characters, and of what stands within it."""
    parts, copied, was_hidden = [], 0, False
    for (_, start, end), is_hidden in zip(characters, hidden, strict=True):
        if is_hidden:
            if not was_hidden:
                parts += [text[copied:start], MARK]
            copied = end
        was_hidden = is_hidden
    return "".join([*parts, text[copied:LONGEST]])
