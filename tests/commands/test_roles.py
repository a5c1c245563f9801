"""Least privilege: each process does all its work with its own role, and Postgres refuses that role everything else."""

import asyncio
import json
import re
import shlex
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psycopg
import pytest

from app import settings as environments
from app.sdp import reconcile
from db import advisory_locks, queue, rights, roles, schema, schema_turn, ticket_history
from db import engine as engines
from db.advisory_locks import MIGRATION, SWEEP
from db.tenants import Secrets
from jobs import promote
from tests import ROOT
from tests.conftest import clean_environment
from tests.support.ecosystem_tools import tool
from tests.support.eventually import eventually
from tests.support.fake_sdp import running_sdp
from tests.support.installation import PASSWORD, Installation, installation
from tests.support.query_plans import plan
from tests.support.questions import add_ticket, add_token, ask
from tests.support.stranger import APPLICATION, stranger
from tests.support.system import Database, Tenant, run, running_server, running_worker

PAGE = (ROOT / "docs/operations.md").read_text()
[SECTION] = re.findall(r"^## Roles\n(.*?)^## ", PAGE, re.MULTILINE | re.DOTALL)
STEPS = re.findall(r"^ *```(sh|pgsql)\n(.*?)^ *```", SECTION, re.MULTILINE | re.DOTALL)
ACME = Tenant("acme", "")
ODD = "o'dd \\ \" tenant"


@pytest.fixture(scope="module")
def place(postgres_url: str) -> Iterator[Installation]:
    """An installation made by the steps of docs/operations.md, with readers for acme, for globex and for no tenant."""
    with installation(postgres_url, "CREATEROLE") as made:
        for language, lines in STEPS:
            for line in filter(None, map(str.strip, lines.splitlines())):
                follow(made, language, line)
                if line.endswith("migrate"):  # as a careful administrator does
                    made.owner.query("REVOKE EXECUTE ON ALL FUNCTIONS IN SCHEMA public FROM PUBLIC")
        for role in ("reader_2", "stranger"):
            follow(made, "pgsql", f"CREATE ROLE {role} LOGIN PASSWORD '…' IN ROLE ticket_inbox_reader")
        for tenant_id in ("globex", ODD, "initech"):
            made.add_tenant(tenant_id)
        for tenant_id in ("acme", "globex", ODD, "initech"):
            made.add_ticket(tenant_id)
        made.let_read("globex", "reader_2")
        yield made


def follow(made: Installation, language: str, line: str) -> None:
    """Run a line of the page, with this installation's names."""
    line = line.replace("ticket_inbox_", "")
    if language == "pgsql":
        line = re.sub(r"\b(app|worker|operator|reader|stranger)(_login|_\d)?\b", rf"{made.name}_\1\2", line)
        made.owner.query(line.replace("…", PASSWORD))
        return
    done = made.run(*shlex.split(re.sub(r"\b(reader_\d)\b", rf"{made.name}_\1", line))[1:])
    assert done.returncode == 0, done.stderr


def sum_of(pruned: list[dict[str, Any]]) -> tuple[int, int]:
    return sum(line["rows"] for line in pruned), sum(line["jobs"] for line in pruned)


