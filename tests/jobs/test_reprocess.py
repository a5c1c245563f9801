"""An operator reprocesses any part of the inbox, and gets a clear answer if the selection is wrong."""

import asyncio
import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

import psycopg
import pytest

from db import engine as engines
from db.selection import Selection
from jobs import reprocess
from tests import ROOT
from tests.conftest import clean_environment
from tests.support import preloaded
from tests.support.system import Database, Tenant, Worker, running_worker

ACME, GLOBEX = Tenant("acme", "secret"), Tenant("globex", "secret")
StartWorker = Callable[..., Worker]


@pytest.fixture(scope="module")
def worker(module_database: Database, secrets_key: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Worker]:
    env = clean_environment(DATABASE_URL=module_database.url, SECRETS_KEY=secrets_key)
    with running_worker(env, tmp_path_factory.mktemp("worker") / "log") as running:
        yield running


@pytest.fixture
def clean(module_database: Database, worker: Worker) -> Database:  # noqa: ARG001
    module_database.query("TRUNCATE inbox, ticket_history")
    return module_database


def procrastinate(database: Database, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run Procrastinate's own command from the project's root, with nothing but DATABASE_URL."""
    command = ["procrastinate", "--app=jobs.app", *arguments]
    return preloaded.run(command, clean_environment(DATABASE_URL=database.url), cwd=ROOT)


def ended(database: Database, job_id: int, within: float = 15) -> dict[str, Any] | None:
    """Wait until a job ends and return it; None if it succeeded, because then it is deleted."""
    database.wait_for(
        f"SELECT count(*) FROM procrastinate_jobs WHERE id = {job_id} AND status IN ('todo', 'doing')", 0, within=within
    )
    found = database.query("SELECT status::text, args FROM procrastinate_jobs WHERE id = %s", job_id)
    return found[0] if found else None


def delivered(database: Database, *payloads: dict[str, Any]) -> list[int]:
    """Deliver events and wait until workers have promoted or failed them."""
    ids = database.deliver(*payloads)
    database.wait_for("SELECT count(*) FROM inbox WHERE status = 'pending'", 0, within=10)
    return ids


def attempts(database: Database) -> list[int]:
    return [row["attempts"] for row in database.query("SELECT attempts FROM inbox ORDER BY id")]


def test_from_the_command_line_it_repairs_a_damaged_row(clean: Database) -> None:
    [inbox_id] = delivered(clean, ACME.payload(resolution="right"))
    clean.query("UPDATE ticket_history SET resolution = 'damaged', resolved_date = '2099-01-01'")
    done = procrastinate(clean, "defer", "reprocess", json.dumps({"inbox_ids": [inbox_id]}))
    assert done.returncode == 0, done.stderr
    clean.wait_for("SELECT resolution FROM ticket_history", "right", within=10)
    assert attempts(clean) == [2]


def test_each_way_to_select_and_all_together(clean: Database) -> None:
    ids = delivered(clean, *(tenant.payload() for tenant in (ACME, ACME, GLOBEX, GLOBEX)))
    tickets = [row["ticket_id"] for row in clean.query("SELECT ticket_id FROM inbox ORDER BY id")]
    clean.query("UPDATE inbox SET received_at = '2026-01-01T00:00:00Z'::timestamptz + id * interval '1 day' - %s * interval '1 day'", ids[0])  # fmt: skip
    cases: list[tuple[dict[str, Any], list[int]]] = [
        ({"inbox_ids": [ids[0], ids[3], ids[3]]}, [1, 0, 0, 1]),
        ({"tenant_id": "globex"}, [0, 0, 1, 1]),
        ({"tenant_id": "globex", "ticket_id": tickets[3]}, [0, 0, 0, 1]),
        ({"tenant_id": "acme", "ticket_id": tickets[1], "status": "failed"}, [0, 1, 0, 0]),
        ({"received_after": "2026-01-02T00:00:00Z"}, [0, 1, 1, 1]),
        ({"received_after": "2026-01-02", "received_before": "2026-01-04"}, [0, 1, 1, 0]),
        ({"received_before": "2026-01-02T02:00:00+02:00"}, [1, 0, 0, 0]),
        ({"status": "failed", "tenant_id": "acme", "received_before": "2026-01-03", "inbox_ids": ids}, [0, 1, 0, 0]),
        ({"status": "failed"}, [0, 1, 0, 1]),
    ]
    for arguments, expected in cases:
        clean.query("UPDATE inbox SET status = 'failed' WHERE id = ANY(%s)", [ids[1], ids[3]])
        before = attempts(clean)
        assert ended(clean, clean.defer("reprocess", **arguments)) is None
        assert [after - was for after, was in zip(attempts(clean), before, strict=True)] == expected, arguments


def test_rejected_rows_are_validated_afresh(clean: Database) -> None:
    """A row that breaks today's rules stays rejected, with the reason; any other is promoted."""
    rows = [ACME.payload(description="x" * 10_001), ACME.payload(resolved_date="soon"), ACME.payload(ticket_id="good")]
    for row in rows:
        clean.query(
            "INSERT INTO inbox (tenant_id, correlation_id, payload, signature, status, error) VALUES ('acme', 'c', %s, 's', 'rejected', 'old')",
            json.dumps(row).encode(),
        )
    assert ended(clean, clean.defer("reprocess", status="rejected")) is None
    found = clean.query("SELECT status, action, ticket_id, error, attempts FROM inbox ORDER BY id")
    assert [row["status"] for row in found] == ["rejected", "rejected", "promoted"]
    assert "10,000 characters" in found[0]["error"]
    assert "resolved_date" in found[1]["error"]
    assert found[2] == {"status": "promoted", "action": "inserted", "ticket_id": "good", "error": None, "attempts": 1}


def test_what_was_accepted_once_stays_accepted(clean: Database) -> None:
    """A row that the server accepted under a higher limit does not fail under today's lower one."""
    delivered(clean, ACME.payload(description="x" * 20_000))
    assert ended(clean, clean.defer("reprocess", tenant_id="acme")) is None
    assert clean.value("SELECT status FROM inbox") == "promoted"


@pytest.mark.parametrize(
    ("task", "arguments", "words"),
    [
        ("reprocess", {}, "say which rows, by at least one of inbox_ids, status, tenant_id"),
        ("reprocess", {"count_only": True}, "say which rows"),
        ("reprocess", {"inbox_ids": []}, "inbox_ids"),
        ("reprocess", {"inbox_ids": ["1"]}, "got `str` - at `inbox_ids[0]`"),
        ("reprocess", {"inbox_ids": [2**63]}, "inbox_ids"),
        ("reprocess", {"status": "done"}, "'done' - at `status`; it takes inbox_ids, status (pending, promoted"),
        ("reprocess", {"tenant": "acme"}, "there is no argument `tenant`"),
        ("reprocess", {"ticket_id": "1"}, "ticket_id needs tenant_id"),
        ("reprocess", {"received_after": "yesterday"}, "received_after is 'yesterday', which is no date"),
        ("reprocess", {"received_before": "2026-02-30"}, "received_before is '2026-02-30', which is no date"),
        ("reprocess", {"received_before": "0001-01-01T00:00:00+14:00"}, "received_before is"),
        ("reprocess", {"status": "failed", "progress": {"after_id": 0, "last_id": 2**63}}, "at `progress.last_id`"),
        ("reprocess", {"tenant_id": "nobody"}, "no inbox row matches; nothing was changed"),
        ("reprocess", {"inbox_ids": [2**63 - 1]}, "no inbox row matches; nothing was changed"),
        ("promote", {}, "inbox_ids"),
        ("promote", {"inbox_ids": "all"}, "got `str` - at `inbox_ids`; it takes inbox_ids, a list of whole numbers"),
    ],
)
def test_what_cannot_be_done_fails_and_says_why(
    clean: Database, worker: Worker, task: str, arguments: dict[str, Any], words: str
) -> None:
    """The job itself says why, where the CLI shows it, and so does one log line without a traceback."""
    job_id = clean.defer(task, **arguments)
    job = ended(clean, job_id)
    assert job is not None
    assert job["status"] == "failed"
    assert words in job["args"]["outcome"]
    [line] = [line for line in worker.wait_for_line("job_refused") if line["job_id"] == job_id]
    assert (line["level"], line["task"], line["error"]) == ("error", task, job["args"]["outcome"])
    assert "Traceback" not in worker.text()


NO_OBJECT = ("[1]", '"x"', "5", "null", '{"a": 1%s}' % ("0" * 5000), '{"a": %s}' % ("[" * 3000 + "]" * 3000))


def test_arguments_that_no_task_can_be_called_with_fail_at_once(clean: Database, worker: Worker) -> None:
    """They are no object, or JSON that Postgres keeps and Python refuses: one such job ended worker after worker."""
    jobs = {}
    for text in NO_OBJECT:
        for task in ("reprocess", "promote", "sweep"):
            jobs[defer_text(clean, task, text)] = task
    jobs[defer_text(clean, "no such task", "{}")] = "no such task"
    jobs[defer_text(clean, "reprocess", '{"self": 1}')] = "reprocess"
    clean.wait_for(f"SELECT count(*) FROM procrastinate_jobs WHERE id = ANY('{{{','.join(map(str, jobs))}}}') AND status = 'failed'", len(jobs), within=15)  # fmt: skip
    lines = {line["job_id"]: line for line in worker.lines("job_refused") if line["job_id"] in jobs}
    assert {job_id: line["task"] for job_id, line in lines.items()} == jobs
    assert {line["error"] for line in lines.values()} == {
        'the arguments are no JSON object that can be read: give a JSON object, such as {"status": "failed"}',
        "there is no task 'no such task'",
        "there is no argument `self`",
    }
    assert "Traceback" not in worker.text()
    assert worker.process.poll() is None


def defer_text(database: Database, task: str, arguments: str) -> int:
    return int(
        database.value(
            "SELECT (procrastinate_defer_jobs_v1(ARRAY[ROW(%s, %s, 0, NULL, NULL, %s::jsonb, NULL)"
            "::procrastinate_job_to_defer_v1]))[1] AS id",
            task, task, arguments,
        )
    )  # fmt: skip


def test_counting_changes_nothing_and_stays_to_be_read(clean: Database) -> None:
    delivered(clean, *(ACME.payload() for _ in range(3)))
    job = ended(clean, job_id := clean.defer("reprocess", tenant_id="acme", count_only=True))
    assert job is not None
    assert (job["status"], job["args"]["outcome"]) == ("aborted", "3 inbox rows match; nothing was changed")
    assert attempts(clean) == [1, 1, 1]
    listed = procrastinate(clean, "shell", "list_jobs", f"id={job_id}", "details")
    assert "3 inbox rows match" in listed.stdout


def fill(database: Database, rows: int) -> None:
    """Write rejected rows that are valid by today's rules, each for another ticket."""
    payload = json.dumps(ACME.payload(ticket_id="NUMBER"))
    database.query(
        "INSERT INTO inbox (tenant_id, correlation_id, payload, signature, status) "
        "SELECT 'acme', 'c', convert_to(replace(%s, 'NUMBER', n::text), 'UTF8'), 's', 'rejected' "
        "FROM generate_series(1, %s) AS n",
        payload,
        rows,
    )


def test_many_go_in_chunks_and_a_cancelled_job_goes_no_further(clean: Database) -> None:
    """Each chunk is one commit that also writes the job's progress; the job keeps its id."""
    fill(clean, 30_000)
    job_id = clean.defer("reprocess", status="rejected")
    promoted = "SELECT count(*) FROM inbox WHERE status = 'promoted'"
    while not clean.value(promoted):
        time.sleep(0.01)
    cancel(clean, job_id)
    job = ended(clean, job_id)
    assert job is not None
    assert job["status"] in ("aborted", "cancelled"), "it ran, or waited so that others could run"
    done = clean.value(promoted)
    assert 0 < done < 30_000
    assert done % 500 == 0
    assert job["args"]["progress"]["rows"] == done == clean.value("SELECT count(*) FROM ticket_history")
    # A second job does the rest.
    assert ended(clean, clean.defer("reprocess", status="rejected"), within=60) is None
    assert clean.value(promoted) == 30_000
    assert clean.value("SELECT max(attempts) FROM inbox") == 1


@pytest.mark.parametrize("step", [reprocess.promote_chunk, reprocess.count_chunk])
def test_a_gap_of_100_million_ids_is_stepped_over(database: Database, step: Callable[..., Any]) -> None:
    """Each chunk begins at the next id that exists, so two are enough."""
    [first] = database.deliver(ACME.payload())
    database.query("SELECT setval(pg_get_serial_sequence('inbox', 'id'), %s)", first + 100_000_000)
    [last] = database.deliver(ACME.payload())
    job_id = database.defer("reprocess", tenant_id="acme")

    async def two_steps() -> reprocess.Progress:
        engine = engines.create_engine(database.url, "test", 1, 30.0)
        try:
            progress = reprocess.Progress(0, last)
            for _ in range(2):
                progress = await step(engine, Selection(tenant_id="acme"), progress, job_id)
            return progress
        finally:
            await engine.dispose()

    outcomes = {"inserted": 2} if step is reprocess.promote_chunk else {}
    assert asyncio.run(two_steps()) == reprocess.Progress(last, last, rows=2, outcomes=outcomes)


def test_a_job_that_is_cancelled_as_it_makes_room_is_aborted(clean: Database) -> None:
    """It is aborted and does not fail, even if the notification comes too late; here it never comes."""
    fill(clean, 600)
    with psycopg.connect(clean.url) as blocking:
        blocking.execute("LOCK TABLE ticket_history IN ACCESS EXCLUSIVE MODE")
        job_id = clean.defer("reprocess", status="rejected")
        clean.wait_for(f"SELECT status::text FROM procrastinate_jobs WHERE id = {job_id}", "doing", within=5)
        time.sleep(reprocess.SLICE)
        # As late as possible: Procrastinate's worker polls every five seconds, and would end it before its first chunk.
        with psycopg.connect(clean.url) as silently:
            silently.execute("SET session_replication_role = replica")  # without triggers
            silently.execute("UPDATE procrastinate_jobs SET abort_requested = true WHERE id = %s", [job_id])
        blocking.rollback()
    job = ended(clean, job_id)
    assert job is not None
    assert (job["status"], job["args"]["progress"]["rows"]) == ("aborted", 500)


def cancel(database: Database, job_id: int) -> None:
    """Abort a job as docs/operations.md says, by Procrastinate's API: its shell has no command for it."""
    program = f"from jobs import app; app.open(); app.job_manager.cancel_job_by_id({job_id}, abort=True)"
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=ROOT,
        env=clean_environment(DATABASE_URL=database.url), capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr


def test_a_fresh_webhook_does_not_wait_for_all_of_them(database: Database, start_worker: StartWorker) -> None:
    """Three long jobs and a worker of two places: each job makes room after a second, and goes on under its own id."""
    fill(database, 30_000)
    jobs = [database.defer("reprocess", tenant_id="acme", inbox_ids=list(range(1 + n, 30_001, 3))) for n in range(3)]
    start_worker(WORKER_CONCURRENCY="2")
    database.wait_for(
        "SELECT count(*) FROM procrastinate_jobs WHERE task_name = 'reprocess' AND status = 'doing'", 2, within=10
    )
    [inbox_id] = database.deliver(ACME.payload())
    database.wait_for(f"SELECT count(*) FROM ticket_history WHERE inbox_id = {inbox_id}", 1, within=10)
    assert database.value("SELECT count(*) FROM inbox WHERE status = 'rejected'") > 0
    for job_id in jobs:
        assert ended(database, job_id, within=60) is None
    assert database.value("SELECT count(*) FROM inbox WHERE status = 'promoted' AND attempts = 1") == 30_001


def test_two_of_the_same_at_once_do_all_between_them(clean: Database) -> None:
    fill(clean, 5_000)
    first, second = (clean.defer("reprocess", status="rejected") for _ in range(2))
    ended(clean, first, within=30)
    ended(clean, second, within=30)
    assert clean.value("SELECT count(*) FROM inbox WHERE status = 'promoted' AND attempts = 1") == 5_000


def test_large_payloads_go_in_small_chunks(clean: Database) -> None:
    """One commit never has more than about 8 MiB of payload, whatever the number of rows."""
    clean.deliver(*(ACME.payload(resolution="x" * 1_000_000) for _ in range(20)))
    clean.wait_for("SELECT count(*) FROM inbox WHERE status = 'promoted'", 20, within=20)
    clean.query("UPDATE inbox SET promoted_at = NULL")
    assert ended(clean, clean.defer("reprocess", tenant_id="acme"), within=30) is None
    commits = clean.query("SELECT xmin::text, count(*) AS rows FROM inbox GROUP BY xmin::text")
    assert {row["rows"] for row in commits} == {8, 4} or {row["rows"] for row in commits} == {9, 2}
    assert attempts(clean) == [2] * 20
