"""ticket-inbox trace finds a trace's id, and shows the newest deliveries; status --watch goes on through an outage."""

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import psycopg
import pytest

from tests.support.closed_database import closed
from tests.support.commands_in_process import run_here
from tests.support.system import Database

pytestmark = pytest.mark.one_postgres

TRACE_ID = "0af7651916cd43dd8448eb211c80319c"
ROLE = "operator_of_tests"


@pytest.fixture(scope="module")
def env(module_database: Database, module_environment: dict[str, str], secrets_key: str) -> dict[str, str]:
    """Five deliveries of a ticket to each of two tenants; those of the first are of one trace. And no key."""
    module_database.add_tenant(secrets_key, "acme")
    module_database.query(
        "INSERT INTO inbox (tenant_id, ticket_id, correlation_id, traceparent, payload, signature, status, received_at) "
        "SELECT tenant, '4711', tenant || n, '00-' || CASE tenant WHEN 'acme' THEN %s ELSE repeat('b', 32) END "
        "|| '-00f067aa0ba902b7-01', 'text', 's', 'failed', now() - n * interval '1 minute' "
        "FROM generate_series(1, 5) AS n, unnest(ARRAY['globex', 'acme']) AS tenant ORDER BY n, tenant",
        TRACE_ID,
    )
    return {name: value for name, value in module_environment.items() if name != "SECRETS_KEY"}


def found(env: dict[str, str], *arguments: str) -> tuple[list[str], int]:
    """Return the correlation ids of the deliveries that `trace` finds, in its order, and how many it left out."""
    done = run_here(["trace", *arguments, "--json"], env)
    assert (done.returncode, done.stderr) == (0, "")
    shown: dict[str, Any] = json.loads(done.stdout)
    return [one["correlation_id"] for one in shown["deliveries"]], shown["left_out"]


def test_a_traces_id_is_found_alone_and_in_a_traceparent(env: dict[str, str], module_database: Database) -> None:
    all_of_it = [f"acme{n}" for n in range(1, 6)]
    for wanted in (
        TRACE_ID,
        TRACE_ID.upper(),
        f"00-{TRACE_ID}-00f067aa0ba902b7-01",
        f"00-{TRACE_ID}-{'0' * 16}-00-more",
    ):
        assert found(env, wanted) == (all_of_it, 0), wanted
    assert found(env, TRACE_ID, "--limit", "2") == (all_of_it[3:], 3)
    assert found(env, "b" * 32, "--tenant", "globex") == ([f"globex{n}" for n in range(1, 6)], 0)
    for wanted in ("b" * 31, f"{TRACE_ID}-", "c" * 32):
        assert run_here(["trace", wanted], env).returncode == 1, wanted
    assert run_here(["trace", TRACE_ID, "--tenant", "globex"], env).returncode == 1
    # What is somebody's correlation id, or a ticket's, is that.
    module_database.query("UPDATE inbox SET correlation_id = %s WHERE correlation_id = 'globex1'", TRACE_ID)
    assert found(env, TRACE_ID) == ([TRACE_ID], 0)
    module_database.query("UPDATE inbox SET correlation_id = 'globex1' WHERE correlation_id = %s", TRACE_ID)


def test_the_newest_are_kept_in_order_and_the_rest_is_counted(env: dict[str, str]) -> None:
    assert found(env, "4711", "--limit", "3") == (["acme5", "globex4", "globex5"], 7)
    assert found(env, "4711", "--limit", "10")[1] == 0
    done = run_here(["trace", "4711", "--tenant", "acme", "--limit", "1"], env)
    assert "acme5" in done.stdout
    assert done.stdout.splitlines()[-1] == "4 older deliveries are left out: `--limit 5` shows them too"
    assert "left out" not in run_here(["trace", "4711"], env).stdout
    for limit in ("0", "-1", "x"):
        assert run_here(["trace", "4711", "--limit", limit], env).returncode == 2


@pytest.mark.parametrize(
    "command",
    [
        ["status"], ["status", "--json"], ["trace", "4711"], ["settings"], ["reprocess", "--id", "1", "--dry-run"],
        ["reprocess", "--id", "1", "--no-wait"],
    ],
)  # fmt: skip
def test_no_key_is_needed(env: dict[str, str], command: list[str]) -> None:
    done = run_here(command, {**env, "SECRETS_KEY": ""})
    assert done.returncode == 0, done.stderr


