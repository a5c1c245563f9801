"""A signal that comes while Python still imports ends the process at once, without a word; also in a container."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.stalled import UNSHARE, children, may_unshare, runs, stalled, wait_until

pytestmark = pytest.mark.one_postgres
in_a_container = pytest.mark.skipif(not may_unshare(), reason="needs unshare, and the right to use it")

STOPS = [signal.SIGTERM, signal.SIGINT, signal.SIGQUIT, signal.SIGHUP]
MOMENTS = {
    "serve: the command": (["-m", "app", "serve"], "msgspec"),
    "serve: the application": (["-m", "app", "serve"], "litestar"),
    "several: the supervisor": (["-m", "app", "serve", "--processes", "2"], "uvicorn"),
    "worker: the command": (["-m", "app", "worker"], "msgspec"),
    "worker: Python itself": (["-m", "app", "worker"], "sitecustomize"),
    "worker: its own": (["-m", "app", "worker"], "procrastinate"),
    "worker without the command": (["-m", "jobs"], "procrastinate"),
    "dev": (["-m", "app", "dev"], "httpx"),
}
first = pytest.mark.parametrize("is_first", [False, pytest.param(True, marks=in_a_container)], ids=["alone", "first"])


@pytest.mark.parametrize("moment", MOMENTS)
@first
def test_sigterm_before_anything_has_begun(
    environment: dict[str, str], tmp_path: Path, moment: str, *, is_first: bool
) -> None:
    arguments, at = MOMENTS[moment]
    with stalled(arguments, at, environment, tmp_path, is_first=is_first) as process:
        process.send(signal.SIGTERM)
        if at == "sitecustomize":
            process.release()  # nothing of ours runs there, and the signal waits
        assert process.end() == (0, "")


@pytest.mark.parametrize("number", STOPS)
@pytest.mark.parametrize("moment", ["serve: the command", "worker: its own", "dev"])
def test_any_signal_that_ends_it(
    environment: dict[str, str], tmp_path: Path, moment: str, number: signal.Signals
) -> None:
    """Ctrl-C too is no traceback."""
    with stalled(*MOMENTS[moment], environment, tmp_path) as process:
        process.send(number)
        assert process.end() == (0, "")


def test_several_processes_that_are_still_importing(environment: dict[str, str], tmp_path: Path) -> None:
    """The supervisor has its handlers, and its processes have reached the application."""
    command = ["-m", "app", "serve", "--processes", "2"]
    with stalled(command, "litestar", environment, tmp_path) as process:
        started = children(process.process.pid)
        process.send(signal.SIGTERM)
        assert process.end() == (0, "")
    wait_until(lambda: not any(map(runs, started)))


def test_ctrl_c_of_another_command_is_no_traceback(environment: dict[str, str], tmp_path: Path) -> None:
    with stalled(["-m", "app", "status"], "msgspec", environment, tmp_path) as process:
        process.send(signal.SIGINT)
        assert process.end() == (130, "")


@in_a_container
def test_a_migration_that_is_a_containers_first_process_ends(environment: dict[str, str], tmp_path: Path) -> None:
    """And not with 0, which would say that the schema is there."""
    with stalled(["-m", "app", "migrate"], "alembic", environment, tmp_path, is_first=True) as process:
        process.send(signal.SIGTERM)
        assert process.end() == (143, "")


@in_a_container
@pytest.mark.parametrize("command", [["serve"], ["serve", "--processes", "2"], ["worker"]], ids=" ".join)
def test_no_process_that_has_ended_is_left_in_a_container(
    environment: dict[str, str], tmp_path: Path, command: list[str]
) -> None:
    """What others leave behind there, such as a probe's shell, becomes a child of the first process."""
    with (tmp_path / "log").open("wb") as log:
        around = subprocess.Popen([*UNSHARE, sys.executable, "-m", "app", *command], env=environment, stderr=log)
    try:
        begun = b'"worker_started"' if command == ["worker"] else b'"listening"'
        wait_until(lambda: begun in (tmp_path / "log").read_bytes())
        [inside] = children(around.pid)
        before = set(children(inside))
        enter = ["nsenter", f"--target={inside}", "--pid", "--mount"]
        subprocess.run([*enter, "sh", "-c", "sleep 0.5 & sleep 0.6 &"], check=True)
        assert len(set(children(inside)) - before) == 2
        wait_until(lambda: set(children(inside)) == before)
        os.kill(inside, signal.SIGTERM)
        assert around.wait(30) == 0
    finally:
        around.kill()
        around.wait()
