"""How is text that others wrote shown, so that it moves no terminal's cursor and cannot look like another line?"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable


def printable(text: str) -> str:
    r"""Return `text` with an escape such as \x1b, \n or \u202e in place of each character that is not printable.

    That is what `str.isprintable` says: control characters (C0 and C1), controls of the writing direction, characters
    without a width, blanks other than a space, and halves of surrogate pairs.
    """
    return _escaped(text, lambda one: one.encode("unicode_escape").decode())


def printable_json(line: str) -> str:
    """Return a line of JSON, escaped like `printable` and still of the same meaning.

    JSON's encoder has escaped the line breaks, so each of these characters stands in a string.
    """
    return _escaped(line, _in_json)


def _escaped(text: str, escape: "Callable[[str], str]") -> str:
    return text if text.isprintable() else "".join(one if one.isprintable() else escape(one) for one in text)


def _in_json(one: str) -> str:
    units = one.encode("utf-16-be", "surrogatepass").hex()
    return "".join(f"\\u{units[start : start + 4]}" for start in range(0, len(units), 4))
