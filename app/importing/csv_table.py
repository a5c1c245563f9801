"""Which rows does a CSV file hold, in whatever encoding its mark names, and with whichever delimiter?"""

import codecs
import contextlib
import csv
import io
from collections.abc import Iterator, Mapping
from itertools import islice
from typing import BinaryIO

from app.importing import columns
from app.importing.table import Cell, Row
from app.importing.ticket_file import BOM, DELIMITERS, Lines, LongLineError

# UTF-32's mark begins with that of UTF-16.
MARKS = [
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
]
NOT_UTF_8 = "it is not UTF-8: export the report as XLSX, or convert the file to UTF-8"
CHUNK = 65_536


class _Recoded(io.RawIOBase):
    """A file in another encoding as UTF-8; what that encoding cannot hold becomes U+FFFD."""

    def __init__(self, file: BinaryIO, encoding: str) -> None:
        self._file = file
        self._decoder = codecs.getincrementaldecoder(encoding)(errors="replace")
        self._left = b""

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: bytearray | memoryview) -> int:  # type: ignore[override]
        while not self._left and (chunk := self._file.read(CHUNK)):
            self._left = self._decoder.decode(chunk).encode()
        count = min(len(buffer), len(self._left))
        buffer[:count], self._left = self._left[:count], self._left[count:]
        return count


class _WithLineFeeds(io.RawIOBase):
    """A file whose lines end with a carriage return alone, with line feeds in their place."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: bytearray | memoryview) -> int:  # type: ignore[override]
        found = self._file.read(len(buffer)).replace(b"\r", b"\n")
        buffer[: len(found)] = found
        return len(found)


def in_utf_8(file: BinaryIO) -> BinaryIO:
    """Return the file from its beginning, in UTF-8 whichever encoding the mark at its beginning names.

    Lines end with a line feed, also where Excel for Mac ended them with a carriage return alone ("CSV (Macintosh)").
    """
    head, found = _recoded(file).read(CHUNK), _recoded(file)
    return io.BufferedReader(_WithLineFeeds(found)) if b"\r" in head[:-1] and b"\n" not in head else found


def _recoded(file: BinaryIO) -> BinaryIO:
    file.seek(0)
    head = file.read(4)
    file.seek(0)
    encoding = next((name for mark, name in MARKS if head.startswith(mark)), None)
    return io.BufferedReader(_Recoded(file, encoding)) if encoding else file


def begins_as_markup(file: BinaryIO) -> bool:
    """Return whether the first text of a file is a tag, whatever mark stands before it."""
    return in_utf_8(file).read(512).removeprefix(BOM).lstrip().startswith(b"<")


class CsvTable:
    """A CSV file's rows, with the delimiter by which most columns are found; no line may be longer than `limit`."""

    name = beside = ""

    def __init__(self, file: BinaryIO, limit: int, mapped: Mapping[str, str]) -> None:
        self._file, self._limit = file, limit
        self._lines: Lines | None = None
        csv.field_size_limit(limit)
        self._delimiter = self._named_delimiter() or max(DELIMITERS, key=lambda one: self._columns(one, mapped))

    @property
    def bytes_read(self) -> int:
        return self._lines.bytes_read if self._lines else 0

    def rows(self) -> Iterator[Row]:
        yield from self._rows(self._delimiter)

    def _named_delimiter(self) -> str | None:
        """Return what the line `sep=;` at the top of the file names, which Excel wants."""
        line = in_utf_8(self._file).readline(16).removeprefix(BOM).strip()
        return chr(line[4]) if line[:4].lower() == b"sep=" and len(line) == 5 else None  # noqa: PLR2004

    def _columns(self, delimiter: str, mapped: Mapping[str, str]) -> int:
        """Return how many columns that we know a delimiter finds."""
        head = list(islice(self._rows(delimiter), columns.HEAD))
        return max((len(columns.of(row, mapped).at) for row in head), default=0)

    def _rows(self, delimiter: str) -> Iterator[Row]:
        lines = self._lines = Lines(in_utf_8(self._file), self._limit)
        # Not a generator: that would end at the first line that is too long, and all lines after it were lost.
        rows = csv.reader(map(_text, lines), delimiter=delimiter, strict=True)
        while True:
            number = lines.number + 1
            try:
                values = next(rows)
            except StopIteration:
                return
            except LongLineError as error:
                yield Row(number, lines.number, {}, str(error))
            except csv.Error as error:
                last = _skip_rest(lines) if "field limit" in str(error) else lines.number
                yield Row(number, last, {}, f"it is no row of CSV: {error}")
            else:
                if row := _row(number, lines.number, values):
                    yield row


def _text(line: bytes) -> str:
    """Decode a line; what is not UTF-8 becomes an error of its row."""
    return line.decode(errors="surrogateescape")


def _row(number: int, last: int, values: list[str]) -> Row | None:
    """Return the row of these values; None where all are empty, or for the line that names the delimiter."""
    if number == 1 and "".join(values).lower() in ("sep=", *(f"sep={one}" for one in DELIMITERS)):
        return None
    cells = {at: Cell(value) for at, value in enumerate(values) if value.strip()}
    try:
        "".join(values).encode()
    except UnicodeEncodeError:
        return Row(number, last, {}, NOT_UTF_8)
    return Row(number, last, cells, width=len(values)) if cells else None


def _skip_rest(lines: Lines) -> int:
    """Pass over the rest of a cell that is too long, to the line that closes its quotes; return that line's number.

    A line that is too long itself ends it too: whether it closes the quotes is unknown, and no row may be lost.
    """
    with contextlib.suppress(LongLineError):
        for line in lines:
            if line.count(b'"') % 2:
                break
    return lines.number