def test_server_and_worker_do_all_their_work(place: Installation, secrets_key: str, tmp_path: Path) -> None:
    """They accept, reject, promote, fail, sweep, requeue, reprocess, forget dead workers, prune, and are counted."""
    owner, by_worker = place.owner, place.by("worker_login")
    owner.query("TRUNCATE inbox, procrastinate_jobs CASCADE")  # what other tests may have left pending
    tenant = owner.add_tenant(secrets_key)
    searched = owner.add_tenant(secrets_key)
    add_ticket(owner, searched.id, "1")
    token = add_token(owner, searched.id)
    env = clean_environment(SECRETS_KEY=secrets_key, PORT="0")
    servers = running_server({**env, "DATABASE_URL": place.by("app_login").url}, tmp_path / "server")
    workers = running_worker({**env, "DATABASE_URL": by_worker.url}, tmp_path / "worker")
    of_status = "SELECT count(*) FROM inbox WHERE status = '{}'"
    with servers as server, workers as worker:
        assert server.client.get("/health/ready").json() == {"status": "ready"}
        assert [server.send(tenant, ticket_id="1").status_code for _ in range(2)] == [202, 202]
        eventually(lambda: ask(server, token).status_code == 200)
        assert server.send(tenant, ticket_id="2", priority=2).status_code == 422
        assert server.send(Tenant(tenant.id, "another")).status_code == 401
        owner.wait_for(of_status.format("promoted"), 2, within=10)
        # Only sweep finds these: rows without a job, and a job without a worker.
        for payload in (tenant.body(ticket_id="3"), b"damaged"):
            owner.query("INSERT INTO inbox (tenant_id, correlation_id, payload, signature) VALUES (%s, 'c', %s, 's')", tenant.id, payload)  # fmt: skip
        owner.query("INSERT INTO procrastinate_jobs (queue_name, task_name, args, status) VALUES ('promote', 'promote', '{\"inbox_ids\": [1]}', 'doing')")  # fmt: skip
        by_worker.defer("sweep")
        owner.wait_for(of_status.format("failed"), 1, within=10)
        owner.wait_for(of_status.format("promoted"), 3, within=10)
        worker.wait_for_line("job_requeued")
        place.by("operator_login").defer("reprocess", tenant_id=tenant.id)
        assert worker.wait_for_line("reprocess_ended")[0]["rows"] == 5
        owner.query("INSERT INTO procrastinate_workers (last_heartbeat) VALUES (now() - interval '1 hour')")
        owner.wait_for("SELECT count(*) FROM procrastinate_workers", 1, within=10)
        owner.query("UPDATE inbox SET received_at = now() - interval '1 year'")
        job = by_worker.value("INSERT INTO procrastinate_jobs (queue_name, task_name, scheduled_at) VALUES ('later', 'later', now() + interval '1 hour') RETURNING id")  # fmt: skip
        assert by_worker.value("SELECT procrastinate_cancel_job_v1(%s, true, false)", job) == job
        owner.query("UPDATE procrastinate_events SET at = now() - interval '1 year' WHERE job_id = %s", job)
        by_worker.defer("prune")
        # The daily one may be first: which of the two did it is the same.
        eventually(lambda: sum_of(worker.lines("pruned")) == (3, 1))
        assert "oldest_pending_seconds" in server.client.get("/metrics").text
        assert re.search(r"^pending +0$", place.run("status").stdout, re.MULTILINE)
        assert (server.stop(), worker.stop()) == (0, 0)
        for log in (server, worker):
            assert not re.search("permission|policy|postgres_failed|task_failed|_not_read|_not_written", log.text()), (
                log.text()
            )
    known = "SELECT action, count(*) AS rows FROM inbox GROUP BY 1 ORDER BY 1"
    assert owner.query(known) == [{"action": None, "rows": 2}]
    assert owner.value("SELECT count(*) FROM ticket_history WHERE tenant_id = %s", tenant.id) == 2
    assert owner.value("SELECT count(*) FROM procrastinate_workers") == 0
    assert owner.value("SELECT wrong FROM signature_counts WHERE tenant_id = %s", tenant.id) == 1
    assert owner.value("SELECT last_used_at > made_at FROM read_tokens WHERE tenant_id = %s", searched.id)


def test_a_worker_asks_servicedesk_plus(place: Installation, secrets_key: str) -> None:
    """The worker's role may read the address, lock, look up known tickets, append with a job, and move the cursor."""
    owner = place.owner
    tenant = owner.add_tenant(secrets_key)
    with running_sdp() as sdp:
        sdp.add_resolved(2)
        encrypted = Secrets(secrets_key).encrypt(json.dumps(sdp.given))
        owner.query("INSERT INTO sdp_configs (tenant_id, edition, base_url, credentials) VALUES (%s, 'on_premises', %s, %s)", tenant.id, sdp.url, encrypted)  # fmt: skip
        env = {
            "DATABASE_URL": place.by("worker_login").url,
            "SECRETS_KEY": secrets_key,
            "SDP_REQUESTS_PER_MINUTE": "6000",
        }
        settings = environments.load(env)
        for counted in ({"seen": 2, "appended": 2}, {"seen": 2, "already_there": 2}):
            summary = asyncio.run(reconcile.reconcile(settings, tenant.id))
            assert (summary.error, summary.is_complete) == (None, True)
            assert {name: count for name, count in summary.counts().items() if count} == counted
        assert asyncio.run(reconcile.import_since(settings, tenant.id, datetime(2020, 1, 1, tzinfo=UTC))).appended == 2
    owner.query("DELETE FROM inbox WHERE tenant_id = %s", tenant.id)


APPEND = "INSERT INTO inbox (tenant_id, correlation_id, payload, signature{}) VALUES ('acme', 'c', '', 's'{})"


def job(queue: str, task: str, priority: int, rest: str = "NULL, NULL, '{}', NULL") -> str:
    """Return a statement that defers a job; `rest` is its lock, its queueing lock, its arguments and when it is due."""
    row = f"ROW('{queue}', '{task}', {priority}, {rest})::procrastinate_job_to_defer_v1"
    return f"SELECT procrastinate_defer_jobs_v1(ARRAY[{row}])"


