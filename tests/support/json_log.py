"""Read a process's log, one JSON object a line, while the process writes it."""

import json
import threading
from pathlib import Path
from typing import Any


class JsonLog:
    """The lines logged so far. A test that waits for a line asks again and again, so each line is read only once."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lines: list[dict[str, Any]] = []  # read so far
        self._read = 0  # bytes of the file
        self._lock = threading.Lock()

    def lines(self, *, is_whole: bool) -> list[dict[str, Any]]:
        """Return all lines; unless the log is whole, leave out a last line that is not yet written to its end."""
        with self._lock, self.path.open("rb") as file:
            file.seek(self._read)
            new = file.read()
            ended = new if is_whole else new[: new.rfind(b"\n") + 1]
            self._read += len(ended)
            self._lines += map(json.loads, filter(None, ended.split(b"\n")))  # a sender's text may hold U+2028
            return list(self._lines)
