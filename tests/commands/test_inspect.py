"""ticket-inbox status and ticket-inbox trace: in 80 columns, as JSON, for an empty inbox, and without Postgres."""

import contextlib
import json
import re
import threading
from collections.abc import Callable

import psycopg

from tests.support.commands_in_process import run_here
from tests.support.system import Database, Server, Tenant, Worker, run

ACME = Tenant("acme", "secret")
REASON = "description must be a string of at most 10,000 characters, and here is a reason that goes on for a while"


def filled(database: Database) -> None:
    """Write rows of each status; the oldest pending row has waited for five seconds."""
    database.query(
        "INSERT INTO inbox (tenant_id, ticket_id, correlation_id, payload, signature, status, error, received_at) VALUES "
        "('acme', '1', 'c1', '', 's', 'pending', NULL, now() - interval '5 seconds'), "
        "('acme', '2', 'c2', '', 's', 'promoted', NULL, now()), ('acme', '2', 'c3', '', 's', 'promoted', NULL, now()), "
        "('acme', '3', 'c4', '', 's', 'failed', 'Postgres refuses it', now()), "
        "('globex', NULL, 'c5', '', 's', 'rejected', %(reason)s, now()), "
        "('globex', NULL, 'c6', '', 's', 'rejected', %(reason)s, now()), "
        "('globex', NULL, 'c7', '', 's', 'rejected', 'another', now())".replace("%(reason)s", f"'{REASON}'")
    )


def test_status_shows_counts_workers_jobs_and_reasons(
    database: Database, environment: dict[str, str], start_worker: Callable[..., Worker]
) -> None:
    """The worker is only a heartbeat row, so that no sweep changes the counts."""
    worker = start_worker()
    database.defer("reprocess", status="gone")
    database.wait_for("SELECT count(*) FROM procrastinate_jobs WHERE status = 'failed'", 1, within=10)
    worker.stop()
    database.query("INSERT INTO procrastinate_workers (last_heartbeat) VALUES (now())")
    filled(database)
    done = run(["status", "--json"], environment)
    found = json.loads(done.stdout)
    assert (done.returncode, done.stderr) == (0, "")
    assert [found[name] for name in ("promoted", "failed", "rejected", "workers_alive")] == [2, 1, 3, 1]
    assert found["jobs"]["reprocess"] == {"failed": 1}
    assert found["trouble"] == [
        {"tenant_id": "globex", "status": "rejected", "rows": 3, "commonest_reason": REASON},
        {"tenant_id": "acme", "status": "failed", "rows": 1, "commonest_reason": "Postgres refuses it"},
    ]
    text = run_here(["status"], environment).stdout
    assert max(len(line) for line in text.splitlines()) <= 80
    for words in (
        "pending +1  the oldest for \\d",
        "promoted +2",
        "failed +1",
        "WORKERS +1  alive",
        "reprocess: 1 failed",
    ):
        assert re.search(words, text), text
    assert "globex: 3 rejected, most of them because" in text
    assert " ".join(REASON.split()) in " ".join(text.split())


def lock_and_let_go(connection: psycopg.Connection, mode: str) -> None:
    with connection.transaction():
        connection.execute(f"LOCK procrastinate_jobs IN {mode} MODE")


def test_status_names_the_session_that_holds_up_others(database: Database, environment: dict[str, str]) -> None:
    """One waits for the other, and the third for both: only the one that waits for none is named."""
    with (
        psycopg.connect(database.url, application_name="a frozen program") as holder,
        contextlib.ExitStack() as stack,
    ):
        holder.execute("LOCK procrastinate_jobs IN SHARE MODE")
        pids = [holder.info.backend_pid]
        for mode in ("ROW EXCLUSIVE", "SHARE"):
            waiting = stack.enter_context(psycopg.connect(database.url))
            pids.append(waiting.info.backend_pid)
            thread = threading.Thread(target=lock_and_let_go, args=(waiting, mode))
            thread.start()
            stack.callback(thread.join)
            database.wait_for(f"SELECT wait_event_type FROM pg_stat_activity WHERE pid = {pids[-1]}", "Lock", within=5)
        [found] = json.loads(run_here(["status", "--json"], environment).stdout)["blocking"]
        text = run_here(["status"], environment).stdout
        holder.rollback()
    assert found["seconds"] > 0
    assert {**found, "seconds": 0} == {
        "pid": pids[0], "application_name": "a frozen program", "role": "postgres",
        "state": "idle in transaction", "seconds": 0, "waiting": found["waiting"],
    }  # fmt: skip
    words = rf"HELD UP +{found['waiting']} session.* for pid {found['pid']}: a frozen program, role postgres, idle in transaction for"
    assert re.search(words, " ".join(text.split())), text
    assert max(len(line) for line in text.splitlines()) <= 80


def test_status_of_an_empty_inbox(environment: dict[str, str]) -> None:
    done = run(["status"], environment)
    assert done.returncode == 0
    assert "the oldest" not in done.stdout
    assert json.loads(run_here(["status", "--json"], environment).stdout)["oldest_pending_seconds"] is None


