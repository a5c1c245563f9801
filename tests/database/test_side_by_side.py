"""Processes of the version before, which take advisory locks, and processes of this one, which take leases.

The statements of the version before are written here as it had them.
"""

import asyncio
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import psycopg
import pytest

from db import advisory_locks, leases, workers
from db import engine as engines
from db.advisory_locks import RUN, SWEEP, Lock
from tests.support.stranger import APPLICATION, stranger
from tests.support.system import Database

pytestmark = pytest.mark.one_postgres

OLD_BEAT = """
SELECT procrastinate_update_heartbeat_v1(%(worker_id)s),
       pg_advisory_lock_shared(7105302, CAST(mod(%(worker_id)s, 2147483648) AS integer))
"""
OLD_FORGET_DEAD = """
DELETE FROM procrastinate_workers
WHERE id IN (
  SELECT id FROM procrastinate_workers AS worker
  WHERE last_heartbeat < now() - interval '5 seconds'
    AND NOT EXISTS (SELECT FROM pg_locks
                    WHERE locktype = 'advisory' AND classid = 7105302 AND objsubid = 2
                      AND CAST(objid AS bigint) = mod(worker.id, 2147483648)
                      AND database = (SELECT oid FROM pg_database WHERE datname = current_database()))
  FOR UPDATE SKIP LOCKED
)
RETURNING id
"""
OLD_SWEEP = "SELECT pg_try_advisory_xact_lock(7105301)"
OLD_RUN = "SELECT pg_try_advisory_lock(7105303, hashtext('api_fallback acme'))"
OLD = {OLD_SWEEP: Lock(SWEEP), OLD_RUN: Lock(RUN, "api_fallback acme")}
NEW_BEAT = {"owner": "the worker", "has": [], "ended": []}
Session = psycopg.Connection[tuple[object, ...]]
Beat = Callable[[Session, int], object]


def old_beat(session: Session, worker_id: int) -> None:
    session.execute(OLD_BEAT, {"worker_id": worker_id})


def new_beat(session: Session, worker_id: int) -> None:
    session.execute(workers.BEAT, {"worker_id": worker_id, **NEW_BEAT})


@pytest.mark.parametrize(
    ("beat", "forget"),
    [(old_beat, workers.FORGET_DEAD), (new_beat, OLD_FORGET_DEAD), (new_beat, workers.FORGET_DEAD)],
    ids=["an old one by a new one", "a new one by an old one", "a new one by a new one"],
)
def test_a_silent_worker_with_a_session_is_alive_and_one_without_is_dead(
    database: Database, beat: Beat, forget: str
) -> None:
    worker_id = database.value("SELECT procrastinate_register_worker_v1()")
    with psycopg.connect(database.url, autocommit=True) as session:
        beat(session, worker_id)
        database.query("UPDATE procrastinate_workers SET last_heartbeat = now() - interval '6 s'")
        assert database.query(forget) == []
    wait_until_dead(database, worker_id, forget)


def test_a_dead_worker_does_not_live_by_another_session_that_got_its_process_id(database: Database) -> None:
    """Neither by a stranger's nor by one of our own role's, which connected since."""
    for connect in (lambda: stranger(database), lambda: psycopg.connect(database.url)):
        worker_id = database.value("SELECT procrastinate_register_worker_v1()")
        with psycopg.connect(database.url, autocommit=True) as beating:
            new_beat(beating, worker_id)
        with connect() as session:
            database.query("UPDATE leases SET sessions = ARRAY[CAST(%s AS integer)]", session.info.backend_pid)
            database.query("UPDATE procrastinate_workers SET last_heartbeat = now() - interval '6 s'")
            assert database.query(workers.FORGET_DEAD) == [{"id": worker_id}]


def wait_until_dead(database: Database, worker_id: int, forget: str) -> None:
    """Run the statement that forgets dead workers until it finds this one: a session takes a moment to end."""
    deadline = time.monotonic() + 10
    while (found := database.query(forget)) != [{"id": worker_id}]:
        assert not found
        assert time.monotonic() < deadline
        time.sleep(0.02)


def hold(database: Database, lock: Lock) -> str:
    """Take a lease with the old lock, and return why that failed, or whose locks were ignored."""

    async def take() -> str:
        engine = engines.create_engine(database.url, "test", 1, 3.0)
        try:
            async with (
                engines.connection(engine) as connection,
                leases.held(connection, "x", leases.Owners(), lock) as lease,
            ):
                return f"ignored: {', '.join(map(str, lease.ignored))}"
        except leases.HeldError as error:
            return f"held by {error}"
        finally:
            await engine.dispose()

    return asyncio.run(take())


