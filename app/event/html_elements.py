"""What does each element of HTML do to the text around it: end a line, stand apart, keep white space, quote?"""

import functools
import re
from typing import NamedTuple

from app.event.html_tags import VOID, names
from app.event.text_lines import COLLAPSES, KEEPS_ALL, KEEPS_LINES

_PARAGRAPHS = names("p h1 h2 h3 h4 h5 h6")
_BLOCKS = _PARAGRAPHS | names(
    "address article aside blockquote body caption center dd details dialog dir div dl dt fieldset figcaption figure "
    "footer form frameset head header hgroup hr html legend li main menu nav ol pre search section summary tbody tfoot "
    "thead title ul"
)
_MAKES_LINES = re.compile(rf"<(?:{'|'.join(sorted(_BLOCKS | names('br table td th tr')))})[ \t\n\r\f/>]", re.IGNORECASE)
_APART = names("button iframe label object optgroup option output select textarea video")
_ALWAYS_REMEMBER = names("blockquote div pre textarea")
_WHITE_SPACE = re.compile(r"white-space(?:-collapse)?\s*:\s*([a-z-]+)", re.IGNORECASE)
_STYLES = {
    "pre": KEEPS_ALL, "pre-wrap": KEEPS_ALL, "break-spaces": KEEPS_ALL, "preserve": KEEPS_ALL, "pre-line": KEEPS_LINES,
    "preserve-breaks": KEEPS_LINES, "normal": COLLAPSES, "nowrap": COLLAPSES, "collapse": COLLAPSES,
}  # fmt: skip
# What mail programs put around the mail that is answered, where it is no <blockquote>.
_QUOTE = re.compile(r"gmail_quote|yahoo_quoted|zmail_extra|protonmail_quote|tutanota_quote|moz-forward-container")
_MOST_KEPT = 512  # more than there are elements; Word's names have no end


class Tag(NamedTuple):
    """What a tag does."""

    name: str
    is_end: bool
    ends_line: bool
    leaves_gap: bool
    stands_apart: bool  # its text is never glued to the text before
    remembers: bool  # when its element ends, white space and quoting are as they were before it
    white_space: int | None
    quotes: bool


@functools.lru_cache(_MOST_KEPT)
def tag_of(name: str, *, is_end: bool = False, has_styles: bool = False) -> Tag:
    """Return what a tag without attributes does; `has_styles` where the text may have styles of white space."""
    return Tag(
        name,
        is_end,
        ends_line=name in _BLOCKS,
        leaves_gap=name in _PARAGRAPHS,
        stands_apart=name in _APART,
        remembers=name in _ALWAYS_REMEMBER or (has_styles and name not in VOID),
        white_space=KEEPS_ALL if name in ("pre", "textarea") else None,
        quotes=name == "blockquote",
    )


def start_tag(name: str, given: str, *, has_styles: bool) -> Tag:
    """Return what a start tag with the attributes `given` does."""
    tag = tag_of(name, has_styles=has_styles)
    if name == "div" and _QUOTE.search(given):
        tag = tag._replace(quotes=True)
    style = _WHITE_SPACE.search(given) if has_styles else None
    return tag._replace(white_space=_STYLES.get(style[1].lower(), tag.white_space)) if style else tag


def white_space_of(html: str) -> int:
    """Return what becomes of white space: where no element makes lines, a person wrote the line ends."""
    return COLLAPSES if _MAKES_LINES.search(html) else KEEPS_LINES


def may_have_styles(html: str) -> bool:
    """Return whether HTML may have styles that say what becomes of white space."""
    return "white-space" in html.lower()