# An event locks its job for as long as the transaction is open, and no worker fetches a job that is locked.
ADD_EVENT = "INSERT INTO procrastinate_events (job_id, type) VALUES (1, 'started')"
FORBIDDEN = {
    "app": [
        "SELECT payload FROM inbox",
        "SELECT signature FROM inbox",
        "SELECT tenant_id, error FROM inbox",
        "SELECT id FROM inbox FOR UPDATE",
        "UPDATE inbox SET status = 'promoted'",
        "DELETE FROM inbox",
        "TRUNCATE inbox",
        "DO $$ BEGIN LOCK TABLE inbox IN ACCESS EXCLUSIVE MODE; END $$",
        APPEND.format(", received_at", ", now()"),
        APPEND.format(", promoted_at", ", now()"),
        APPEND.format(", attempts", ", 9"),
        "SELECT setval('inbox_id_seq', 1)",
        "SELECT FROM ticket_history",
        "INSERT INTO ticket_history (tenant_id) VALUES ('acme')",
        "UPDATE ticket_history SET resolution = ''",
        "DELETE FROM ticket_history",
        "INSERT INTO tenant_configs (tenant_id, secret) VALUES ('mine', 's')",
        "UPDATE tenant_configs SET secret = 's'",
        "DELETE FROM tenant_configs",
        "SELECT FROM sdp_configs",
        "SELECT FROM sdp_cursors",
        "SELECT FROM tenant_readers",
        job("prune", "prune", -20),
        job("reprocess", "reprocess", -10),
        job("promote", "prune", 0),
        job("prune", "promote", 0),
        job("promote", "promote", 100),
        job("promote", "promote", -2),
        job("promote", "promote", 0, "'lock', NULL, '{}', NULL"),
        job("promote", "promote", 0, "NULL, 'sweep', '{}', NULL"),
        job("promote", "promote", 0, "NULL, NULL, '{}', now() + interval '1 year'"),
        "INSERT INTO procrastinate_jobs (task_name, queue_name, priority) VALUES ('prune', 'prune', -20)",
        "SELECT args FROM procrastinate_jobs",
        "UPDATE procrastinate_jobs SET args = '{}'",
        "DELETE FROM procrastinate_jobs",
        "SELECT procrastinate_fetch_job_v2(NULL, NULL)",
        "SELECT procrastinate_cancel_job_v1(1, true, true)",
        "SELECT procrastinate_register_worker_v1()",
        "DELETE FROM procrastinate_workers",
        "SELECT FROM procrastinate_events",
        ADD_EVENT,
        "DELETE FROM signature_counts",
        "UPDATE signature_counts SET tenant_id = 'mine'",
    ],
    "worker": [
        "SELECT secret FROM tenant_configs",
        "SELECT created_at FROM tenant_configs",
        "INSERT INTO tenant_configs (tenant_id, secret) VALUES ('mine', 's')",
        "UPDATE tenant_configs SET enabled = true",
        "DELETE FROM tenant_configs",
        APPEND.format(", received_at", ", now()"),
        APPEND.format(", attempts", ", 9"),
        "INSERT INTO sdp_configs (tenant_id) VALUES ('acme')",
        "UPDATE sdp_configs SET base_url = ''",
        "DELETE FROM sdp_configs",
        "DELETE FROM sdp_cursors",
        "UPDATE sdp_cursors SET tenant_id = 'mine'",
        "SELECT signature FROM inbox",
        "UPDATE inbox SET payload = ''",
        "UPDATE inbox SET tenant_id = 'mine'",
        "UPDATE inbox SET received_at = now()",
        "TRUNCATE inbox",
        "SELECT description FROM ticket_history",
        "SELECT * FROM ticket_history",
        "UPDATE ticket_history SET description = ''",
        "UPDATE ticket_history SET tenant_id = 'mine'",
        "UPDATE ticket_history SET created_at = now()",
        "DELETE FROM ticket_history",
        "TRUNCATE ticket_history",
        "DELETE FROM procrastinate_events",
        "SELECT wrong FROM signature_counts",
    ],
    "operator": [
        "SELECT payload FROM inbox",
        "SELECT signature FROM inbox",
        "SELECT octet_length(payload) FROM inbox",
        "EXPLAIN SELECT FROM inbox WHERE payload > ''",
        "SELECT * FROM inbox",
        "SELECT inbox FROM inbox",
        "COPY inbox TO STDOUT",
        "SELECT id FROM inbox FOR UPDATE",
        "UPDATE inbox SET status = 'pending'",
        "DELETE FROM inbox",
        APPEND.format("", ""),
        "SELECT description FROM ticket_history",
        "SELECT resolution FROM ticket_history",
        "SELECT FROM ticket_history WHERE resolution >= 'Roll'",
        "EXPLAIN SELECT FROM ticket_history WHERE resolution >= 'Roll'",
        "SELECT FROM ticket_history WHERE to_tsvector('english', description) @@ to_tsquery('english', 'vpn')",
        "SELECT priority FROM ticket_history",
        "SELECT tags FROM ticket_history",
        "TABLE ticket_history",
        "UPDATE ticket_history SET resolved_date = now()",
        "DELETE FROM ticket_history",
        "SELECT secret FROM tenant_configs",
        "SELECT previous_secret FROM tenant_configs",
        "UPDATE tenant_configs SET enabled = false",
        "SELECT credentials FROM sdp_configs",
        "UPDATE sdp_cursors SET position = now()",
        "SELECT FROM tenant_readers",
        "SELECT token_hash FROM read_tokens",
        "UPDATE read_tokens SET revoked_at = now()",
        "UPDATE leases SET owner = 'me'",
        "DELETE FROM leases",
        job("promote", "promote", 0),
        job("prune", "prune", -20),
        job("reprocess", "promote", -10),
        job("reprocess", "reprocess", 0),
        job("reprocess", "reprocess", -10, "'lock', NULL, '{}', NULL"),
        job("reprocess", "reprocess", -10, "NULL, 'sweep', '{}', NULL"),
        job("reprocess", "reprocess", -10, "NULL, NULL, '{}', now() + interval '1 year'"),
        "UPDATE procrastinate_jobs SET args = '{}'",
        "UPDATE procrastinate_jobs SET priority = 100",
        "UPDATE procrastinate_jobs SET task_name = 'prune'",
        "DELETE FROM procrastinate_jobs",
        "SELECT procrastinate_fetch_job_v2(NULL, NULL)",
        "SELECT procrastinate_retry_job_v2(1, now(), 0, 'promote', NULL)",
        ADD_EVENT,
        "DELETE FROM procrastinate_workers",
    ],
    "reader": [
        "SELECT FROM tenant_readers",
        "INSERT INTO ticket_history (tenant_id) VALUES ('acme')",
        "UPDATE ticket_history SET resolution = ''",
        "DELETE FROM ticket_history",
        "TRUNCATE ticket_history",
        "SELECT id FROM ticket_history FOR UPDATE",
        "SELECT FROM inbox",
        "SELECT FROM tenant_configs",
        "SELECT FROM sdp_configs",
        "SELECT FROM sdp_cursors",
        "SELECT FROM procrastinate_jobs",
        "SELECT FROM alembic_version",
        "SELECT procrastinate_defer_jobs_v1(ARRAY[ROW('a', 'a', 0, NULL, NULL, '{}', NULL)::procrastinate_job_to_defer_v1])",
        "SELECT procrastinate_unregister_worker_v1(1)",
    ],
}
FORBIDDEN_TO_ALL = [
    "UPDATE alembic_version SET version_num = '0001'",
    "DROP TABLE inbox",
    "ALTER TABLE ticket_history DISABLE ROW LEVEL SECURITY",
    "CREATE POLICY mine ON ticket_history USING (true)",
    "DROP POLICY {name}_worker ON ticket_history",
    "CREATE TABLE mine ()",
    "CREATE FUNCTION mine() RETURNS int LANGUAGE sql AS 'SELECT 1'",
    "CREATE ROLE mine",
    "GRANT {name}_owner TO {name}_reader",
    "SET ROLE {name}_owner",
    "ALTER TABLE procrastinate_jobs DISABLE ROW LEVEL SECURITY",
    "CREATE POLICY mine ON procrastinate_jobs USING (true)",
    "INSERT INTO tenant_readers (role_name, tenant_id) VALUES ('mine', 'acme')",
    "INSERT INTO read_tokens (tenant_id, name, token_hash) VALUES ('acme', 'mine', sha256('mine'))",
    "UPDATE read_tokens SET revoked_at = NULL",
    "SELECT name, token_hash FROM read_tokens",
    "SET SESSION AUTHORIZATION {name}_owner",
    "COPY (SELECT 1) TO PROGRAM 'true'",
]
LOGINS = {"app": "app_login", "worker": "worker_login", "operator": "operator_login", "reader": "reader_1"}


