"""Which lines does a text have so far? Words come in, white space collapses, the cells of a row become one line.

A line knows whether it is quoted history: that is cut first.
"""

import re
from typing import NamedTuple

from app.event.characters import tidy

COLLAPSES, KEEPS_LINES, KEEPS_ALL = range(3)  # what becomes of white space
MOST_LINES_OF_A_CELL = 8  # with more it is no datum: a table that lays out a mail keeps its lines
_SPACES = re.compile(r"[ \t\n\r\f]++")
_UNEVEN = re.compile(r"[\t\n\r\f]|  ")


class Line(NamedTuple):
    """A line of text, and whether it is quoted history."""

    text: str
    is_quoted: bool


class Row:
    """An open row of a table: its first line, its cell's first line, how many cells hold text."""

    __slots__ = ("cell", "filled", "first", "is_layout")

    def __init__(self, first: int) -> None:
        self.first = self.cell = first
        self.filled = 0
        self.is_layout = False  # its lines stay as they are


class TextLines:
    """The lines so far, and the one that is being written."""

    def __init__(self, white_space: int) -> None:
        self.done: list[Line] = []
        self.white_space = white_space
        self.is_quoted = False
        self.indent = self.marker = ""  # of the line being written; a marker, such as a bullet, stands before its words
        self._parts: list[str] = []
        self._ends_blank = True
        self._ends_apart = False
        self._wants_gap = False
        self._rows: list[Row] = []

    def write(self, words: str) -> str:
        """Add words to the line; return what of them is written."""
        if self._ends_apart:
            self._stand_apart(words)
        if self.white_space != COLLAPSES:
            return self._keep(words)
        if _UNEVEN.search(words):
            words = _SPACES.sub(" ", words)
        if self._ends_blank and words[:1] == " ":
            words = words[1:]
        if words:
            self._parts.append(words)
            self._ends_blank = words[-1] == " "
        return words

    def _keep(self, words: str) -> str:
        for number, line in enumerate(words.replace("\r\n", "\n").replace("\r", "\n").split("\n")):
            if number:
                self.break_line()
            if self.white_space == KEEPS_LINES:
                part = _SPACES.sub(" ", line)
                self._parts.append(part.lstrip(" ") if self._ends_blank else part)
            else:
                self._parts.append(line)
            if line:
                self._ends_blank = line[-1] == " "
        return words

    def write_apart(self, words: str) -> None:
        """Add words that are glued to no other word."""
        if not self._ends_blank:
            self._parts.append(" ")
        self._parts.append(words)
        self._ends_blank = False
        self._ends_apart = True

    def _stand_apart(self, words: str) -> None:
        if words[:1].isalnum() and self._parts:
            self._parts.append(" ")
        self._ends_apart = False

    def break_line(self) -> None:
        """End the line; where it is empty, leave a gap."""
        if not self._end():
            self._wants_gap = True

    def end_line(self, *, leaves_gap: bool = False) -> None:
        """End the line, if it has text; `leaves_gap` has a blank line follow, unless a marker waits for its words."""
        if self._parts:
            self._end()
        if leaves_gap and not self.marker:
            self._wants_gap = True

    def _end(self) -> bool:
        """End the line; return whether it had text."""
        text = tidy("".join(self._parts)).rstrip(" \t")
        self._parts.clear()
        self._ends_blank = True
        if not text or text.isspace():
            return False
        if self._wants_gap:
            self._fill_gap()
        before = self.marker or "  " if self.indent else self.marker
        self.done.append(Line(f"{self.indent}{before}{text}", self.is_quoted))
        self.marker = ""
        return True

    def _fill_gap(self) -> None:
        if self._wants_gap and self.done and self.done[-1].text:
            self.done.append(Line("", self.is_quoted))
        self._wants_gap = False

    def begin_table(self) -> None:
        """Begin a table; a row around it keeps its lines."""
        self.end_line()
        self._fill_gap()
        self.keep_row_in_lines()
        self._rows.append(Row(len(self.done)))

    def keep_row_in_lines(self) -> None:
        """Have the row that is open keep its lines: they mean something."""
        if self._rows:
            self._rows[-1].is_layout = True

    def end_cell(self) -> None:
        """End the cell that is open; another begins."""
        self.end_line()
        if self._rows:
            row, count = self._rows[-1], len(self.done)
            row.filled += count > row.cell
            row.is_layout |= count > row.cell + MOST_LINES_OF_A_CELL
            row.cell = count

    def end_row(self) -> None:
        """End the row that is open; another begins. Cells that each hold a datum become one line."""
        self.end_cell()
        if not self._rows:
            return
        row = self._rows[-1]
        if row.filled > 1 and not row.is_layout:
            data = [line.text.strip() for line in self.done[row.first :] if line.text]
            self.done[row.first :] = [Line(self.indent + " ".join(data), self.is_quoted)]
            self._wants_gap = False
        self._fill_gap()
        self._rows[-1] = Row(len(self.done))

    def end_table(self) -> None:
        """End the table that is open, if one is."""
        self.end_row()
        if self._rows:
            self._rows.pop()

    def all(self) -> list[Line]:
        """End what is open, and return all lines."""
        while self._rows:
            self.end_table()
        self.end_line()
        return self.done