def test_doctor_leaves_out_what_needs_a_secret(
    env: dict[str, str], module_database: Database, secrets_key: str
) -> None:
    for environ, secret, api in [
        ({"SECRETS_KEY": ""}, "note  the tenant is enabled; whether its secret can be read was not checked: SECRETS_KEY", True),
        ({"SECRETS_KEY": secrets_key}, "ok    the tenant is enabled, and its secret can be read", False),
    ]:  # fmt: skip
        done = run_here(["doctor", "--tenant", "acme", "--url", "http://127.0.0.1:9"], {**env, **environ})
        assert secret in done.stdout
        assert ("note  the API of ServiceDesk Plus was not asked: SECRETS_KEY is not set here" in done.stdout) == api
        assert "then `ticket-inbox reprocess --status failed --tenant acme`" in done.stdout
    for tenant_id, words in {"nobody": "there is no tenant", "gone": "is disabled"}.items():
        module_database.query("INSERT INTO tenant_configs (tenant_id, secret, enabled) VALUES ('gone', 'x', false) ON CONFLICT DO NOTHING")  # fmt: skip
        done = run_here(["doctor", "--tenant", tenant_id, "--url", "http://127.0.0.1:9"], {**env, "SECRETS_KEY": ""})
        assert words in done.stdout


@pytest.fixture
def operator(module_database: Database, env: dict[str, str]) -> Iterator[dict[str, str]]:
    """The environment of a role that may read no text, no signature and no secret."""
    query = module_database.query
    query(f"CREATE ROLE {ROLE} LOGIN PASSWORD '{ROLE}'")
    for right in (
        "SELECT (id, tenant_id, ticket_id, display_id, correlation_id, traceparent, source, received_at, status, action, attempts, job_id, promoted_at, error) ON inbox",
        "SELECT (tenant_id, ticket_id, display_id, resolved_date, source, inbox_id, created_at, updated_at, ingested_at) ON ticket_history",
        "SELECT (tenant_id, enabled) ON tenant_configs",
        "SELECT (last_heartbeat) ON procrastinate_workers",
        "SELECT (id, task_name, status, args), INSERT, UPDATE (status, abort_requested) ON procrastinate_jobs",
        "INSERT ON procrastinate_events",
        "USAGE ON SEQUENCE procrastinate_jobs_id_seq, procrastinate_events_id_seq",
    ):
        query(f"GRANT {right} TO {ROLE}")
    try:
        parts = urlsplit(module_database.url)
        log_in = parts._replace(netloc=f"{ROLE}:{ROLE}@{parts.netloc.rpartition('@')[2]}")
        yield {**env, "DATABASE_URL": urlunsplit(log_in)}
    finally:
        query(f"DROP OWNED BY {ROLE}")
        query(f"DROP ROLE {ROLE}")


def test_a_role_that_may_see_no_text_and_no_secret_can_run_them(
    operator: dict[str, str], module_database: Database
) -> None:
    for command in (["status"], ["trace", "4711"], ["trace", TRACE_ID], ["reprocess", "--id", "1", "--no-wait"]):
        done = run_here(command, operator)
        assert done.returncode == 0, (command, done.stderr)
    done = run_here(["reprocess", "--tenant", "acme", "--ticket", "4711", "--no-wait"], operator)
    job_id = done.stdout.splitlines()[1].split()[1]
    assert run_here(["reprocess", "--cancel", job_id], operator).returncode == 0
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        module_database.query(f"SET ROLE {ROLE}; SELECT payload FROM inbox")


def test_watching_goes_on_while_postgres_is_away_and_ends_cleanly(
    database: Database, environment: dict[str, str]
) -> None:
    command = [sys.executable, "-m", "app", "status", "--watch", "--json"]
    process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        assert process.stdout
        assert process.stderr
        assert json.loads(process.stdout.readline())["pending"] == 0
        with closed(database):
            assert process.stderr.readline().startswith("Warning: ")
        while "pending" not in (line := process.stdout.readline()):
            assert line
        process.send_signal(signal.SIGINT)
        stdout, stderr = process.communicate(timeout=30)
    finally:
        process.kill()
        process.wait()
    assert process.returncode == 0
    assert all(json.loads(line) for line in stdout.splitlines())
    assert all(line.startswith("Warning: ") for line in stderr.splitlines())


def test_watching_what_cannot_be_read_at_all_ends_at_once(environment: dict[str, str]) -> None:
    done = run_here(["status", "--watch"], {**environment, "DATABASE_URL": "postgresql://127.0.0.1:1/x"})
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (1, "", 1)
