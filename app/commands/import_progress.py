"""How does an import show how far it has come, and which lines are bad?"""

import os
import sys
from typing import TYPE_CHECKING, BinaryIO, Protocol, Self

import click

from app import hints
from app.commands import terminal
from app.commands.progress import Ticker

if TYPE_CHECKING:
    from collections.abc import Iterator

    from app.importing.append import Tally
    from app.importing.ticket_file import Line
    from db.inbox import Delivery


class Read(Protocol):
    """What is read: a file's source."""

    @property
    def bytes_read(self) -> int:
        """How much of the file was read, in bytes."""


class Progress:
    """Shows on standard error how far an import has come: by a bar on a terminal, else by a line every ten seconds."""

    def __init__(self, file: BinaryIO, source: Read, tally: "Tally", done: str) -> None:
        self.tally, self._source, self._shown = tally, source, 0
        is_drawn = sys.stderr.isatty() and file.seekable()
        size = os.fstat(file.fileno()).st_size if is_drawn else 0
        self._bar = click.progressbar(length=size, label="import", file=sys.stderr) if is_drawn else None
        self._ticker = Ticker(lambda: counts_of(tally, done))

    def __enter__(self) -> Self:
        (self._bar or self._ticker).__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        (self._bar or self._ticker).__exit__(None, None, None)

    def shown(self, given: "Iterator[list[Delivery]]") -> "Iterator[list[Delivery]]":
        """Yield the batches, and after each show how far the import has come."""
        for batch in given:
            yield batch
            if self._bar:
                self._bar.update(self._source.bytes_read - self._shown)
                self._shown = self._source.bytes_read

    def print_line(self, words: str) -> None:
        """Print a line in the bar's place; the next update draws the bar again below it."""
        terminal.echo(words, err=True, over_bar=bool(self._bar))

    def report_bad_line(self, line: "Line", error: str) -> None:
        """Print which line is skipped, and why."""
        self.print_line(f"line {line.number}" + (f" to {line.last}" if line.last > line.number else "") + f": {error}")

    def report_held(self, holder: str) -> None:
        """Print that another import of the file is under way, and which process runs it."""
        self.print_line(f"another import of this file is under way, by {holder}: waiting for its end")

    def report_stuck(self, rows: int) -> None:
        """Print that promotion does not catch up, and how many rows wait."""
        see = hints.as_typed("`ticket-inbox status`")
        self.print_line(f"waiting: about {rows:,} rows are to be promoted first. Is a worker alive? See {see}")


def counts_of(tally: "Tally", done: str) -> str:
    """Return how many lines had which outcome, in words; `done` says what became of good ones."""
    before = f"{tally.before:,} there before, " if tally.before else ""
    return f"{tally.read:,} lines read: {before}{tally.appended:,} {done}, {tally.skipped:,} skipped"
