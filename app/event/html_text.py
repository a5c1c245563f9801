"""What is the text of a ticket's member? HTML becomes lines that can be read; other text stays as it was written.

`text_of` reads a member that is HTML by its definition, `text_of_flat` one that may be HTML: of a flat payload, a file,
a report. Whether it is decided by its tags (app/event/html_tags.py). Both return what a search finds: NFC, and no
characters that nobody sees (app/event/characters.py). docs/decisions/0027 has why no library does it.
"""

from app.event.characters import decoded, tidy
from app.event.html_layout import Layout
from app.event.html_tags import Tags
from app.event.text_lines import Line

CUT = "\n[cut here: the text is longer than {:,} characters]"
UNLIMITED = 2**63


def text_of(html: str, limit: int = UNLIMITED) -> str:
    """Return the text of `html`, in at most `limit` characters; where it has no tag, its references are decoded."""
    tags = Tags(html)
    return _laid_out(tags, limit) if tags.are_html() else _written(decoded(html), limit)


def text_of_flat(text: str, limit: int = UNLIMITED) -> str:
    """Return `text`, or its text where it has tags of HTML, in at most `limit` characters."""
    tags = Tags(text)
    return _laid_out(tags, limit) if tags.are_html() else _written(text, limit)


def _laid_out(tags: Tags, limit: int) -> str:
    lines = Layout(tags).read()
    text = "\n".join(line.text for line in lines).strip()
    return text if len(text) <= limit else _cut(lines, limit)


def _written(text: str, limit: int) -> str:
    text = tidy(text)
    return text if len(text) <= limit else _cut([Line(line, is_quoted=False) for line in text.split("\n")], limit)


def _cut(lines: list[Line], limit: int) -> str:
    """Return the lines in `limit` characters, with a mark where some are missing: quoted history goes first.

    Of that, its beginning stays as far as there is room for it: the mail that was answered stands before older ones.
    """
    quoted = [line.is_quoted or line.text.startswith(">") for line in lines]
    mark = CUT.format(limit)
    room = (
        limit
        - len(mark)
        - sum(len(line.text) + 1 for line, is_quoted in zip(lines, quoted, strict=True) if not is_quoted)
    )
    kept, is_cut = list[str](), False
    for line, is_quoted in zip(lines, quoted, strict=True):
        if not is_quoted:
            kept.append(line.text)
        elif not is_cut:
            is_cut = len(line.text) >= room
            kept.append(line.text[: max(room, 0)] + mark * (room >= 0) if is_cut else line.text)
            room -= len(line.text) + 1
    return cut("\n".join(kept).strip(), limit)


def cut(text: str, limit: int) -> str:
    """Return `text`, or where it is longer its beginning and a mark that says so, `limit` characters in all."""
    if len(text) <= limit:
        return text
    mark = CUT.format(limit)
    return text[: max(limit - len(mark), 0)] + mark[:limit]
