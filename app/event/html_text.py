"""What is the text of a piece of HTML? Paragraphs, lists and links that can be read; no scripts, no styles.

resiliparse, on lexbor's parser in C, takes 0.1 s for a mail thread of 2 MB, however deep its quotes are nested; what
keeps it from tags that cost it more than their length (below) takes another 0.2 s. inscriptis took 0.7 s and lost what
lay too deep, html-to-markdown 0.3 to 2 s (docs/decisions/0027).
"""

import re

_MARKUP = re.compile(r"<[a-zA-Z!/?]|&[a-zA-Z#]")
_GAP = re.compile(r"\n{3,}")
_TAG = re.compile(
    r"<(/?)([uo]l|b|big|code|em|font|i|nobr|s|small|strike|strong|tt|u|option|optgroup)(?![^\s/>])", re.IGNORECASE
)
CUT = "\n[cut here: the text is longer than {:,} characters]"
DEEPEST = 10  # lists in lists; resiliparse indents each line by its depth, so that 18 KB of them became 4 MB


def text_of(html: str) -> str:
    """Return the text of `html`; a text without markup keeps its line ends, and only loses blanks around it."""
    if not _MARKUP.search(html):
        return html.strip()
    from resiliparse.extract.html2text import extract_plain_text  # noqa: PLC0415  (only HTML needs it)

    text = extract_plain_text(_flattened(html), links=True, preserve_formatting=True)
    # A regular expression for blanks at a line's end would look at each of a million blanks within one a million times.
    return _GAP.sub("\n\n", "\n".join(line.rstrip(" \t") for line in text.split("\n"))).strip()


def _flattened(html: str) -> str:
    """Return HTML of the same text, without tags whose cost to the parser grows faster than their number.

    A parser opens each <b> that was left open again in every paragraph, as the standard has it
    (https://html.spec.whatwg.org/multipage/parsing.html#reconstruct-the-active-formatting-elements): 110 KB took 50 s.
    """
    depth = 0

    def renamed(found: re.Match[str]) -> str:
        nonlocal depth
        slash, name = found[1], found[2].lower()
        if name not in ("ul", "ol"):
            return f"<{slash}span"
        is_deep = depth >= DEEPEST + bool(slash)
        depth = max(depth - 1, 0) if slash else depth + 1
        return f"<{slash}div" if is_deep else found[0]

    return _TAG.sub(renamed, html)


def cut(text: str, limit: int) -> str:
    """Return `text`, or where it is longer its beginning and a mark that says so, `limit` characters in all."""
    if len(text) <= limit:
        return text
    mark = CUT.format(limit)
    return text[: max(limit - len(mark), 0)] + mark[:limit]
