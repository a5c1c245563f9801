"""Wait for what another process or thread does soon."""

import time
from collections.abc import Callable
from typing import TypeVar

Found = TypeVar("Found")


def eventually(look: Callable[[], Found], within: float = 15.0) -> Found:
    """Return the first thing that `look` finds; fail after `within` seconds, and show the last it returned."""
    deadline = time.monotonic() + within
    while not (found := look()):
        assert time.monotonic() < deadline, found
        time.sleep(0.1)
    return found
