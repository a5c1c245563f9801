"""From where do our processes import? Never from the working directory, which may hold a `jobs` or `app` of its own.

Python puts the working directory first where it is started with `-m`, and where multiprocessing starts it. What other
programs run, such as `litestar run` or `procrastinate --app=jobs.app`, is theirs to say.
"""

import os
import sys
from pathlib import Path

ROOT = str(Path(__file__).resolve().parent.parent)  # of all our packages


def leave_working_directory() -> None:
    """Take the working directory off this process's path, and keep it off that of each Python that it starts.

    In a checkout that is not installed, our packages are found in the working directory alone: there it stays.
    """
    os.environ["PYTHONSAFEPATH"] = "1"
    first, *others = [_resolved(entry) for entry in sys.path] or [""]
    if ROOT not in others:
        given = os.environ.get("PYTHONPATH")
        os.environ["PYTHONPATH"] = ROOT + (os.pathsep + given if given else "")
    if first == _resolved("") and not (sys.flags.safe_path or (first == ROOT and ROOT not in others)):
        del sys.path[0]


def _resolved(entry: str) -> str:
    return os.path.realpath(entry)  # of "", the working directory
