"""Where are the texts of an XLSX file that its cells name by number? In a file on disk: there may be millions.

Most programs that write XLSX keep each text once, in a part of its own, and it has to be read as a whole before the
first row. A million tickets of two texts each took 1.2 GB as Python's strings.
"""

import os
import tempfile
from array import array
from contextlib import ExitStack
from functools import lru_cache
from typing import IO, Self
from zipfile import ZipFile

from app.importing import xml_part
from app.importing.cell_text import unescape
from app.importing.ticket_file import FileError

PART = "xl/sharedStrings.xml"
CACHED = 512  # texts: names of priorities and statuses stand in every row
BUFFER = 1024 * 1024


class SharedStrings:
    """The texts of an archive, by their number, for the time of a `with` block."""

    def __init__(self, archive: ZipFile, name: str, limit: int) -> None:
        self._archive, self._name, self._limit = archive, name, limit
        self._ends = array("Q")  # where each text ends in the file; it begins where the one before ends
        self._stack = ExitStack()
        self._descriptor = -1
        self.text = lru_cache(CACHED)(self._text)

    def __enter__(self) -> Self:
        try:
            file = self._stack.enter_context(tempfile.TemporaryFile(buffering=BUFFER))
            xml_part.parse(self._archive, self._name, _Collector(file, self._ends, self._limit))
            file.flush()
        except OSError as error:
            raise FileError(f"cannot write a temporary file (TMPDIR): {error.strerror}") from None
        self._descriptor = file.fileno()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def _text(self, number: int) -> str:
        """Return text `number`; of a longer one than the limit, its beginning. Raises IndexError."""
        begin = self._ends[number - 1] if number else 0
        os.lseek(self._descriptor, begin, os.SEEK_SET)
        return os.read(self._descriptor, self._ends[number] - begin).decode()


class _Collector(xml_part.Handler):
    """Writes each text of the part to a file, without the readings (`rPh`) that Japanese ones may have."""

    def __init__(self, file: IO[bytes], ends: "array[int]", limit: int) -> None:
        self._file, self._ends, self._limit = file, ends, limit
        self._parts: list[str] = []
        self._size = self._end = 0
        self._is_text = self._is_reading = False

    def start(self, name: str, attributes: dict[str, str]) -> None:  # noqa: ARG002
        if name == "si":
            self._parts, self._size = [], 0
        elif name == "rPh":
            self._is_reading = True
        self._is_text = name == "t" and not self._is_reading

    def end(self, name: str) -> None:
        self._is_text = False
        if name == "rPh":
            self._is_reading = False
        elif name == "si":
            text = "".join(self._parts)
            whole = unescape(text) if self._size <= self._limit else text  # one that is cut must stay over the limit
            self._end += self._file.write(whole.encode())
            self._ends.append(self._end)

    def text(self, text: str) -> None:
        if self._is_text and self._size <= self._limit:
            self._parts.append(text)
            self._size += len(text)
