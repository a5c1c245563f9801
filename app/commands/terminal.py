"""How is text that others wrote printed, so that it cannot steer the terminal?"""


def printable(text: str) -> str:
    """Return `text` with each character that is not printable (control, escape, bidi) written as its escape."""
    return "".join(one if one.isprintable() else one.encode("unicode_escape").decode() for one in text)
