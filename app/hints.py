"""What must a person type, and open, where a text names a command or a page? What works from where the person is."""

import os
import re
import shlex
import sys
from pathlib import Path

from app.own_path import ROOT

NAME = "ticket-inbox"
UNDER_UV = "UV_RUN_RECURSION_DEPTH"  # `uv run` sets it
INSTALLED = "share/doc/ticket-inbox"  # under the prefix that the wheel is installed in
_COMMAND = re.compile(rf"(?<=`){NAME}(?= )")
_PAGE = re.compile(r"(?<![\w./-])docs/[\w/-]+\.(?:md|conf|cfg)")


def command() -> str:
    """Return the words that call this command, as a shell reads them: `uv run` before it where it was started so."""
    if UNDER_UV in os.environ:
        return f"uv run {_project()}{NAME}"
    places = os.environ.get("PATH", "").split(os.pathsep)
    typed = sys.argv[0]
    is_found = any(os.access(Path(place, NAME), os.X_OK) for place in places if place)
    return NAME if is_found or Path(typed).name != NAME else shlex.quote(typed)


def as_typed(text: str) -> str:
    """Return `text` with each `ticket-inbox …` in backquotes as a person must type it, and each page where it is."""
    with_commands = _COMMAND.sub(lambda _: command(), text)
    return _PAGE.sub(lambda found: _path(found[0]), with_commands)


def pages() -> str:
    """Return the directory that holds `docs`: the checkout, or where a wheel puts it."""
    return ROOT if _is_checkout() else str(Path(sys.prefix, INSTALLED))


def _path(page: str) -> str:
    """Return a path that opens a page; the short one where that leads to it, or none is there."""
    path = Path(pages(), page)
    return page if Path(page).exists() or not path.exists() else str(path)


def _project() -> str:
    """Return the option that names uv's project, where uv would not find it from the working directory."""
    here = Path.cwd()
    if not _is_checkout() or Path(ROOT) in (here, *here.parents):
        return ""
    return f"--project {shlex.quote(ROOT)} "


def _is_checkout() -> bool:
    return Path(ROOT, "pyproject.toml").exists()
