"""By which number do people know a ticket? ServiceDesk Plus' `display_id`, in either wire form."""

from typing import Annotated

import msgspec
from msgspec import Meta

MOST_CHARS = 100  # as many as a ticket's id; an index entry could not hold some thousands

# Its value as it was written: one that is of no use here must not cost the ticket.
DisplayId = Annotated[
    msgspec.Raw,
    Meta(
        description="The number that people know the ticket by. A string or a whole number is kept as text; anything "
        "else is ignored.",
        extra_json_schema={
            "anyOf": [{"type": "string", "maxLength": MOST_CHARS}, {"type": "integer"}, {"type": "null"}],
            "examples": ["4711"],
        },
    ),
]
EXACT = 2**53  # up to here a number with a decimal point is what its sender meant
_decoder = msgspec.json.Decoder(int | float | str)


def read(raw: msgspec.Raw) -> str | None:
    """Return a display id as text; None where there is none, or `raw` is no string or whole number of usual length."""
    if not raw:
        return None
    try:
        found = _decoder.decode(raw)
        text = (found if isinstance(found, str) else str(_whole(found))).strip()
    except (ValueError, RecursionError):
        return None
    return text if 0 < len(text) <= MOST_CHARS and "\0" not in text else None


def _whole(number: float) -> int:
    """Return a number that JSON may write as 4711 or 4711.0. Raises ValueError for any other."""
    if isinstance(number, int):
        return number
    if not number.is_integer() or abs(number) > EXACT:
        raise ValueError
    return int(number)
