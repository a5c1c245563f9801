"""Where does a Postgres of the tests keep its data? In memory, if there is enough: a database is hundreds of files."""

import contextlib
import fcntl
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

MEMORY = Path("/dev/shm")
ENOUGH = 4 * 1024**3  # bytes: a Postgres writes a gigabyte of WAL before it reuses a file
PREFIX = "ticket-inbox-tests-"


@contextlib.contextmanager
def scratch_directory() -> Iterator[Path]:
    """Yield a directory, and remove it after the block. If this process is killed, the next call removes it.

    It is not in pytest's own directory: a second pytest takes from that the access of root's Postgres, which runs as
    another user.
    """
    has_memory = MEMORY.is_dir() and shutil.disk_usage(MEMORY).free > ENOUGH
    made = Path(tempfile.mkdtemp(prefix=f".{PREFIX}", dir=MEMORY if has_memory else None))
    with (made / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        directory = made.rename(made.with_name(made.name.removeprefix(".")))
        _remove_abandoned(directory.parent)
        try:
            yield directory
        finally:
            shutil.rmtree(directory, ignore_errors=True)


def _remove_abandoned(parent: Path) -> None:
    """Remove the directories whose locks no process holds: their processes were killed."""
    for lock in parent.glob(f"{PREFIX}*/lock"):
        with contextlib.suppress(OSError), lock.open() as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(lock.parent, ignore_errors=True)
