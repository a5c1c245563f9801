"""ticket-inbox reprocess: checks its filters, counts, waits for the job, and says what became of the rows."""

import json
import os
import pty
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence

import pytest

from app import hints
from app.commands import reprocess_job
from tests import ROOT
from tests.support.closed_database import closed
from tests.support.commands_in_process import run_here
from tests.support.system import Database, Tenant, Worker, running_worker

pytestmark = pytest.mark.one_postgres

ACME = Tenant("acme", "secret")


@pytest.fixture(scope="module")
def env(module_environment: dict[str, str], module_database: Database, secrets_key: str) -> dict[str, str]:
    """What an operator has: the database, and no key."""
    for tenant_id in ("acme", "globex"):
        module_database.add_tenant(secrets_key, tenant_id)
    return {name: value for name, value in module_environment.items() if name != "SECRETS_KEY"}


@pytest.fixture(scope="module")
def worker(env: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Worker]:
    with running_worker(env, tmp_path_factory.mktemp("worker") / "log") as running:
        running.wait_for_line("worker_started", within=30)
        yield running


@pytest.fixture
def clean(module_database: Database, env: dict[str, str]) -> Database:  # noqa: ARG001  (its tenants)
    module_database.query("TRUNCATE inbox, ticket_history, procrastinate_jobs RESTART IDENTITY CASCADE")
    return module_database


def append(database: Database, status: str, *payloads: object, tenant_id: str = "acme") -> list[int]:
    """Write rows with these payloads, one after the other, and return their ids."""
    with database.on_one_connection():
        return [*_append(database, status, payloads, tenant_id)]


def _append(database: Database, status: str, payloads: Sequence[object], tenant_id: str) -> Iterator[int]:
    for one in payloads:
        yield database.value(
            "INSERT INTO inbox (tenant_id, ticket_id, correlation_id, payload, signature, status, error, received_at) "
            "VALUES (%s, %s, 'c', %s, 's', %s, 'old', '2026-01-31T10:00:00Z') RETURNING id",
            tenant_id, one.get("ticket_id") if isinstance(one, dict) else None, json.dumps(one).encode(), status,
        )  # fmt: skip


def test_what_cannot_be_meant_is_one_line_and_changes_nothing(clean: Database, env: dict[str, str]) -> None:
    for arguments, words in {
        (): "say which rows, by at least one of --id, --status, --tenant, --after and --before",
        ("--status", "done"): "Invalid value for '--status': 'done' is not one of",
        ("--tenant", "nobody"): "there is no tenant 'nobody': see `ticket-inbox tenant list`",
        ("--ticket", "4711"): "--ticket needs --tenant",
        ("--id", "0"): "0 is not in the range",
        ("--after", "2026-01-31"): "'2026-01-31' has no zone: 2026-01-31T00:00:00Z is that time in UTC",
        ("--before", "soon"): "'soon' is no time like",
        ("--before", "0001-01-01T00:00+14:00"): "is no time like",
        ("--after", "2026-01-31T00:00Z", "--before", "2026-01-30T23:00-01:00"): "--after is not before --before",
        ("--cancel", "1", "--dry-run"): "--cancel takes no other option",
    }.items():
        done = run_here(["reprocess", *arguments], env)
        assert (done.returncode, done.stdout) == (2, ""), arguments
        assert done.stderr.splitlines()[-1].startswith("Error: ")
        assert words in done.stderr.splitlines()[-1]
    assert clean.value("SELECT count(*) FROM procrastinate_jobs WHERE task_name = 'reprocess'") == 0


