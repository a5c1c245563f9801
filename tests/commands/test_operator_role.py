"""An operator's role sees what became of each delivery, reprocesses, and reads no ticket's text and no secret."""

import asyncio
import json
from collections.abc import Iterator
from datetime import timedelta

import psycopg
import pytest

from db import engine as engines
from db import retention, rights, schema
from db.tenants import Secrets
from tests.support.installation import Installation, installation

pytestmark = pytest.mark.one_postgres

SECRET = {
    "inbox": {"payload", "signature"},
    "ticket_history": {"description", "resolution", "priority", "tags"},
    "tenant_configs": {"secret", "previous_secret"},
    "sdp_configs": {"credentials"},
    "read_tokens": {"token_hash"},
    "tenant_readers": {"id", "role_name", "tenant_id"},
}
ADD_EVENT = "INSERT INTO procrastinate_events (job_id, type) VALUES ({}, 'started')"
NOT_READABLE = """
SELECT relname AS table, attname AS column
FROM pg_class JOIN pg_attribute ON attrelid = pg_class.oid
WHERE relnamespace = CAST('public' AS regnamespace) AND relkind IN ('r', 'p', 'v', 'm', 'f') AND attnum > 0
  AND NOT attisdropped AND NOT has_column_privilege(%s, pg_class.oid, attnum, 'SELECT')
"""


@pytest.fixture(scope="module")
def place(postgres_url: str, secrets_key: str) -> Iterator[Installation]:
    """An installation with an operator, and a tenant with an API, a ticket, and a delivery that failed."""
    with installation(postgres_url) as made:
        schema.upgrade(made.owner.url)
        made.make()
        made.add_login("operator_login", "operator")
        tenant = made.owner.add_tenant(secrets_key, "acme")
        encrypted = Secrets(secrets_key).encrypt(json.dumps({"token": "t"}))
        made.owner.query(
            "INSERT INTO sdp_configs (tenant_id, edition, base_url, credentials) "
            "VALUES ('acme', 'on_premises', 'http://127.0.0.1:9', %s)",
            encrypted,
        )
        [first, second] = made.owner.deliver(tenant.payload(ticket_id="7"), tenant.payload(ticket_id="8"))
        made.add_ticket("acme", "7", "the text of a resolution")
        made.owner.query("UPDATE ticket_history SET inbox_id = %s", first)
        made.owner.query("UPDATE inbox SET status = 'promoted', action = 'inserted', attempts = 1, promoted_at = now() WHERE id = %s", first)  # fmt: skip
        made.owner.query("UPDATE inbox SET status = 'failed', error = 'why not' WHERE id = %s", second)
        yield made


def test_no_text_and_no_secret_is_readable(place: Installation) -> None:
    """By the rights in the catalog; tests/commands/test_roles.py tries to read them."""
    found = place.owner.query(NOT_READABLE, f"{place.name}_operator_login")
    hidden = {table: {row["column"] for row in found if row["table"] == table} for table in rights.TABLES}
    for table, columns in SECRET.items():
        assert columns <= hidden[table], table
    assert hidden["procrastinate_jobs"] == set()
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        place.by("operator_login").query("SELECT resolution FROM ticket_history")
    assert place.by("operator_login").value("SELECT count(tenant_id) FROM ticket_history") == 1


def test_an_operator_runs_status_trace_and_doctor(place: Installation) -> None:
    """What its role may not read, `doctor` leaves out and says so."""
    done = place.run("status", by="operator_login")
    assert done.returncode == 0, done.stderr
    assert "acme: 1 failed, most of them because\n  why not" in done.stdout
    done = place.run("trace", "7", "--json", by="operator_login")
    [delivery] = json.loads(done.stdout)["deliveries"]
    assert (done.returncode, delivery["status"], delivery["stands"]) == (0, "promoted", True), done.stderr
    assert "text of a resolution" not in done.stdout
    done = place.run("doctor", "--tenant", "acme", "--url", "http://127.0.0.1:9", by="operator_login")
    assert (done.returncode, "permission denied" in done.stdout + done.stderr) == (1, False), done.stderr
    for line in (
        f"ok    Postgres answers, and its schema is at {schema.head()}",
        "note  the tenant is enabled; this role may not read its secret, so that was not checked",
        "wrong 1 rows are failed; the newest says: 'why not'.",
        "note  ServiceDesk Plus may be asked (not checked: this role may not read the credentials), and has not been yet",
    ):
        assert line in done.stdout, done.stdout


