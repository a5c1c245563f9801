"""Which text does a cell of an XLSX file hold? XML cannot hold every character: Excel writes some as `_x000D_`."""

import re

_ESCAPED = re.compile(r"_x([0-9A-Fa-f]{4})_")


def unescape(text: str) -> str:
    """Return the text that a cell shows; a character that Postgres cannot store becomes U+FFFD."""
    if "_x" in text:
        text = _ESCAPED.sub(lambda found: chr(int(found[1], 16)), text)
        # Two escapes may be the halves of one character; half of one is none.
        text = text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return text.replace("\0", "\ufffd")