def test_each_filter_counts_what_it_selects_and_a_dry_run_changes_nothing(clean: Database, env: dict[str, str]) -> None:
    [first, *_] = append(clean, "failed", ACME.payload(ticket_id="1"), ACME.payload(ticket_id="2"))
    append(clean, "rejected", ACME.payload(ticket_id="1"))
    [other] = append(clean, "promoted", {"ticket_id": "1"}, tenant_id="globex")
    clean.query("UPDATE inbox SET received_at = '2026-02-01T00:00:00Z' WHERE id = %s", other)
    before = clean.query("SELECT * FROM inbox ORDER BY id")
    for arguments, counted in {
        ("--id", str(first), "--id", str(other), "--id", str(first)): "2 inbox rows match: 1 promoted, 1 failed",
        ("--tenant", "acme"): "3 inbox rows match: 2 failed, 1 rejected",
        ("--tenant", "acme", "--ticket", "1"): "2 inbox rows match: 1 failed, 1 rejected",
        ("--tenant", "acme", "--ticket", "1", "--status", "failed"): "1 inbox row matches: 1 failed",
        ("--after", "2026-02-01T01:00+01:00"): "1 inbox row matches: 1 promoted",
        ("--before", "2026-02-01T00:00:00Z", "--status", "failed"): "2 inbox rows match: 2 failed",
        ("--status", "pending"): "0 inbox rows match",
    }.items():
        done = run_here(["reprocess", *arguments, "--dry-run"], env)
        assert (done.returncode, done.stdout, done.stderr) == (0, f"{counted}\nNothing was changed.\n", ""), arguments
    done = run_here(["reprocess", "--tenant", "globex", "--status", "failed"], env)
    assert (done.returncode, done.stdout) == (0, "0 inbox rows match\nNothing was changed.\n")
    assert clean.value("SELECT count(*) FROM procrastinate_jobs WHERE task_name = 'reprocess'") == 0
    assert clean.query("SELECT * FROM inbox ORDER BY id") == before


def test_it_waits_and_says_what_became_of_the_rows(clean: Database, env: dict[str, str], worker: Worker) -> None:
    append(clean, "rejected", *(ACME.payload(ticket_id=str(number)) for number in range(1200)))
    append(clean, "failed", *({"ticket_id": ticket_id} for ticket_id in ("-x", "it's", "\x1b[2J")))
    done = run_here(["reprocess", "--tenant", "acme"], env)
    lines = done.stdout.splitlines()
    assert (done.returncode, lines[0]) == (1, "1,203 inbox rows match: 3 failed, 1,200 rejected")
    assert [line.split(maxsplit=1) for line in lines[2:4]] == [["1,200", "promoted (inserted)"], ["3", "failed"]]
    assert lines[4].startswith("failed, 3 of them: the payload breaks its schema: tenant_id is missing")
    assert lines[5:] == [
        "  ticket-inbox trace --tenant acme -- -x",
        """  ticket-inbox trace --tenant acme 'it'"'"'s'""",
        "  ticket-inbox trace c",
    ]
    assert done.stderr == "Error: 3 rows were not promoted: mend what the reasons name, then reprocess again\n"
    # The job stays, with what it did, at the priority of its task.
    [job] = clean.query("SELECT id, status::text, priority, args FROM procrastinate_jobs WHERE task_name = 'reprocess'")
    assert lines[1] == f"Job {job['id']} reprocesses them."
    assert (job["status"], job["priority"]) == ("succeeded", -10)
    assert job["args"]["progress"]["outcomes"] == {"inserted": 1200, "failed": 3}
    done = run_here(["reprocess", "--status", "promoted", "--tenant", "acme", "--ticket", "7"], env)
    assert (done.returncode, done.stdout.splitlines()[2:]) == (0, [f"{1:>12}  promoted (updated)"])
    assert worker.process.poll() is None


def test_those_that_failed_are_listed_up_to_a_bound(clean: Database, env: dict[str, str], worker: Worker) -> None:
    append(clean, "failed", *("no object" for _ in range(12)))
    done = run_here(["reprocess", "--status", "failed"], env)
    assert done.returncode == 1
    assert done.stdout.splitlines()[2].split() == ["12", "failed"]
    assert "failed, 12 of them: the payload is not a JSON object in UTF-8" in done.stdout
    assert done.stdout.count("ticket-inbox trace") == 10
    assert done.stdout.endswith("  and 2 more\n")
    assert worker.process.poll() is None


