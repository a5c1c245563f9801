"""What is a row of a table, whether it comes from XLSX or from CSV?"""

from collections.abc import Iterator
from typing import Protocol

import msgspec

TEXT, NUMBER, MOMENT, ERROR = "text", "number", "moment", "error"
SAFE_DIGITS = 15  # of a number: more of them a cell of Excel cannot keep


_EMPTY = frozenset({"", "-", "--", "n/a", "not assigned"})
_EMPTY_RESOLUTION = _EMPTY | {"no resolution"}


def is_empty(text: str) -> bool:
    """Return whether a cell is empty, or has what reports show for nothing."""
    return text.strip().casefold() in _EMPTY


def without_placeholder(member: str, text: str) -> str:
    """Return the text of a ticket's member, "" for what reports show for nothing in its column."""
    nothing = _EMPTY_RESOLUTION if member == "resolution" else _EMPTY
    return "" if text.strip().casefold() in nothing else text


class Cell(msgspec.Struct, frozen=True, gc=False):
    """A cell's text, and what it is; of a MOMENT the text is ISO 8601, mostly without a zone."""

    text: str
    kind: str = TEXT


class Row(msgspec.Struct, frozen=True):
    """The cells that are not empty of row `number`, by column from 0; `last` is the line that it ends on.

    `error` says why a row cannot be read. `width` is how many values a row of CSV has; in XLSX empty ones may be left
    out.
    """

    number: int
    last: int
    cells: dict[int, Cell]
    error: str | None = None
    width: int | None = None


class Table(Protocol):
    """A table in a file."""

    name: str  # of the sheet; "" for CSV
    beside: str  # the names of the file's other sheets, which are not read

    @property
    def bytes_read(self) -> int:
        """How much of the file was read for the rows so far, in bytes."""

    def rows(self) -> Iterator[Row]:
        """Yield every row, from the first one on. Raises FileError."""
