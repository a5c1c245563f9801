"""ticket-inbox doctor names each fault of a tenant, and the command that mends it."""

import subprocess
from collections.abc import Callable

import pytest

from tests.support.commands_in_process import run_here
from tests.support.system import Database, Server, Tenant, Worker, run

pytestmark = pytest.mark.one_postgres

Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def acme(database: Database, secrets_key: str) -> Tenant:
    return database.add_tenant(secrets_key)


def looked(env: dict[str, str], tenant_id: str, *more: str, run: Run = run_here) -> tuple[int, str]:
    done = run(["doctor", "--tenant", tenant_id, *more], env)
    assert "Traceback" not in done.stderr
    return done.returncode, done.stdout + done.stderr


def test_where_all_is_well_it_says_so_and_changes_nothing(
    database: Database,
    environment: dict[str, str],
    acme: Tenant,
    start_server: Callable[..., Server],
    start_worker: Callable[..., Worker],
) -> None:
    server = start_server()
    start_worker().wait_for_line("worker_started")
    assert server.send(acme).status_code == 202
    database.wait_for("SELECT count(*) FROM ticket_history", 1, within=10)
    before = database.query("SELECT * FROM inbox")
    code, printed = looked(environment, acme.id, "--url", server.url, run=run)
    assert code == 0, printed
    lines = printed.splitlines()
    assert {line.split()[0] for line in lines} <= {"ok", "note"}
    for words in (
        "its schema is at",
        "its secret can be read",
        "workers alive: 1",
        "asks for a signature",
        "recent webhooks: 1",
    ):
        assert sum(words in line for line in lines) == 1, words
    assert database.query("SELECT * FROM inbox") == before


def test_each_fault_is_named_with_what_mends_it(environment: dict[str, str], acme: Tenant) -> None:
    code, printed = looked(environment, acme.id, "--url", "http://127.0.0.1:9")
    assert code == 1
    assert "wrong no worker is alive, so nothing reaches ticket_history: start `ticket-inbox worker`" in printed
    assert "wrong http://127.0.0.1:9/webhook/servicedesk/resolved-ticket cannot be reached from here" in printed
    assert "wrong no webhook of it is among the inbox's last rows" in printed
    assert "3 to mend" in printed


def test_rejected_rows_are_shown_with_the_reason_and_the_command_that_mends_them(
    module_environment: dict[str, str], tenant: Tenant, server: Server
) -> None:
    assert server.send(tenant, priority=7).status_code == 422
    code, printed = looked(module_environment, tenant.id, "--url", server.url)
    assert code == 1
    assert "1 rows are rejected; the newest says: 'priority must be a string'" in printed
    assert f"then `ticket-inbox reprocess --status rejected --tenant {tenant.id}`" in printed


def test_rejected_and_failed_rows_each_have_a_reason_of_their_own(
    database: Database, environment: dict[str, str], acme: Tenant
) -> None:
    for status, error in (("failed", "an older fault"), ("failed", "the fault"), ("rejected", "the rule")):
        database.query(
            "INSERT INTO inbox (tenant_id, correlation_id, payload, signature, status, error) "
            "VALUES (%s, 'c', '', 's', %s, %s)",
            acme.id, status, error,
        )  # fmt: skip
    printed = looked(environment, acme.id)[1]
    assert "wrong 1 rows are rejected; the newest says: 'the rule'" in printed
    assert "wrong 2 rows are failed; the newest says: 'the fault'" in printed


def test_a_tenant_that_is_unknown_disabled_or_unreadable_is_named_as_such(
    database: Database, environment: dict[str, str], acme: Tenant
) -> None:
    assert "there is no tenant 'nobody': `ticket-inbox tenant add` adds it" in looked(environment, "nobody")[1]
    database.query("UPDATE tenant_configs SET secret = 'gibberish' RETURNING 1")
    assert "no key in SECRETS_KEY reads the tenant's secret" in looked(environment, acme.id)[1]
    database.query("UPDATE tenant_configs SET enabled = false RETURNING 1")
    assert f"tenant {acme.id!r} is disabled" in looked(environment, acme.id)[1]


@pytest.mark.parametrize("path", ["", "/webhook/servicedesk/resolved-ticket", "/"])
def test_the_address_may_have_the_path_or_not(
    module_environment: dict[str, str], tenant: Tenant, server: Server, path: str
) -> None:
    assert "asks for a signature" in looked(module_environment, tenant.id, "--url", server.url + path)[1]
    assert "as no ticket-inbox does" in looked(module_environment, tenant.id, "--url", server.url + "/health/live")[1]


def test_a_schema_of_another_version_ends_the_checks(
    database: Database, environment: dict[str, str], acme: Tenant
) -> None:
    database.query("UPDATE alembic_version SET version_num = '0001' RETURNING 1")
    code, printed = looked(environment, acme.id)
    assert code == 1
    assert "the schema is at 0001, behind this version's" in printed
    assert "worker" not in printed


def test_without_postgres_it_says_so_in_one_line(environment: dict[str, str]) -> None:
    code, printed = looked({**environment, "DATABASE_URL": "postgresql://127.0.0.1:9/none"}, "acme")
    assert code == 1
    assert len(printed.splitlines()) == 1