@pytest.mark.parametrize(
    ("end", "words"),
    [
        ("UPDATE procrastinate_jobs SET status = 'failed', args = '{\"outcome\": \"why\"}'", "failed: why"),
        ("UPDATE procrastinate_jobs SET status = 'cancelled'", "was cancelled after 0 rows"),
        ("DELETE FROM procrastinate_jobs", "is gone, and nobody knows what it did"),
    ],
)
def test_a_job_that_ends_otherwise_is_said_so(clean: Database, env: dict[str, str], end: str, words: str) -> None:
    """A trigger ends the job as it is deferred."""
    append(clean, "failed", ACME.payload())
    clean.query(
        "CREATE FUNCTION ends() RETURNS trigger LANGUAGE plpgsql AS "
        f"$$BEGIN {end} WHERE id = NEW.job_id; RETURN NULL; END$$"
    )
    try:
        clean.query(
            "CREATE TRIGGER ends AFTER INSERT ON procrastinate_events FOR EACH ROW WHEN (NEW.type = 'deferred') "
            "EXECUTE FUNCTION ends()"
        )
        done = run_here(["reprocess", "--status", "failed"], env)
    finally:
        clean.query("DROP FUNCTION ends CASCADE")
    assert done.returncode == 1
    assert words in done.stderr


def test_without_a_worker_it_says_so_at_once_and_gives_up_later(
    database: Database, environment: dict[str, str], secrets_key: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    database.add_tenant(secrets_key, "acme")
    append(database, "failed", ACME.payload())
    monkeypatch.setattr(reprocess_job, "PATIENCE", 0.5)
    done = run_here(["reprocess", "--tenant", "acme"], environment)
    [job] = database.query("SELECT id, status::text FROM procrastinate_jobs")
    warning, error = done.stderr.splitlines()
    assert (done.returncode, job["status"]) == (1, "todo")
    assert f"no worker is alive: start `ticket-inbox worker`; job {job['id']} waits for one" in warning
    assert f"start `ticket-inbox worker`, which does job {job['id']}; `ticket-inbox reprocess --cancel" in error
    done = run_here(["reprocess", "--tenant", "acme", "--no-wait"], environment)
    assert (done.returncode, done.stdout.splitlines()[1]) == (0, f"Job {job['id'] + 1} reprocesses it.")
    assert done.stderr == "Warning: no worker is alive: start `ticket-inbox worker`\n"
    done = run_here(["reprocess", "--tenant", "acme", "--no-wait"], {**environment, hints.UNDER_UV: "1"}, ROOT)
    assert done.stderr == "Warning: no worker is alive: start `uv run ticket-inbox worker`\n"
    assert run_here(["reprocess", "--cancel", str(job["id"])], environment).returncode == 0
    done = run_here(["reprocess", "--cancel", str(job["id"])], environment)
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    found = database.query("SELECT status::text FROM procrastinate_jobs ORDER BY id")
    assert [row["status"] for row in found] == ["cancelled", "todo", "todo"]


def test_on_a_terminal_a_bar_is_drawn_an_outage_is_waited_out_and_the_job_goes_on_after_ctrl_c(
    database: Database, environment: dict[str, str], secrets_key: str
) -> None:
    database.add_tenant(secrets_key, "acme")
    append(database, "failed", ACME.payload())
    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "app", "reprocess", "--tenant", "acme"]
    process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=theirs, text=True)
    os.close(theirs)
    try:
        seen = read_until(ours, "waits for one")
        assert "reprocessed  [----" in seen
        with closed(database):
            read_until(ours, "Warning: ")
        process.send_signal(signal.SIGINT)
        seen = read_until(ours, "--cancel")
        assert process.wait(timeout=10) == 130
    finally:
        process.kill()
        stdout = process.communicate()[0]
        os.close(ours)
    job_id = database.value("SELECT id FROM procrastinate_jobs WHERE status = 'todo'")
    assert f"Error: interrupted, but job {job_id} goes on; `ticket-inbox reprocess --cancel" in seen
    assert stdout == f"1 inbox row matches: 1 failed\nJob {job_id} reprocesses it.\n"


def read_until(terminal: int, words: str) -> str:
    """Return what came on a terminal, up to `words`."""
    seen, deadline = "", time.monotonic() + 30
    while words not in seen:
        assert time.monotonic() < deadline, seen
        seen += os.read(terminal, 4096).decode()
    return seen