def test_status_fails_when_the_backlog_is_older_than_a_minute(database: Database, environment: dict[str, str]) -> None:
    filled(database)
    database.query("UPDATE inbox SET received_at = now() - interval '50 seconds' WHERE status = 'pending'")
    assert run_here(["status"], environment).returncode == 0
    database.query("UPDATE inbox SET received_at = now() - interval '62 seconds' WHERE status = 'pending'")
    for arguments in (["status"], ["status", "--json"]):
        done = run_here(arguments, environment)
        assert done.returncode == 1
        assert re.fullmatch(
            "Error: the oldest pending row has waited for 6\\d.\\d s; no worker is alive: start `ticket-inbox worker`\n",
            done.stderr,
        )
        assert "1" in done.stdout


def test_trace_shows_each_deliverys_life(
    database: Database,
    environment: dict[str, str],
    secrets_key: str,
    start_server: Callable[..., Server],
    start_worker: Callable[..., Worker],
) -> None:
    """Two promoted deliveries, a rejected one and a waiting one, by ticket and by correlation id."""
    tenant = database.add_tenant(secrets_key)
    server, worker = start_server(), start_worker()
    for date in ("2026-01-02T00:00:00Z", "2026-01-01T00:00:00Z"):
        assert server.send(tenant, ticket_id="4711", resolved_date=date).status_code == 202
        database.wait_for("SELECT count(*) FROM inbox WHERE status = 'pending'", 0, within=10)
    assert server.send(tenant, ticket_id="4711", priority=5).status_code == 422
    worker.stop()
    assert server.send(tenant, ticket_id="4711").status_code == 202

    done = run(["trace", "4711"], environment)
    assert done.returncode == 0
    lines = done.stdout.splitlines()
    assert max(len(line) for line in lines) <= 80
    assert lines[0] == f"{tenant.id}, ticket 4711"
    lives = [line.split("received, verified, ")[1] for line in lines if "received, verified, " in line]
    assert re.fullmatch(r"promoted \(inserted\) in [\d.]+ m?s", lives[0])
    assert re.fullmatch(r"promoted \(stale\) in [\d.]+ m?s", lives[1])
    assert lives[2].startswith("rejected: priority must")
    assert re.fullmatch(r"pending for .*", lives[3])
    rows = database.query(
        "SELECT correlation_id, split_part(traceparent, '-', 2) AS trace_id, job_id FROM inbox ORDER BY id"
    )
    for row in rows:
        assert f"correlation id {row['correlation_id']}" in done.stdout
        assert f"trace id       {row['trace_id']}" in done.stdout
    assert f"attempts 1, last in job {rows[0]['job_id']}; its values stand in ticket_history" in done.stdout

    [second] = json.loads(run_here(["trace", rows[1]["correlation_id"], "--json"], environment).stdout)["deliveries"]
    assert (second["status"], second["action"], second["attempts"], second["stands"]) == ("promoted", "stale", 1, False)
    assert second["trace_id"] == rows[1]["trace_id"]
    assert run_here(["trace", "4711", "--tenant", tenant.id], environment).returncode == 0


def test_trace_names_a_date_that_wins_for_ever(database: Database, environment: dict[str, str]) -> None:
    for ticket_id, date in (("1", "9999-12-31T23:59:59Z"), ("2", "2026-01-01T00:00:00Z")):
        database.query(
            "WITH row AS (INSERT INTO inbox (tenant_id, ticket_id, correlation_id, payload, signature, status, action) "
            "VALUES ('acme', %(id)s, 'c', '', 's', 'promoted', 'inserted') RETURNING id) "
            "INSERT INTO ticket_history (tenant_id, ticket_id, description, resolution, resolved_date, priority, inbox_id) "
            "SELECT 'acme', %(id)s, 'd', 'r', %(date)s, 'p', id FROM row".replace("%(id)s", f"'{ticket_id}'").replace(
                "%(date)s", f"'{date}'"
            )
        )
    said = run_here(["trace", "1"], environment).stdout
    assert "its resolved_date, 9999-12-31 23:59:59, was more than a day ahead" in " ".join(said.split())
    assert "no later delivery wins until then" in " ".join(said.split())
    assert max(len(line) for line in said.splitlines()) <= 80
    assert "wins until then" not in run_here(["trace", "2"], environment).stdout


def test_trace_says_in_one_line_when_there_is_nothing(environment: dict[str, str]) -> None:
    done = run_here(["trace", "4711", "--tenant", "acme"], environment)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "Error: no delivery of tenant 'acme' has the ticket id, display id or correlation id '4711'\n"


def test_a_senders_text_does_not_move_the_cursor(database: Database, environment: dict[str, str]) -> None:
    database.query(
        "INSERT INTO inbox (tenant_id, ticket_id, correlation_id, payload, signature, status, error) "
        "VALUES ('acme', E'4711\\x1b[2J', 'c', '', 's', 'failed', E'\\x1b]0;title')"
    )
    for arguments in (["trace", "c"], ["status"]):
        text = run_here(arguments, environment).stdout
        assert text
        assert "\x1b" not in text


def test_both_say_in_one_line_what_is_wrong_with_postgres(
    empty_database: Database, environment: dict[str, str]
) -> None:
    for url, words in [
        (empty_database.url, "Run `ticket-inbox migrate`"),
        ("postgresql://127.0.0.1:1/x", "cannot be reached"),
    ]:
        for arguments in (["status"], ["trace", "4711"]):
            done = run_here(arguments, {**environment, "DATABASE_URL": url})
            assert (done.returncode, done.stdout, done.stderr.count("\n")) == (1, "", 1)
            assert words in done.stderr
