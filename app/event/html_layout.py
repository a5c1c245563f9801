"""How is HTML laid out as text? Paragraphs, lists, rows and links as a person reads them, in one pass over its tags.

No tree is built: of the elements that are open, only what they change is kept. So nothing is nested too deeply, no text
changes its place (as the standard has it do in tables,
https://html.spec.whatwg.org/multipage/parsing.html#foster-parent), and the time grows with the length.
"""

import re
from collections import defaultdict
from collections.abc import Callable
from typing import ClassVar

from app.event.characters import decoded
from app.event.html_elements import Tag, may_have_styles, start_tag, tag_of, white_space_of
from app.event.html_tags import TOKEN, Tags, attribute
from app.event.link_addresses import Links
from app.event.text_lines import Line, TextLines

DEEPEST = 10  # lists in lists that are indented further; each line is indented, so that 18 KB of lists became 4 MB
_NUMBER = re.compile(r"\s*([+-]?[0-9]{1,9})")
_COMMENT = "<!--"
# Browsers take --!> for its end, too; <!--!> has not ended yet.
_COMMENT_END = re.compile("-->|(?<!<!)--!>")
# What these hold is no HTML, and ends with their end tag alone.
_RAW_END = {
    name: re.compile(rf"</{name}(?=[ \t\n\r\f/>])[^<>]*+>", re.IGNORECASE)
    for name in ("script", "style", "textarea", "title")
}
_NO_HTML = frozenset([_COMMENT, *_RAW_END])


