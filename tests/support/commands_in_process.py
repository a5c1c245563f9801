"""Run commands in the tests' own process, where they need not import everything again."""

import contextlib
import subprocess
from collections.abc import Sequence
from pathlib import Path

from click.testing import CliRunner, Result

from app import hints
from app.cli import main

Environment = dict[str, str]


def invoke(env: Environment, *arguments: str, given: bytes | None = None) -> Result:
    """Run a command in this process, as if without `uv run`; test_walk runs commands as processes.

    `given` is its standard input.
    """
    runner = CliRunner(env={hints.UNDER_UV: None, **env})
    return runner.invoke(main, arguments, input=given, prog_name="ticket-inbox")


def run_here(arguments: Sequence[str], env: Environment, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    """Run a command as `run` of tests/support/system.py does, but in this process."""
    with contextlib.chdir(cwd or Path.cwd()):
        done = invoke(env, *arguments)
    return subprocess.CompletedProcess(arguments, done.exit_code, done.stdout, done.stderr)


def tenant_command(env: Environment, *arguments: str) -> str:
    """Run `ticket-inbox tenant …`, assert that it succeeds, and return what it prints."""
    done = invoke(env, "tenant", *arguments)
    assert done.exit_code == 0, done.stderr
    return done.stdout.strip()
