"""A tenant that is removed leaves no row behind, whatever is under way, and takes no other tenant's."""

import asyncio
import json
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import psycopg
import pytest

from db import engine as engines
from db import readers, tenant_removal, tenant_rows
from jobs import promote
from tests.support.eventually import eventually
from tests.support.removing import Silent, fill, left, remove
from tests.support.system import Database, Tenant

ACME, GLOBEX = Tenant("acme", "secret"), Tenant("globex", "secret")
JOB = "INSERT INTO procrastinate_jobs (queue_name, task_name, status, args) VALUES (%s, %s, %s, %s)"


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave out the ten seconds: nothing may come back even so."""
    monkeypatch.setattr(tenant_removal, "IN_FORCE_WITHIN", 0.0)


@pytest.fixture
def started() -> Iterator[Callable[..., Future[Any]]]:
    """Call a function in another thread, which ends before the test does."""
    with ThreadPoolExecutor() as pool:
        yield pool.submit


def test_no_table_keeps_a_row(database: Database) -> None:
    """Of any table with a tenant, also one that is made later: the tables come from the catalog."""
    for tenant_id in (ACME.id, GLOBEX.id):
        fill(database, tenant_id)
    before = left(database, GLOBEX.id)
    assert {
        "inbox",
        "ticket_history",
        "tenant_configs",
        "sdp_configs",
        "sdp_cursors",
        "tenant_readers",
        "signature_counts",
        "read_tokens",
    } <= set(before)
    counts = remove(database, ACME.id)
    assert (counts["tickets"], counts["deliveries"], counts["readers"]) == (1, 1, 1)
    assert left(database, ACME.id) == {}
    assert left(database, GLOBEX.id) == before


def test_it_goes_in_batches_and_is_finished_after_a_kill(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each batch is committed. What was half removed by hand, without its config, is removed as well."""
    monkeypatch.setattr(tenant_removal, "WINDOW", 10)
    fill(database, ACME.id)
    database.deliver(*(ACME.payload() for _ in range(95)))
    database.query("DELETE FROM tenant_configs")

    def killed() -> None:
        assert database.value("SELECT count(*) FROM inbox") == 86
        raise SystemExit

    with pytest.raises(SystemExit):
        remove(database, ACME.id, Silent(killed))
    assert left(database, ACME.id)["tenant_removals"] == 1
    assert remove(database, ACME.id)["deliveries"] == 86
    assert left(database, ACME.id) == {}


def test_jobs_and_leases_of_its_rows_go(database: Database) -> None:
    """A job with another tenant's rows stays, and so does a worker's lease whose id is a tenant's name."""
    fill(database, ACME.id)
    database.deliver(ACME.payload(), ACME.payload())
    _, other = database.deliver(ACME.payload(), GLOBEX.payload())
    [failed] = database.deliver(ACME.payload())
    gone = [
        ("reprocess", "todo", {"tenant_id": "acme", "status": "failed"}),
        ("reprocess", "failed", {"tenant_id": "acme"}),
        ("reconcile", "todo", {"tenant_id": "acme"}),
        ("reprocess", "todo", {"inbox_ids": [1, 2]}),
        ("promote", "aborted", {"inbox_ids": [failed]}),
    ]
    stay = [
        ("reprocess", "todo", {"tenant_id": "globex"}),
        ("reprocess", "failed", {"inbox_ids": [other]}),
        ("promote", "failed", {"inbox_ids": ["x", 0.5, None, 10**30]}),
        ("sweep", "todo", {}),
    ]
    for task, status, args in [*gone, *stay]:
        database.query(JOB, task, task, status, json.dumps(args))
    stay_held = ["import:acme2:1f", "import:acme:x:1f", "reconcile:globex", "worker:acme"]
    for name in ("reconcile:acme", "import:acme", "import:acme:0123456789abcdef", *stay_held):
        database.query("INSERT INTO leases (name, owner, expires_at) VALUES (%s, 'o', now())", name)
    assert remove(database, ACME.id)["jobs"] == len(gone) + 2
    kept = {str(row["args"]) for row in database.query("SELECT args FROM procrastinate_jobs")}
    assert {str(args) for _, _, args in stay} < kept
    assert len(kept) == len(stay) + 1  # and the job of the second delivery, for globex
    names = [row["name"] for row in database.query("SELECT name FROM leases")]
    assert sorted(names) == stay_held


@pytest.mark.parametrize("tenant_id", ["acme", "o'dd \\ \" \x1b[2J tenant"])
def test_its_readers_policies_go(database: Database, tenant_id: str) -> None:
    """Those that an earlier version made, whatever the tenant's name is."""
    roles = [f"reader_{uuid.uuid4().hex[:8]}" for _ in range(2)]
    fill(database, tenant_id)
    with psycopg.connect(database.url, autocommit=True) as owner:
        try:
            for role, of in zip(roles, (tenant_id, f"{tenant_id}'"), strict=True):
                owner.execute(f"CREATE ROLE {role}")
                condition = psycopg.sql.SQL("USING (tenant_id = {})").format(of)
                owner.execute(psycopg.sql.SQL(f'CREATE POLICY "p {role}" ON ticket_history TO {role} ') + condition)
            assert remove(database, tenant_id)["readers"] == 2  # and the row in tenant_readers
            assert [row["polname"] for row in database.query("SELECT polname FROM pg_policy")] == [f"p {roles[1]}"]
        finally:
            owner.execute("DROP POLICY IF EXISTS x ON ticket_history")
            owner.execute(f"DROP OWNED BY {', '.join(roles)}")
            owner.execute(f"DROP ROLE {', '.join(roles)}")


