"""How much memory did a command take at most? The process itself reads it: what wait4 says may be its parent's."""

import subprocess
import sys
from collections.abc import Mapping, Sequence

_CODE = """
import sys
from app.cli import main
try:
    main(sys.argv[1:])
finally:
    [peak] = [line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM")]
    sys.stderr.write(f"\\n{int(peak) // 1024}")
"""


def run(arguments: Sequence[str], env: Mapping[str, str] | None = None) -> tuple[int, subprocess.CompletedProcess[str]]:
    """Run a command of ticket-inbox; return the MB that it took, and what it printed."""
    done = subprocess.run(
        [sys.executable, "-c", _CODE, *arguments], env=env, capture_output=True, text=True, check=False
    )
    done.stderr, _, peak = done.stderr.rpartition("\n")
    return int(peak), done