@pytest.mark.parametrize(
    ("kind", "statement"),
    [(kind, one) for kind, statements in FORBIDDEN.items() for one in [*statements, *FORBIDDEN_TO_ALL]],
)
def test_postgres_refuses_everything_else(place: Installation, kind: str, statement: str) -> None:
    with pytest.raises(psycopg.Error) as refused:
        place.by(LOGINS[kind]).query(statement.format(name=place.name) if "{name}" in statement else statement)
    assert refused.value.sqlstate == "42501", refused.value


HELD = """
SELECT relname AS table, string_agg(privilege, ' ' ORDER BY privilege) AS rights
FROM pg_class, unnest(ARRAY['SELECT', 'INSERT', 'UPDATE', 'DELETE', 'TRUNCATE', 'REFERENCES', 'TRIGGER']) AS privilege
WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'p', 'v', 'm', 'f')
  AND (has_table_privilege(%(role)s, pg_class.oid, privilege)
       OR privilege IN ('SELECT', 'INSERT', 'UPDATE', 'REFERENCES')
          AND has_any_column_privilege(%(role)s, pg_class.oid, privilege))
GROUP BY 1
"""
ALL = "DELETE INSERT SELECT UPDATE"


def held(place: Installation, role: str) -> dict[str, str]:
    with psycopg.connect(place.owner.url) as connection:
        return dict(connection.execute(HELD, {"role": f"{place.name}_{role}"}).fetchall())


