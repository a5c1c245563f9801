"""A login with CONNECT alone takes every advisory lock that has one of our numbers: nothing of ours waits for it."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest

from db import migration
from db.advisory_locks import MIGRATION, RUN, SWEEP, WORKER
from tests.support.commands_in_process import run_here
from tests.support.fake_sdp import running_sdp
from tests.support.reconciled import settled
from tests.support.stranger import stranger
from tests.support.system import Database, Worker

pytestmark = pytest.mark.one_postgres

TAKE = f"""
SELECT pg_advisory_lock({SWEEP}), pg_advisory_lock({MIGRATION}),
       (SELECT count(pg_advisory_lock({WORKER}, id)) FROM generate_series(1, 50) AS id),
       (SELECT count(pg_advisory_lock({RUN}, hashtext(source || ' ' || %s)))
        FROM unnest(ARRAY['api_fallback', 'bulk_import']) AS source)
"""
HELD_BY_ANOTHER = """
INSERT INTO leases (name, owner, expires_at) VALUES (%s, 'another', now() + interval '1 h')
ON CONFLICT (name) DO UPDATE SET owner = excluded.owner, expires_at = excluded.expires_at
"""
ROW = "INSERT INTO inbox (tenant_id, ticket_id, correlation_id, payload, signature) VALUES (%s, %s, 'c', %s, 's')"


def wait_until_skipped(worker: Worker, task: str) -> None:
    """Wait until a run was skipped for `another`'s lease; runs of its own schedule may have been skipped before."""
    seen = 0
    while not any(" by another, since " in line["error"] for line in worker.lines(f"{task}_skipped")):
        seen = len(worker.wait_for_line(f"{task}_skipped", count=seen + 1, within=20))


def test_nothing_waits_for_them_and_their_holder_is_named(
    database: Database,
    environment: dict[str, str],
    secrets_key: str,
    start_worker: Callable[..., Worker],
    capsys: pytest.CaptureFixture[str],
) -> None:
    """A worker promotes and sweeps, a run reconciles, a migration ends, and each names the holder; so does doctor."""
    with running_sdp("on_premises") as sdp, stranger(database) as session:
        place = settled(database, sdp, environment, secrets_key)
        session.execute(TAKE, [place.tenant.id])
        place.sdp.add_resolved(2)
        worker = start_worker(SDP_REQUESTS_PER_MINUTE="6000")
        database.deliver(place.tenant.payload())
        database.wait_for("SELECT count(*) FROM ticket_history", 1, within=20)
        database.query(ROW, place.tenant.id, "unattended", place.tenant.body(ticket_id="unattended"))
        database.defer("sweep")
        database.wait_for("SELECT count(*) FROM ticket_history WHERE ticket_id = 'unattended'", 1, within=40)
        for what in ("a worker's life", "sweep"):
            worker.wait_for_line("lock_ignored")
            assert sum(f" for {what}, and " in line["error"] for line in worker.lines("lock_ignored")) == 1
        database.defer("reconcile")
        database.wait_for("SELECT count(*) FROM inbox WHERE source = 'api_fallback'", 2, within=20)
        assert place.import_since(datetime.now(UTC) - timedelta(days=1)).is_complete
        migration.run(database.url, lambda _: None)
        holder = f"process {session.info.backend_pid} in Postgres (application a stranger's, role stranger_"
        said = capsys.readouterr().err
        assert f"Warning: ignoring {holder}" in said
        assert f"Ignoring {holder}" in said
        printed = run_here(["doctor", "--tenant", place.tenant.id], environment).stdout
        for count, what in ((50, "a worker's life"), (1, "sweep"), (1, "migrations and roles"), (2, "reconciliation")):
            locks = "lock" if count == 1 else "locks"
            assert f" has {count} advisory {locks} with our number for {what}" in printed.replace("\n", " ")
        assert printed.count(f"note  {holder}") == 4
        assert f"ok    lease worker:1: held by process {worker.process.pid} on " in printed
    for name in ("sweep", f"reconcile:{place.tenant.id}"):
        database.query(HELD_BY_ANOTHER, name)
    for task in ("sweep", "reconcile"):
        database.defer(task)
        wait_until_skipped(worker, task)
    database.query("DELETE FROM leases WHERE owner = 'another'")
    assert worker.stop() == 0
    assert database.value("SELECT count(*) FROM leases") == 0