def test_an_operator_reprocesses_and_cancels_that_alone(place: Installation) -> None:
    """A job that waits or runs for the operator's own task; another task's job is not found."""
    operator, owner = place.by("operator_login"), place.owner
    cancel = "SELECT procrastinate_cancel_job_v1(%s, true, false)"
    job = operator.defer("reprocess", status="failed")
    status = "SELECT status::text FROM procrastinate_jobs WHERE id = %s"
    assert operator.value(status, job) == "todo"
    assert operator.value(cancel, job) == job
    assert operator.value(status, job) == "cancelled"
    running = operator.defer("reprocess", status="failed")
    owner.query("UPDATE procrastinate_jobs SET status = 'doing', scheduled_at = now() WHERE id = %s", running)
    assert operator.value(cancel, running) == running
    assert operator.value("SELECT abort_requested FROM procrastinate_jobs WHERE id = %s", running) is True
    others = owner.defer("prune")
    assert operator.value(cancel, others) is None
    assert operator.query("SELECT id FROM procrastinate_jobs WHERE id = %s FOR UPDATE", others) == []
    assert operator.value(status, others) == "todo"


OF_ONES_OWN = """
CREATE TEMP TABLE mine (id bigint);
CREATE TRIGGER mine BEFORE INSERT ON mine FOR EACH ROW
EXECUTE FUNCTION public.procrastinate_trigger_function_status_events_insert_v1();
"""


def test_an_operator_keeps_no_job_from_being_run_or_deleted(place: Installation) -> None:
    """An event locks its job until the transaction ends, so events are written by the triggers alone, as the owner."""
    owner, operator = place.owner, place.by("operator_login")
    job = operator.defer("reprocess", status="failed")
    operator.query("SELECT procrastinate_cancel_job_v1(%s, true, false)", job)
    events = "SELECT string_agg(type::text, ' ' ORDER BY id) FROM procrastinate_events WHERE job_id = %s"
    assert operator.value(events, job) == "deferred abort_requested cancelled"
    for others in (ADD_EVENT.format(owner.defer("prune")), OF_ONES_OWN):
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            operator.query(others)
    owner.query("UPDATE procrastinate_events SET at = now() - interval '1 year' WHERE job_id = %s", job)
    with psycopg.connect(operator.url) as holder:
        holder.execute("SELECT FROM procrastinate_jobs WHERE id = %s FOR UPDATE", [job])
        assert asyncio.run(delete_jobs(owner.url, job)) == 0
        holder.rollback()
        assert asyncio.run(delete_jobs(owner.url, job)) == 1


async def delete_jobs(url: str, job: int) -> int:
    """Delete the job as `prune` does, and return how many were deleted; fail if a lock keeps it waiting."""
    engine = engines.create_engine(url, "test", 1, 2.0)
    try:
        async with engines.transaction(engine) as connection:
            return await retention.delete_jobs(connection, timedelta(days=1), job - 1, job)
    finally:
        await engine.dispose()


def test_an_owner_without_createrole_goes_on_until_the_role_is_made(postgres_url: str) -> None:
    """The version before had no operators; what it had gets its rights at once, and a warning says what is missing."""
    with installation(postgres_url, "NOCREATEROLE") as made:
        schema.upgrade(made.owner.url)
        with psycopg.connect(made.url, autocommit=True) as admin:
            for kind in ("app", "worker", "reader"):
                admin.execute(f"CREATE ROLE {made.name}_{kind}")
        done = made.make()
        assert set(done.names) == {"app", "worker", "reader"}
        [warning] = done.warnings
        assert warning.endswith(f"by `CREATE ROLE {made.name}_operator`; then run this again")
        with psycopg.connect(made.url, autocommit=True) as admin:
            admin.execute(f"CREATE ROLE {made.name}_operator")
        done = made.make()
        assert (set(done.names), done.warnings) == (set(rights.KINDS), [])


def test_a_role_of_ones_own_still_counts_jobs(place: Installation) -> None:
    """Row-level security on jobs takes nothing from a program that only reads them."""
    place.owner.query(f"CREATE ROLE {place.name}_exporter")
    place.add_login("exporter_login", "exporter")
    place.owner.query(f"GRANT SELECT ON procrastinate_jobs TO {place.name}_exporter")
    count = "SELECT count(*) FROM procrastinate_jobs"
    assert place.by("exporter_login").value(count) == place.owner.value(count) > 0