def test_all_rights_of_each_role(place: Installation) -> None:
    assert held(place, "app_login") == {
        "alembic_version": "SELECT",
        "inbox": "INSERT SELECT",
        "procrastinate_jobs": "INSERT SELECT",
        "procrastinate_workers": "SELECT",
        "read_tokens": "SELECT UPDATE",
        "search_due": "SELECT",
        "signature_counts": "INSERT SELECT UPDATE",
        "tenant_configs": "SELECT",
    }
    assert held(place, "worker_login") == {
        "alembic_version": "SELECT",
        "inbox": "DELETE INSERT SELECT UPDATE",
        "leases": ALL,
        "procrastinate_events": "INSERT SELECT",
        "procrastinate_jobs": ALL,
        "procrastinate_periodic_defers": ALL,
        "procrastinate_workers": ALL,
        "sdp_access": "INSERT SELECT UPDATE",
        "sdp_configs": "SELECT",
        "sdp_cursors": "INSERT SELECT UPDATE",
        "search_due": "SELECT",
        "signature_counts": "DELETE SELECT",
        "tenant_configs": "SELECT",
        "tenant_removals": "SELECT",
        "ticket_history": "INSERT SELECT UPDATE",
    }
    assert held(place, "operator_login") == {
        "alembic_version": "SELECT",
        "inbox": "SELECT",
        "leases": "SELECT",
        "procrastinate_events": "SELECT",
        "procrastinate_jobs": "INSERT SELECT UPDATE",
        "procrastinate_workers": "SELECT",
        "read_tokens": "SELECT",
        "sdp_access": "SELECT",
        "sdp_configs": "SELECT",
        "sdp_cursors": "SELECT",
        "search_due": "SELECT",
        "search_indexes": "SELECT",
        "signature_counts": "SELECT",
        "tenant_configs": "SELECT",
        "tenant_removals": "SELECT",
        "ticket_history": "SELECT",
    }
    assert held(place, "reader_1") == {"ticket_history": "SELECT"}


def test_no_table_is_forgotten(database: Database) -> None:
    """db/rights.py names every table, so that a new one is granted to some role, or to none on purpose."""
    relations = "SELECT array_agg(relname::text) FROM pg_class WHERE relnamespace = 'public'::regnamespace AND {}"
    assert set(database.value(relations.format("relkind IN ('r', 'p', 'v', 'm', 'f')"))) == set(rights.TABLES)
    no_identity = "relkind = 'S' AND NOT EXISTS (SELECT FROM pg_depend WHERE objid = pg_class.oid AND deptype = 'i')"
    assert set(database.value(relations.format(no_identity))) == set(rights.SEQUENCES)


TENANTS = "SELECT DISTINCT tenant_id FROM ticket_history"
SETTINGS = [
    "SET app.tenant_id = 'globex'",
    "SET ticket_inbox.tenant_id = 'globex'",
    "SELECT set_config('role', '{name}_reader_2', false)",
    "SET ROLE {name}_reader",
    "SET ROLE {name}_reader_2",
    "SET ROLE {name}_worker",
    "SET ROLE {name}_owner",
    "SET ROLE NONE",
    "SET SESSION AUTHORIZATION {name}_reader_2",
    "SET SESSION AUTHORIZATION DEFAULT",
    "SET row_security = off",
    "SET session_replication_role = replica",
    "SET search_path = pg_temp, public",
    "SET transaction_read_only = off",
]


