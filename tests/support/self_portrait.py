"""What does a process know of itself as it begins? `python -m tests.support.self_portrait` prints it, and ends as told."""

import json
import os
import signal
import sys
import threading
from pathlib import Path


def portrait() -> dict[str, object]:
    """Return what differs between processes, and what Linux shows of this one."""
    status = dict(line.split(":\t", 1) for line in Path("/proc/self/status").read_text().splitlines())
    streams = (sys.stdin, sys.stdout, sys.stderr)
    return {
        "arguments": sys.argv,
        "path": sys.path,
        "environment": dict(os.environ),
        "directory": str(Path.cwd()),
        "name": [__name__, __spec__.name if __spec__ else None],
        "signals": [status[name] for name in ("SigBlk", "SigIgn", "SigCgt")],
        "open": sorted(int(path.name) for path in Path("/proc/self/fd").iterdir()),
        "streams": [(one.encoding, one.errors, one.line_buffering, one.fileno(), one.name) for one in streams],
        "are first": [sys.stdin is sys.__stdin__, sys.stdout is sys.__stdout__, sys.stderr is sys.__stderr__],
        "threads": threading.active_count(),
        "handles Ctrl-C": signal.getsignal(signal.SIGINT) is signal.default_int_handler,
        "our modules": sorted(name for name in sys.modules if name.partition(".")[0] in ("app", "db", "jobs", "otel", "tests")),
        "reads": sys.stdin.read(),
    }  # fmt: skip


if __name__ == "__main__":
    print(json.dumps(portrait()), flush=True)  # noqa: T201
    match sys.argv[1]:
        case "code":
            sys.exit(3)
        case "words":
            sys.exit("what is wrong")
        case "error":
            raise ValueError
        case "signal":
            os.kill(os.getpid(), signal.SIGKILL)
