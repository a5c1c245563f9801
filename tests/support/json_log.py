"""A log of JSON objects, one a line, which is read while it is written."""

import json
import threading
from pathlib import Path
from typing import Any


class JsonLog:
    """What was logged so far. Who waits for a line asks again and again, so each line is read once."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lines: list[dict[str, Any]] = []  # those that were read
        self._read = 0  # bytes of the file
        self._lock = threading.Lock()

    def lines(self, *, is_whole: bool) -> list[dict[str, Any]]:
        """Give all lines; unless the log is whole, the last one may still be under way."""
        with self._lock, self.path.open("rb") as file:
            file.seek(self._read)
            new = file.read()
            ended = new if is_whole else new[: new.rfind(b"\n") + 1]
            self._read += len(ended)
            self._lines += map(json.loads, filter(None, ended.split(b"\n")))  # a text of a sender may hold U+2028
            return list(self._lines)