@pytest.mark.parametrize("setting", SETTINGS)
def test_a_reader_sees_its_tenant_whatever_it_sets(place: Installation, setting: str) -> None:
    """Postgres refuses the setting, or it changes nothing, or the reader sees less."""
    with psycopg.connect(place.by("reader_1").url, autocommit=True) as connection:
        assert connection.execute(TENANTS).fetchall() == [("acme",)]
        try:
            connection.execute(setting.format(name=place.name))
            assert connection.execute(TENANTS).fetchall() in ([("acme",)], [])
        except psycopg.errors.InsufficientPrivilege:
            assert connection.execute("SELECT current_user").fetchall() == [(f"{place.name}_reader_1",)]


def test_a_reader_learns_nothing_by_a_function_of_its_own(place: Installation) -> None:
    """Its cost is so low that Postgres would call it first, if it did not always apply the policy before."""
    seen: list[str] = []
    with psycopg.connect(place.by("reader_1").url, autocommit=True) as connection:
        connection.add_notice_handler(lambda notice: seen.append(str(notice.message_primary)))
        connection.execute(
            "CREATE FUNCTION pg_temp.reveal(a text) RETURNS boolean LANGUAGE plpgsql COST 0.0000001 "
            "AS $$ BEGIN RAISE NOTICE '%', a; RETURN true; END $$"
        )
        connection.execute("SELECT FROM ticket_history WHERE pg_temp.reveal(tenant_id)")
        connection.execute("SELECT FROM ticket_history WHERE 1 / (tenant_id <> 'globex')::int = 1")
    assert set(seen) == {"acme"}


def test_a_role_that_reads_for_no_tenant_sees_none_and_one_in_two_readers_sees_both(place: Installation) -> None:
    stranger = place.by("stranger")
    assert stranger.query(TENANTS) == []
    place.owner.query(f"GRANT {place.name}_reader_1, {place.name}_reader_2 TO {place.name}_stranger")
    assert {row["tenant_id"] for row in stranger.query(TENANTS)} == {"acme", "globex"}
    place.owner.query(f"REVOKE {place.name}_reader_1, {place.name}_reader_2 FROM {place.name}_stranger")
    assert stranger.query(TENANTS) == []


def test_a_reader_that_is_named_again_changes_its_tenant(place: Installation) -> None:
    """Even if the role was renamed, and whatever the tenant's id is."""
    name = place.name
    place.add_login("first", "reader")
    place.let_read(ODD, "first")
    assert place.by("first").query(TENANTS) == [{"tenant_id": ODD}]
    place.owner.query(f"ALTER ROLE {name}_first RENAME TO {name}_second")
    place.owner.query(f"ALTER ROLE {name}_second PASSWORD '{PASSWORD}'")  # renaming clears an MD5 password
    place.let_read("initech", "second")
    assert place.by("second").query(TENANTS) == [{"tenant_id": "initech"}]


def test_making_the_roles_again_restores_their_rights(place: Installation) -> None:
    """Rights that were granted besides are revoked, and correct ones are left alone."""
    policies = "SELECT oid, polname FROM pg_policy ORDER BY oid"
    before = (held(place, "worker"), held(place, "app"), place.owner.query(policies))
    place.owner.query(f"GRANT DELETE ON tenant_configs, ticket_history TO {place.name}_worker")
    place.owner.query(f"GRANT UPDATE (payload) ON inbox TO {place.name}_app")
    assert held(place, "worker") != before[0]
    assert (place.make().new, place.make().warnings) == (set(), [])
    assert (held(place, "worker"), held(place, "app"), place.owner.query(policies)) == before


def test_a_role_that_cannot_be_a_reader_is_refused(place: Installation) -> None:
    name = place.name
    place.owner.query(f"CREATE ROLE {name}_outside")
    place.owner.query(f"CREATE ROLE {name}_wide IN ROLE {name}_reader, {name}_worker")
    for tenant_id, role, words in [
        ("nobody", "reader_1", "there is no tenant 'nobody'"),
        ("acme", "new", f'CREATE ROLE "{name}_new" LOGIN PASSWORD '),
        ("acme", "reader", "name the one that is to read"),
        ("acme", "outside", f'GRANT "{name}_reader" TO "{name}_outside"'),
        ("acme", "wide", "a role that sees every tenant's tickets"),
        ("acme", "owner", "a role that sees every tenant's tickets"),
    ]:
        with pytest.raises(roles.RolesError, match=words):
            place.let_read(tenant_id, role)


