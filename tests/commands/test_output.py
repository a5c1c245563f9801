"""A standard output that is closed, full, gone or of few characters ends no command with a traceback."""

import signal
import subprocess
import sys
import time
from pathlib import Path

import psycopg
import pytest

from app import standard_streams
from app.dev import waterfall
from tests.conftest import clean_environment
from tests.support.stalled import stalled, wait_until
from tests.support.system import Database, Tenant

pytestmark = pytest.mark.one_postgres

FULL = "Error: standard output takes nothing (No space left on device): give it room, or another place\n"
ENDS = {  # of a command line, with its exit code and all that it prints
    ">/dev/full": (1, FULL),
    "| sleep 0": (1, ""),
    ">&-": (0, ""),
    ">&- 2>&- <&-": (0, ""),
    "2>/dev/full >/dev/full": (1, ""),
}


def typed(line: str, env: dict[str, str]) -> tuple[int, str]:
    """Return the exit code of a line's command, and what is printed where the line does not lead it elsewhere."""
    script = f'"{sys.executable}" -m app {line}\necho "${{PIPESTATUS[0]}}" >&9'
    done = subprocess.run(
        ["bash", "-c", f"exec 9>&1 1>&2\n{script}"],
        env=env,
        capture_output=True,
        text=True,
        errors="replace",
        timeout=60,
        check=False,
    )
    return int(done.stdout), done.stderr


@pytest.mark.parametrize("end", ENDS)
def test_no_traceback_whatever_takes_the_output(end: str) -> None:
    """Of --help, which every command has and which writes as all others do."""
    assert typed(f"tenant --help {end}", clean_environment()) == ENDS[end]


def test_a_stream_that_is_closed_lends_its_number_to_nothing() -> None:
    """Else a connection to Postgres would get it, and what children print."""
    code = "import os, sys; from app import standard_streams as s; s.fill_gaps(); sys.exit(os.open('/', 0))"
    done = subprocess.run(["bash", "-c", f'"{sys.executable}" -c "{code}" >&- 2>&- <&-'], check=False, timeout=30)
    assert done.returncode == 3


def test_an_error_of_standard_output_is_none_of_postgres(database: Database, environment: dict[str, str]) -> None:
    """OSError is both. What was done before stays done."""
    assert typed("tenant add acme >/dev/full", environment)[1].endswith(FULL)
    assert database.value("SELECT count(*) FROM tenant_configs") == 1


def test_what_the_terminal_cannot_show_is_named_by_its_number(database: Database, environment: dict[str, str]) -> None:
    database.deliver(Tenant("acme", "x").payload(ticket_id="täg→"))
    code, shown = typed("trace 'täg→'", environment | {"PYTHONIOENCODING": "latin-1:strict", "PYTHONUTF8": "1"})
    assert (code, "\\u2192" in shown) == (0, True), shown


def test_a_waterfall_is_drawn_in_the_terminals_characters(monkeypatch: pytest.MonkeyPatch) -> None:
    step = waterfall.Step("a name that is longer than its column, by far", "t", "c", 0, 10)
    assert "█" in "".join(waterfall.lines([step]))
    monkeypatch.setattr(standard_streams, "can_print", lambda _: False)
    assert "".join(waterfall.lines([step])).isascii()


@pytest.mark.parametrize("at", ["signal", "typing", "click", "asyncpg"])
def test_ctrl_c_while_python_imports(environment: dict[str, str], tmp_path: Path, at: str) -> None:
    """From the first import of ours on: before it the signal itself ends the process."""
    with stalled(["-m", "app", "status"], at, environment, tmp_path) as process:
        process.send(signal.SIGINT)
        code, printed = process.end()
    assert (code in (130, -signal.SIGINT), printed) == (True, "")


def test_ctrl_c_while_a_command_waits_for_postgres(database: Database, environment: dict[str, str]) -> None:
    with psycopg.connect(database.url) as holder:
        holder.execute("LOCK inbox IN ACCESS EXCLUSIVE MODE")
        command = [sys.executable, "-m", "app", "trace", "x"]
        with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
            try:
                wait_until(lambda: database.value("SELECT count(*) FROM pg_locks WHERE NOT granted"))
                time.sleep(0.1)
                process.send_signal(signal.SIGINT)
                printed, error = process.communicate(timeout=20)
            finally:
                process.kill()
    assert (process.returncode, printed, error.strip()) == (130, b"", b"")
