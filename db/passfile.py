"""Which password does a session log in with, if DATABASE_URL has none? The passfile's, read again for each session.

libpq does this for psycopg. asyncpg has its own reader, which takes other lines than libpq: it keeps the backslashes
of a password, and takes every socket directory for localhost. So asyncpg gets the password from here.
"""

import contextlib
import os
import re
import stat
from pathlib import Path

FIELD = r"((?:\\.|[^\\:])*)"
LINE = re.compile(":".join([*[FIELD] * 4, "(.*)"]))
SOCKETS = "/var/run/postgresql"  # psycopg's libpq knows it as "localhost"


def password(path: str, host: str, port: str, dbname: str, user: str) -> str:
    """Return the password of the first line in the file that matches; "" if none does.

    As libpq does, it ignores a file that is missing, is no plain file, or is open to other users.
    """
    wanted = ("localhost" if host in ("", SOCKETS) else host, port, dbname, user)
    with contextlib.suppress(OSError):
        if not is_too_open(path) and Path(path).is_file():
            for line in Path(path).read_text(errors="surrogateescape").splitlines():
                found = LINE.fullmatch(line)
                if found and not line.startswith("#") and _matches(found.groups()[:4], wanted):
                    return _plain(found[5])
    return ""


def is_too_open(path: str) -> bool:
    """Whether the file exists, and its group or others may read or write it; both drivers ignore such a file."""
    try:
        mode = Path(path).stat().st_mode
    except OSError:
        return False
    return os.name == "posix" and bool(mode & (stat.S_IRWXG | stat.S_IRWXO))


def _matches(fields: tuple[str, ...], wanted: tuple[str, ...]) -> bool:
    return all(field == "*" or _plain(field) == value for field, value in zip(fields, wanted, strict=True))


def _plain(field: str) -> str:
    return re.sub(r"\\(.)", r"\1", field)
