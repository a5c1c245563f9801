"""What does HTML say? Text with paragraphs, lists and links that can be read; no scripts, no styles.

resiliparse, on lexbor's parser in C, takes 0.1 s for a mail thread of 2 MB, however deep its quotes are nested;
inscriptis took 0.7 s and lost what lay too deep, html-to-markdown 0.3 to 2 s (docs/decisions/0027).
"""

import re

_MARKUP = re.compile(r"<[a-zA-Z!/?]|&[a-zA-Z#]")
_BLANK = re.compile(r"[ \t]+$", re.MULTILINE)
_GAP = re.compile(r"\n{3,}")


def text_of(html: str) -> str:
    """Give the text of `html`; what holds no markup is text already, and its line ends stay."""
    if not _MARKUP.search(html):
        return html.strip()
    from resiliparse.extract.html2text import extract_plain_text  # noqa: PLC0415  (who reads no HTML needs no parser)

    text = extract_plain_text(html, links=True, preserve_formatting=True)
    return _GAP.sub("\n\n", _BLANK.sub("", text)).strip()
