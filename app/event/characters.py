"""Which characters does a stored text hold? NFC, without those that nobody sees and a search stumbles over.

To Postgres, a word with a soft hyphen in it is another word, and so is an umlaut of two characters.
"""

import html
import itertools
import re
import unicodedata
from html.entities import html5

# Soft hyphen, zero width space, word joiner, byte order mark. Not U+200D, which holds emoji and Indic letters together.
_UNSEEN = "\u00ad\u200b\u2060\ufeff"
_LINE_OF_NBSP = re.compile("^[ \t]*+\u00a0[ \t\u00a0]*+$", re.MULTILINE)
_REFERENCE = re.compile(r"&(?:#(?:[0-9]{1,7}|[xX][0-9a-fA-F]{1,6})|[a-zA-Z][a-zA-Z0-9]{1,31});")
# The two halves of one character, as programs write it that escape Java's or JavaScript's characters one by one.
_HALVES = re.compile(
    r"&#(?:(5529[6-9]|55[3-9]\d\d|56[0-2]\d\d|563[01]\d)|[xX]([dD][89abAB][0-9a-fA-F]{2}));"
    r"&#(?:(563[2-9]\d|56[4-9]\d\d|57[0-2]\d\d|573[0-3]\d|5734[0-3])|[xX]([dD][c-fC-F][0-9a-fA-F]{2}));",
    re.ASCII,
)
_LONG_RUN = re.compile(r"[^\x00-\x7f]{32,}")
MOST_MARKS = 30  # on one letter; no language has more (https://unicode.org/reports/tr15/#Stream_Safe_Text_Format)


def tidy(text: str) -> str:
    """Return `text` as it is stored: line ends are line feeds, U+00A0 is a blank, letters are NFC; else as it is."""
    if "\r" in text:
        text = text.replace("\r\n", "\n").replace("\r", "\n")
    if text.isascii():
        return text
    for unseen in _UNSEEN:
        text = text.replace(unseen, "")
    if "\u00a0" in text:
        text = _LINE_OF_NBSP.sub("", text).replace("\u00a0", " ")
    return text if unicodedata.is_normalized("NFC", text) else _composed(text)


def _composed(text: str) -> str:
    """Return `text` in NFC, but for lines with more marks on a letter than any language has.

    Python sorts the marks of a letter in a time that grows with their square: 20,000 pairs took 2.6 s.
    """
    lines = text.splitlines(keepends=True)
    return "".join(line if _is_overloaded(line) else unicodedata.normalize("NFC", line) for line in lines)


def _is_overloaded(line: str) -> bool:
    runs = (itertools.groupby(run[0], key=_is_mark) for run in _LONG_RUN.finditer(line))
    return any(mark and sum(1 for _ in group) > MOST_MARKS for groups in runs for mark, group in groups)


def _is_mark(letter: str) -> bool:
    return unicodedata.combining(letter) > 0


def decoded(text: str) -> str:
    """Return HTML's `text` with each whole character reference (`&amp;`, `&#228;`) decoded.

    Two that are the halves of one character (`&#55357;&#56842;`) become it, although browsers show U+FFFD twice. One
    without its semicolon stays: `?id=1&section=3` is an address, although browsers read `&sect` in it.
    """
    return _REFERENCE.sub(_character, _HALVES.sub(_whole, text)) if "&" in text else text


def _whole(found: re.Match[str]) -> str:
    high, low = (int(found[at]) if found[at] else int(found[at + 1], 16) for at in (1, 3))
    return chr(0x10000 + ((high - 0xD800) << 10) + (low - 0xDC00))


def _character(found: re.Match[str]) -> str:
    reference = found[0]
    if reference[1] == "#":
        return html.unescape(reference) or reference  # nothing: Python drops what no text may hold
    return html5.get(reference[1:], reference)