class Layout:
    """Lays out one piece of HTML."""

    def __init__(self, tags: Tags) -> None:
        self._tags, self._html = tags, tags.text
        self._has_styles = may_have_styles(self._html)
        self._understood: dict[str, Tag | None] = {}  # a mail repeats its tags
        self._before = defaultdict[str, list[tuple[int, bool]]](list)  # what holds again when an element ends
        self._counters: list[int | None] = []  # the next number of each open list, None where it has bullets
        self._unended: set[str] = set()  # what begins and has no end after here: it is sought once
        self._is_in_head = False
        self.lines = TextLines(white_space_of(self._html))
        self.links = Links(self.lines)

    def read(self) -> list[Line]:
        """Return the lines of the HTML."""
        at: int | None = 0
        while at is not None:
            at = self._read_from(at)
        self.links.end()
        return self.lines.all()

    def _read_from(self, at: int) -> int | None:
        """Read from there on; return where to go on behind something that is no HTML, None at the end."""
        understood = self._understood
        for found in TOKEN.finditer(self._html, at):
            written = found[0]
            tag = understood[written] if written in understood else self._understand(found)
            if tag is None:
                continue
            start, before, at = found.start(), at, found.end()
            if start > before:
                self._write(self._html[before:start])
            if tag.is_end:
                self._end(tag)
            elif (behind := self._start(tag, found[3], at)) is not None:
                return behind
        self._write(self._html[at:])
        return None

    def _understand(self, found: re.Match[str]) -> Tag | None:
        """Return what a tag does, and remember it; None where it is text."""
        slash, name, given, end, comment = found.groups()
        tag: Tag | None = None
        if not name:
            tag = tag_of(_COMMENT if comment else "")  # a doctype and its like do nothing
        elif end and self._tags.has(slash, name.lower(), given):
            styles = self._has_styles
            tag = (
                tag_of(name.lower(), is_end=True, has_styles=styles)
                if slash
                else start_tag(name.lower(), given, has_styles=styles)
            )
        self._understood[found[0]] = tag
        return tag

    def _write(self, words: str) -> None:
        words = decoded(words)
        if "://" in words:
            words = self.links.seen_in(words)
        written = self.lines.write(words)
        if self.links.words is not None:
            self.links.words.append(written)

    def _start(self, tag: Tag, given: str, at: int) -> int | None:
        """Begin an element, whose tag ends `at`; return where to go on, where it holds no HTML."""
        lines = self.lines
        if tag.ends_line:
            lines.end_line(leaves_gap=tag.leaves_gap)
        elif tag.stands_apart:
            lines.write(" ")
        if tag.remembers:
            self._before[tag.name].append((lines.white_space, lines.is_quoted))
            lines.is_quoted |= tag.quotes
            if tag.white_space is not None:
                lines.white_space = tag.white_space
        if start := self.STARTS.get(tag.name):
            start(self, given)
        return self._behind_raw(tag.name, at) if tag.name in _NO_HTML else None

    def _end(self, tag: Tag) -> None:
        lines, name = self.lines, tag.name
        if tag.ends_line:
            lines.end_line(leaves_gap=tag.leaves_gap)
        elif tag.stands_apart:
            lines.write(" ")
        if end := self.ENDS.get(name):
            end(self)
        if tag.remembers and (before := self._before.get(name)):
            lines.white_space, lines.is_quoted = before.pop()

    def _behind_raw(self, name: str, at: int) -> int | None:
        """Write what a text area or a title holds; return where the end is, None where there is none."""
        start, end = self._raw_end(name, at)
        if end is None:
            self._write(_COMMENT if name == _COMMENT else "")
        elif name == "textarea" or (name == "title" and not self._is_in_head):
            self._write(self._html[at:start])
        return end

    def _raw_end(self, name: str, at: int) -> tuple[int, int | None]:
        """Return where what is no HTML ends, and where HTML goes on."""
        if name in self._unended:
            return at, None
        is_comment = name == _COMMENT
        found = _COMMENT_END.search(self._html, at - 2) if is_comment else _RAW_END[name].search(self._html, at)
        if found is None:
            self._unended.add(name)
            return at, None
        return found.start(), found.end() if is_comment else found.start()  # <!--> is a whole comment

    def _start_bullets(self, _given: str) -> None:
        self._counters.append(None)
        self._indent()

    def _start_numbers(self, given: str) -> None:
        self._counters.append(_number(given, "start", 1))
        self._indent()

    def _end_list(self) -> None:
        if self._counters:
            self._counters.pop()
        self._indent()

    def _indent(self) -> None:
        self.lines.indent = "  " * min(len(self._counters), DEEPEST)
        self.lines.marker = ""

    def _start_item(self, given: str) -> None:
        counter = self._counters[-1] if self._counters else None
        self.lines.marker = "• "
        if counter is not None:
            number = _number(given, "value", counter)
            self.lines.marker = f"{number}. "
            self._counters[-1] = number + 1

    def _picture(self, given: str) -> None:
        if words := attribute(given, "alt"):
            self._write(f" {words} ")

    def _enter_head(self, _given: str) -> None:
        self._is_in_head = True

    def _leave_head(self, _given: str = "") -> None:
        self._is_in_head = False

    STARTS: ClassVar[dict[str, Callable[["Layout", str], None]]] = {
        "a": lambda layout, given: layout.links.begin(attribute(given, "href")),
        "body": _leave_head,
        "br": lambda layout, _given: layout.lines.break_line(),
        "head": _enter_head,
        "img": _picture,
        "li": _start_item,
        "ol": _start_numbers,
        "pre": lambda layout, _given: layout.lines.keep_row_in_lines(),
        "table": lambda layout, _given: layout.lines.begin_table(),
        "td": lambda layout, _given: layout.lines.end_cell(),
        "th": lambda layout, _given: layout.lines.end_cell(),
        "tr": lambda layout, _given: layout.lines.end_row(),
        "ul": _start_bullets,
    }
    ENDS: ClassVar[dict[str, Callable[["Layout"], None]]] = {
        "a": lambda layout: layout.links.end(),
        "br": lambda layout: layout.lines.break_line(),
        "head": _leave_head,
        "ol": _end_list,
        "table": lambda layout: layout.lines.end_table(),
        "td": lambda layout: layout.lines.end_cell(),
        "th": lambda layout: layout.lines.end_cell(),
        "tr": lambda layout: layout.lines.end_row(),
        "ul": _end_list,
    }


def _number(given: str, name: str, otherwise: int) -> int:
    found = _NUMBER.match(attribute(given, name) or "") if given else None
    return int(found[1]) if found else otherwise