@pytest.mark.parametrize("old", [OLD_SWEEP, OLD_RUN], ids=["sweep", "reconcile"])
def test_an_old_sweep_or_run_goes_first_and_a_strangers_lock_does_not(database: Database, old: str) -> None:
    with psycopg.connect(database.url, application_name="ticket-inbox old") as session:
        assert session.execute(old).fetchone() == (True,)
        held = hold(database, OLD[old])
        assert held.startswith(
            f"held by process {session.info.backend_pid} in Postgres (application ticket-inbox old, role "
        )
        assert held.endswith("which has the lock of the version before")
        assert database.value("SELECT count(*) FROM leases") == 0
    with stranger(database) as session:
        assert session.execute(old.replace("_xact", "")).fetchone() == (True,)
        assert hold(database, OLD[old]).startswith(
            f"ignored: process {session.info.backend_pid} in Postgres (application {APPLICATION}"
        )
    assert hold(database, OLD[old]) == "ignored: "


@pytest.mark.parametrize("old", [OLD_SWEEP, OLD_RUN], ids=["sweep", "reconcile"])
def test_an_old_one_does_not_run_beside_a_new_one_and_new_ones_do_not_hold_each_other_up(
    database: Database, old: str
) -> None:
    """A new process that froze, and whose lease expired, has its share for as long as its session lasts."""

    async def act() -> None:
        engine = engines.create_engine(database.url, "test", 2, 3.0)
        try:
            async with engines.connection(engine) as one, engines.connection(engine) as other:
                async with leases.held(one, "x", leases.Owners(), OLD[old]):
                    assert not next(iter(database.query(old)[0].values()))
                    database.query("UPDATE leases SET expires_at = now() - interval '1 s'")
                    async with leases.held(other, "x", leases.Owners(), OLD[old]) as lease:
                        assert lease.ignored == ()
                    assert not next(iter(database.query(old)[0].values()))
                assert next(iter(database.query(old)[0].values()))
        finally:
            await engine.dispose()

    asyncio.run(act())


@pytest.mark.parametrize("old", [OLD_SWEEP, OLD_RUN], ids=["sweep", "reconcile"])
def test_strangers_that_share_a_lock_and_wait_for_it_are_ignored_and_named(database: Database, old: str) -> None:
    """Postgres grants no lock past one that waits, so nobody has it alone, and we do not get our share."""
    share = old.replace("try_", "").replace("xact_", "").replace("lock", "lock_shared", 1)
    alone = share.replace("_shared", "")
    with ThreadPoolExecutor(1) as threads, stranger(database) as waiting, stranger(database) as sharing:
        sharing.execute(share)
        threads.submit(waiting.execute, alone)  # returns when the other session ends
        database.wait_for("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted", 1, within=10)
        ignored = hold(database, OLD[old])
        found = {one.pid: one.has for one in holders(database)}
        assert found == {sharing.info.backend_pid: "has", waiting.info.backend_pid: "waits for"}
        assert all(f"process {pid} in Postgres (application {APPLICATION}" in ignored for pid in found)


def holders(database: Database) -> list[advisory_locks.Holder]:
    return [advisory_locks.Holder(**row) for row in database.query(advisory_locks.holders())]


def test_a_worker_waits_for_no_lock_that_another_login_took(database: Database) -> None:
    """Neither does it live longer by it."""
    worker_id = database.value("SELECT procrastinate_register_worker_v1()")
    with stranger(database) as session:
        session.execute("SELECT pg_advisory_lock(%s, %s)", [advisory_locks.WORKER, worker_id])
        with psycopg.connect(database.url, autocommit=True) as beating:
            beating.execute("SET statement_timeout = '3s'")
            [[_, is_known, is_shared]] = beating.execute(workers.BEAT, {"worker_id": worker_id, **NEW_BEAT}).fetchall()
            assert (is_known, is_shared) == (True, False)
        database.query("UPDATE procrastinate_workers SET last_heartbeat = now() - interval '6 s'")
        wait_until_dead(database, worker_id, workers.FORGET_DEAD)
    assert database.value("SELECT count(*) FROM leases") == 0
