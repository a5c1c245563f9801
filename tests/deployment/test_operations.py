"""The runbook is right: the test makes each situation, types each line of its section, and compares the output."""

import re
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests import ROOT
from tests.support.questions import add_ticket
from tests.support.system import Database, Tenant, Worker

pytestmark = pytest.mark.one_postgres

PAGE = (ROOT / "docs/operations.md").read_text()
SECTIONS = dict(re.findall(r"^### … ([^\n]*)\n(.*?)(?=^##|\Z)", PAGE, re.MULTILINE | re.DOTALL))
StartWorker = Callable[..., Worker]
ACME = Tenant("acme", "secret")


def steps(section: str) -> list[tuple[str, str]]:
    """Return the lines to type, each with the output that the page shows."""
    consoles = re.findall(r"^```console\n(.*?)^```", SECTIONS[section], re.MULTILINE | re.DOTALL)
    return [
        (line, shown)
        for block in consoles
        for line, shown in re.findall(r"^\$ (.*)\n((?:[^$].*\n|\n)*)", block, re.MULTILINE)
    ]


def type_in(line: str, shown: str, environment: dict[str, str]) -> None:
    """Type a line until its output is right: a job that an earlier line deferred may still run."""
    path = f"{Path(sys.executable).parent}:{environment['PATH']}"
    # A line with only … stands for any number of lines, also none.
    shown = re.sub(r"^…\n", "…", shown.strip() + "\n", flags=re.MULTILINE)
    pattern = ".*".join(re.escape(part) for part in shown.split("…"))
    deadline = time.monotonic() + 10
    while True:
        done = subprocess.run(
            ["sh", "-c", line],
            cwd=ROOT, env={**environment, "PATH": path}, capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip
        # A line that defers must not be typed twice.
        said = (done.stdout + done.stderr).strip() + "\n"
        if re.fullmatch(pattern, said, re.DOTALL):
            return
        is_harmless = "defer" not in line and ("reprocess" not in line or "--dry-run" in line)
        assert is_harmless, f"{line}\n{said}\nis not\n{shown}"
        assert time.monotonic() < deadline, f"{line}\n{said}\nis not\n{shown}"


def follow(section: str, environment: dict[str, str], after_first: Callable[[], object] = list) -> None:
    """Type all of a section's lines; `after_first` is called after the first one."""
    first, *rest = steps(section)
    type_in(*first, environment)
    after_first()
    for line, shown in rest:
        type_in(line, shown, environment)


@pytest.fixture
def environment(environment: dict[str, str], database: Database, secrets_key: str) -> dict[str, str]:
    database.add_tenant(secrets_key, "acme")
    return {**environment, "SECRET": "a-secret-that-is-long-enough-to-be-one"}


def test_each_section_is_followed() -> None:
    code = Path(__file__).read_text()
    with_commands = [name for name in SECTIONS if steps(name)]
    assert len(with_commands) == 7
    assert all(f'follow("{name}"' in code for name in with_commands)


def test_a_bad_deploy(database: Database, environment: dict[str, str], start_worker: StartWorker) -> None:
    ids = database.deliver(ACME.payload(), ACME.payload())
    database.query(
        "UPDATE inbox SET status = 'rejected', error = 'priority must be a string; it is missing' WHERE id = ANY(%s)",
        ids,
    )
    start_worker().wait_for_line("worker_started")
    database.wait_for("SELECT count(*) FROM procrastinate_jobs WHERE task_name = 'promote'", 0, within=10)
    follow("a bad deploy rejected good events", environment)
    assert database.value("SELECT count(*) FROM ticket_history") == 2


def test_a_wrong_secret(database: Database, environment: dict[str, str]) -> None:
    database.query(
        "INSERT INTO signature_counts (tenant_id, hour, wrong, last_failed_at) "
        "VALUES ('acme', date_trunc('hour', now()), 3, now() - interval '1 minute')"
    )
    follow("a tenant's secret was wrong for a day", environment)


def test_a_database_that_was_away(database: Database, environment: dict[str, str], start_worker: StartWorker) -> None:
    worker = start_worker()
    worker.wait_for_line("worker_started")
    database.query(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
    )
    follow("the database was away", environment)


def test_a_backlog(database: Database, environment: dict[str, str]) -> None:
    database.deliver(ACME.payload())
    database.query("UPDATE inbox SET received_at = now() - interval '121 seconds'")
    follow("the backlog grows", environment)


def test_one_ticket_is_missing(database: Database, environment: dict[str, str], start_worker: StartWorker) -> None:
    """Its payload was damaged, and the test repairs it after the first line."""
    [inbox_id] = database.deliver(ACME.payload(ticket_id="155000"))
    good = database.value("SELECT payload FROM inbox")
    database.query("UPDATE inbox SET payload = 'x'")
    start_worker()
    database.wait_for("SELECT status FROM inbox", "failed", within=10)
    assert inbox_id == 1
    follow("one ticket is missing", environment, lambda: database.query("UPDATE inbox SET payload = %s", good))


def test_a_tenant_leaves(database: Database, environment: dict[str, str]) -> None:
    """It was disabled long ago, so the command need not wait for the servers."""
    database.query("UPDATE tenant_configs SET enabled = false, updated_at = now() - interval '1 hour'")
    follow("a tenant leaves", environment)
    assert database.value("SELECT count(*) FROM tenant_configs") == 0


def test_a_search_without_words(database: Database, environment: dict[str, str]) -> None:
    """The test does what a worker does."""
    add_ticket(database, "acme", "155000")
    database.query("UPDATE search_indexes SET is_ready = false, tickets = 0, words = 0, position = ''")
    database.query("DELETE FROM search_tickets")
    database.query("DELETE FROM search_words")

    def make_words() -> None:
        while database.value("SELECT search_index_batch(1000)"):
            pass

    follow("the search answers 503, or finds nothing", environment, make_words)