def test_its_readers_see_nothing_at_once_and_leave_nothing(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """Their policies go; where a long statement is in the way they stay, and show nothing, also of the next tenant."""
    monkeypatch.setattr(tenant_rows, "TRIES", 1)
    roles = [f"reader_{uuid.uuid4().hex[:8]}" for _ in range(2)]
    watcher = Silent()
    with psycopg.connect(database.url, autocommit=True) as owner, psycopg.connect(database.url) as reading:
        try:
            for role, is_busy in zip(roles, (True, False), strict=True):
                fill(database, ACME.id)
                owner.execute(f"CREATE ROLE {role}")
                owner.execute(f"GRANT SELECT ON ticket_history TO {role}")
                with owner.transaction():
                    readers.assign(owner, role, ACME.id)
                assert seen_by(owner, role) == 1
                if is_busy:
                    reading.execute("SELECT FROM ticket_history")
                remove(database, ACME.id, watcher)
                reading.rollback()
            assert [row["polname"] for row in database.query("SELECT polname FROM pg_policy")] == [roles[0]]
            assert database.value("SELECT count(*) FROM pg_proc WHERE proname ~ '^reader_tenant'") == 1
            assert [f"`ticket-inbox roles revoke {roles[0]}`" in one for one in watcher.words].count(True) == 1
            fill(database, ACME.id)
            assert seen_by(owner, roles[0]) == 0
        finally:
            owner.execute(f"DROP OWNED BY {', '.join(roles)}")
            owner.execute(f"DROP ROLE {', '.join(roles)}")


def seen_by(owner: psycopg.Connection, role: str) -> int:
    """Return how many tickets a role sees."""
    with owner.transaction():
        owner.execute(f"SET LOCAL ROLE {role}")
        [count] = owner.execute("SELECT count(*) FROM ticket_history").fetchone() or [-1]
    return int(count)


def test_an_append_that_began_before_is_waited_for(database: Database, started: Callable[..., Future[Any]]) -> None:
    """Its statement has read that the tenant is enabled, and commits long after."""
    fill(database, ACME.id)
    with psycopg.connect(database.url, application_name="slow one") as slow:
        slow.execute(
            "INSERT INTO inbox (tenant_id, correlation_id, payload, signature) VALUES ('acme', 'late', '', 's')"
        )
        removal = started(remove, database, ACME.id)
        eventually(lambda: database.value("SELECT count(*) FROM tenant_configs WHERE NOT enabled"))
        assert database.value("SELECT count(*) FROM inbox") == 1, "deleted before the last append had ended"
        assert not removal.done()
        slow.commit()
        assert removal.result(20)["deliveries"] == 2
    assert left(database, ACME.id) == {}


def test_a_promotion_that_began_before_stores_nothing_for_good(
    database: Database, started: Callable[..., Future[Any]]
) -> None:
    """It has claimed the rows, and waits for a lock of ticket_history; then it stores them."""
    fill(database, ACME.id)
    ids = database.deliver(*(ACME.payload(ticket_id=str(number)) for number in range(3)))
    with psycopg.connect(database.url) as blocking:
        insert = "INSERT INTO ticket_history (tenant_id, ticket_id, description, resolution, resolved_date, priority) "
        blocking.execute(insert + "VALUES ('acme', '1', 'd', 'r', now(), 'p')")
        promotion = started(promoted, database, ids)
        eventually(lambda: database.value("SELECT count(*) FROM pg_locks WHERE NOT granted"))
        removal = started(remove, database, ACME.id)
        eventually(lambda: database.value("SELECT count(*) FROM pg_locks WHERE NOT granted") > 1)
        blocking.rollback()
        assert [one.action for one in promotion.result(20)] == ["inserted"] * 3
        assert removal.result(20)["tickets"] == 4
    assert left(database, ACME.id) == {}
    assert promoted(database, ids) == [], "a promotion of rows that are gone does nothing"


def promoted(database: Database, ids: list[int]) -> list[Any]:
    async def on_engine() -> list[Any]:
        engine = engines.create_engine(database.url, "ticket-inbox worker", 1, 30.0)
        try:
            return await promote.promote_batch(engine, ids)
        finally:
            await engine.dispose()

    return asyncio.run(on_engine())


def test_one_that_is_enabled_meanwhile_is_disabled_again(database: Database) -> None:
    """By SQL, or by an earlier version's command, which knows of no removal."""
    fill(database, ACME.id)

    def enable() -> None:
        database.query("UPDATE tenant_configs SET enabled = true")
        database.deliver(ACME.payload())

    assert remove(database, ACME.id, Silent(enable))["deliveries"] == 2
    assert left(database, ACME.id) == {}


def test_the_slower_of_two_removals_leaves_the_new_tenant_alone(database: Database) -> None:
    """The other one ended, and the id was added anew, between two statements of it."""
    fill(database, ACME.id)

    def overtake() -> None:
        remove(database, ACME.id)
        assert left(database, ACME.id) == {}
        fill(database, ACME.id)

    remove(database, ACME.id, Silent(overtake))
    assert set(left(database, ACME.id)) >= {"tenant_configs", "inbox", "ticket_history", "sdp_configs"}