def test_naming_a_reader_does_not_wait_long_for_a_lock(place: Installation, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every worker would wait behind a policy change that waits for one long statement."""
    monkeypatch.setattr(roles, "LOCK_TIMEOUT", "50ms")
    with psycopg.connect(place.by("reader_1").url) as reading:
        reading.execute(TENANTS)
        with pytest.raises(roles.RolesError, match="try again later"):
            place.let_read("globex", "reader_2")
    assert place.by("reader_2").query(TENANTS) == [{"tenant_id": "globex"}]


@pytest.mark.parametrize("role", ["reader_1", "app_login", "worker_login", "owner"])
def test_only_the_lock_of_a_role_that_may_do_the_work_counts(place: Installation, role: str) -> None:
    """Seen by the worker's own role, which may not see others' sessions, and by the owner."""
    may = {SWEEP: role in {"worker_login", "owner"}, MIGRATION: role == "owner"}
    with psycopg.connect(place.by(role).url, autocommit=True) as session:
        for number in may:
            session.execute("SELECT pg_advisory_lock(%s)", [number])
        for by in ("worker_login", "owner"):
            found = {
                row["number"]: row["may_do_it"]
                for row in place.by(by).query(advisory_locks.holders(f"pid = {session.info.backend_pid}"))
            }
            assert found == may


def test_roles_ignore_a_strangers_lock_and_name_who_else_changes_them(
    place: Installation, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(roles, "LOCK_TIMEOUT", "50ms")
    lock = f"SELECT pg_advisory_lock({MIGRATION})"
    with psycopg.connect(place.by("reader_1").url, autocommit=True) as session:
        session.execute(lock)
        place.make()
        assert f"Ignoring process {session.info.backend_pid} in Postgres (" in capsys.readouterr().err
    with psycopg.connect(place.owner.url, autocommit=True, application_name="ticket-inbox migrate") as session:
        session.execute(lock)
        holder = rf"is under way, by process {session.info.backend_pid} in Postgres \(application ticket-inbox migrate, role "
        with pytest.raises(roles.RolesError, match=holder + f"{place.name}_owner, connected since .*: try again later"):
            place.make()
    with psycopg.connect(place.owner.url) as session:
        session.execute(schema_turn.LOCK)  # as a migration under way has it
        holder = rf"are in use, by process {session.info.backend_pid} \(.*role {place.name}_owner"
        with pytest.raises(roles.RolesError, match=f"{holder}.*try again later"):
            place.make()


def test_a_table_lock_of_a_role_without_any_right_is_nobodys_turn_and_is_named_where_it_is_in_the_way(
    place: Installation, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Any role that may use the schema locks a table as for writing, without a right to it."""
    monkeypatch.setattr(roles, "LOCK_TIMEOUT", "50ms")
    place.add_login("late", "reader")
    place.add_tenant("late")
    with stranger(Database(place.url)) as session:
        session.execute(f"SELECT pg_advisory_lock({MIGRATION})")  # is not what the error is about
        with session.transaction():
            session.execute("PREPARE one AS DELETE FROM alembic_version")
            place.make()
        with session.transaction():
            session.execute("PREPARE two AS DELETE FROM ticket_history")
            pid = session.info.backend_pid
            holder = rf"are in use, by process {pid} \(application {APPLICATION}, role stranger_"
            ends = rf"\(`SELECT pg_terminate_backend\({pid}\)` ends it\): try again later"
            with pytest.raises(roles.RolesError, match=f"^ticket_history or the jobs {holder}.* {ends}$"):
                place.let_read("late", "late")
        place.let_read("late", "late")
        place.owner.query("REVOKE USAGE ON SCHEMA public FROM PUBLIC")  # as docs/operations.md says
        try:
            with pytest.raises(psycopg.errors.UndefinedTable):  # it does not see it
                session.execute("PREPARE three AS DELETE FROM ticket_history")
            place.make()
            assert promoted(place.by("worker_login")) == ["inserted"]
        finally:
            place.owner.query("GRANT USAGE ON SCHEMA public TO PUBLIC")


def test_wrong_use_is_one_line(place: Installation) -> None:
    for arguments, by, words in [
        (("roles", "make"), "app_login", f"the tables belong to {place.name}_owner"),
        (("roles", "make"), "worker_login", f"the tables belong to {place.name}_owner"),
        (("roles", "reader", "nobody", "x"), "owner", "there is no tenant 'nobody'"),
    ]:
        done = place.run(*arguments, by=by)
        assert (done.returncode, len(done.stderr.splitlines()), words in done.stderr) == (1, 1, True), done.stderr
    done = run(["roles", "make", "--prefix", "No good"], clean_environment())
    assert (done.returncode, "small letters" in done.stderr) == (2, True)


def test_an_owner_that_may_not_make_roles(postgres_url: str) -> None:
    """The error names the roles that an administrator must make. Before and after, the owner's role does all work."""
    with installation(postgres_url, "NOCREATEROLE") as made:
        schema.upgrade(made.owner.url)
        assert promoted(made.owner) == ["inserted"]
        with pytest.raises(roles.RolesError) as refused:
            made.make()
        [lines] = re.findall(r"an administrator has to make the roles, by `(.*)`; then run", str(refused.value))
        Database(made.url).query(lines)
        made.make()
        assert promoted(made.owner) == ["inserted"]
        # A reader relies on row level security, so a downgrade must keep it on.
        tool(made.owner, "alembic", "downgrade", "0004")
        assert made.owner.value("SELECT relrowsecurity FROM pg_class WHERE relname = 'ticket_history'") is True
        with pytest.raises(roles.RolesError, match="run `ticket-inbox migrate`"):
            made.make()


def promoted(database: Database) -> list[str | None]:
    """Append and promote a ticket as the database's role, and return the actions."""
    ids = database.deliver(ACME.payload())

    async def act() -> list[str | None]:
        engine = engines.create_engine(database.url, "test", 1, 30.0)
        try:
            return [outcome.action for outcome in await promote.promote_batch(engine, ids)]
        finally:
            await engine.dispose()

    return asyncio.run(act())


def test_a_workers_statements_have_the_owners_plan(place: Installation) -> None:
    """The worker's policies add no condition; the reader's policy finds its rows by an index."""
    workers = (place.owner, place.by("worker_login"))
    by_owner, by_worker = (asyncio.run(plan(role, ticket_history.UPSERT)) for role in workers)
    assert by_worker == by_owner
    # The policy on jobs changes in which order a node's conditions are evaluated, and nothing else.
    part = r"'(Node Type|Index Name|Index Cond)': (['\"].*?['\"])[,}]"
    parts = [re.findall(part, asyncio.run(plan(role, queue.TAKE_OVER))) for role in workers]
    assert parts[0] == parts[1]
    assert len(parts[0]) > 10
    with psycopg.connect(place.by("reader_1").url) as connection:
        connection.execute("SET enable_seqscan = off")
        explained = str(connection.execute("EXPLAIN SELECT * FROM ticket_history WHERE ticket_id = '1'").fetchall())
    assert "ticket_history_tenant_id_ticket_id_key" in explained
    assert re.search(r"Index Cond: \(\(tenant_id = (\(InitPlan 2\)\.col1|\$1)\) AND \(ticket_id", explained), explained


def test_a_role_that_notifies_stops_no_worker_and_aborts_no_job(
    place: Installation, secrets_key: str, tmp_path: Path
) -> None:
    """Postgres lets every role notify, so a worker only wakes up and then reads the tables."""
    env = clean_environment(SECRETS_KEY=secrets_key, DATABASE_URL=place.by("worker_login").url)
    stranger = place.by("stranger")
    of_ids = "SELECT count(*) FROM inbox WHERE id = ANY(%s) AND status = 'promoted'"
    with running_worker(env, tmp_path / "worker") as worker, psycopg.connect(place.owner.url) as blocking:
        worker.wait_for_line("worker_started")
        blocking.execute("LOCK TABLE ticket_history IN ACCESS EXCLUSIVE MODE")
        ids = place.owner.deliver(ACME.payload())
        jobs = "SELECT max(id) FROM procrastinate_jobs WHERE status = 'doing' AND task_name = 'promote'"
        deadline = time.monotonic() + 10
        while (job := place.owner.value(jobs)) is None:
            assert time.monotonic() < deadline
            time.sleep(0.02)
        for payload in ("no JSON", "{}", "", f'{{"type": "abort_job_requested", "job_id": {job}}}'):
            stranger.query("SELECT pg_notify('procrastinate_any_queue_v1', %s)", payload)
        time.sleep(0.5)
        blocking.rollback()
        deadline = time.monotonic() + 5  # sweep would find it only later
        while not place.owner.value(of_ids, ids):
            assert time.monotonic() < deadline, worker.text()
            time.sleep(0.02)
        assert [line["event"] for line in worker.lines() if line["level"] != "info"] == []
        assert len(worker.lines("worker_started")) == 1
