"""How does a command that takes long show that it goes on, where there is no terminal to draw a bar on?"""

import threading
from collections.abc import Callable
from typing import Self

from app.commands import terminal

EVERY = 10.0  # seconds


class Ticker:
    """Prints what `words` returns on standard error every ten seconds of a `with` block, from a thread.

    The command itself may wait: for a pipe, for Postgres, or for ServiceDesk Plus.
    """

    def __init__(self, words: Callable[[], str]) -> None:
        self._words = words
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._tick, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_error: object) -> None:
        self._ended.set()
        self._thread.join()

    def _tick(self) -> None:
        while not self._ended.wait(EVERY):
            terminal.echo(self._words(), err=True)
