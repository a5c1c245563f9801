"""What in a text is a tag, and is the text HTML at all? Only what ServiceDesk Plus and mail programs write is a tag.

A person writes `<it@example.com>`, `<limit then` and `cp <source> <target>`; a parser of the standard's kind takes each
for a tag, and drops it. html.parser does so too, differently in each patch release of Python.
"""

import functools
import re

_S = r"[ \t\n\r\f]"
_VALUE = rf"""{_S}*+={_S}*+(?:"[^"]*+"|'[^']*+'|[^ \t\n\r\f<>]++)"""
# Whole in group 4 only. A part of a tag is matched too and is text: nothing in it is looked at again, so that the time
# grows with the length, whatever is left open. Hence the possessive quantifiers as well.
TOKEN = re.compile(
    rf"""
    <(?:
      (/?)([a-zA-Z][a-zA-Z0-9]*+(?::[a-zA-Z0-9]++)?+)(?=[ \t\n\r\f/>])
      ((?:[ \t\n\r\f/=]++|[^ \t\n\r\f<>/=]++(?:{_VALUE})?+)*+)(>?)
    | (!--)
    | (?:![dD][oO][cC][tT][yY][pP][eE]|!\[(?:end)?if|\?xml)[^<>]*+>
    )
    """,
    re.VERBOSE,
)
_ATTRIBUTE = re.compile(rf"([^ \t\n\r\f<>/=]++)(?:{_S}*+={_S}*+(?:\"([^\"]*+)\"|'([^']*+)'|([^ \t\n\r\f<>]++)))?")
_PLAUSIBLE = re.compile(
    rf"""
    (?:
      [ \t\n\r\f/]++
    | [a-zA-Z_][\w:.-]*+ {_S}*+ = {_S}*+ (?:"[^"]*+"|'[^']*+'|[^ \t\n\r\f<>"']++)
    | (?:
        x:[a-z]++|allowfullscreen|async|autofocus|autoplay|border|checked|compact|contenteditable|controls|default|defer|disabled
      | download|hidden|inert|ismap|itemscope|loop|multiple|muted|nohref|noshade|novalidate|nowrap|open|readonly
      | required|reversed|selected|(?:data|aria)-[\w-]++
      )(?![^ \t\n\r\f/])
    )*+
    """,
    re.VERBOSE | re.IGNORECASE,
)
_END = re.compile(rf"</([a-zA-Z][a-zA-Z0-9]*+){_S}*+>")


def names(listed: str) -> frozenset[str]:
    """Return the names in a list with blanks between them."""
    return frozenset(listed.split())


VOID = names("area base basefont br col embed frame hr img input link meta param source track wbr")
# Nobody writes these but a program.
_SURE = VOID - names("area base embed frame input link meta param source track") | names(
    "abbr acronym bdi big blockquote body center colgroup dd div dl dt em fieldset figcaption figure font h1 h2 h3 h4 "
    "h5 h6 head hgroup html iframe kbd li nobr noframes noscript ol optgroup p pre rp rt small span strike strong sub "
    "sup tbody td textarea tfoot th thead tr tt ul"
)
# These are words (or their beginnings) that a person puts in angle brackets as well.
_LETTERS = frozenset("abiqsu")
_WORDS = names(
    "address applet area article aside audio base bdo button canvas caption cite code data datalist del details dfn "
    "dialog dir embed footer form frame frameset header input ins label legend link main map mark math menu meta meter "
    "nav object option output param picture progress ruby samp script search section select source style summary svg "
    "table template time title track var video"
)
_WORD = re.compile(r"(?:[movw]|st1|u[0-9]):[a-z0-9]++")  # <o:p>, <v:shape>, <st1:place>: of Microsoft Word
_PROGRAMS = names("script style title")  # no ticket is made of these alone, and what they hold is dropped


class Tags:
    """The tags of one text."""

    def __init__(self, text: str) -> None:
        self.text = text

    @functools.cached_property
    def closed(self) -> frozenset[str]:
        """The names of the elements that end anywhere in the text; an option may end with its list."""
        ended = frozenset(name.lower() for name in _END.findall(self.text))
        return ended | {"option"} if "select" in ended else ended

    def are_html(self) -> bool:
        """Return whether the text is HTML: it has a tag that no person means otherwise."""
        if "<" not in self.text or ">" not in self.text:
            return False
        found = (one.groups() for one in TOKEN.finditer(self.text))
        return any(end and self._decides(slash, name.lower(), given) for slash, name, given, end, _ in found)

    def has(self, slash: str, name: str, given: str) -> bool:
        """Return whether what is like a tag, in a text that is HTML, is one; `given` are its attributes."""
        if name in _SURE:
            return not given or _is_plausible(given) or (name != "p" and "=" in given)
        if name in _LETTERS:
            return not given or _is_plausible(given)
        return self._is_word_meant(slash, name, given) if name in _WORDS else bool(_WORD.fullmatch(name))

    def _decides(self, slash: str, name: str, given: str) -> bool:
        if name in _LETTERS:
            return self._is_word_meant(slash, name, given)
        return name not in _PROGRAMS and self.has(slash, name, given)

    def _is_word_meant(self, slash: str, name: str, given: str) -> bool:
        """Return whether a word in angle brackets is an element: it ends, or has attributes as HTML has them."""
        if given.strip(" \t\n\r\f/"):
            return not slash and _is_plausible(given)
        return name in self.closed


def _is_plausible(given: str) -> bool:
    return _PLAUSIBLE.fullmatch(given) is not None


def attribute(given: str, name: str) -> str | None:
    """Return the value of the first attribute of that name, as it was written; None where there is none."""
    for found in _ATTRIBUTE.finditer(given):
        if found[1].lower() == name:
            return found[2] or found[3] or found[4] or ""
    return None
