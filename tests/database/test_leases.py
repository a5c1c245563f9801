"""A lease has one owner at a time; nobody waits for a lock to take, renew or lose one, and only its owner appends."""

import asyncio
import contextlib
import os
import time
from collections.abc import AsyncIterator, Coroutine
from typing import Any

import psycopg
import pytest
from sqlalchemy.ext.asyncio import AsyncConnection

from db import engine as engines
from db import inbox, lease_keeper, leases, workers
from db.inbox import Delivery
from tests.support.system import ANY_TENANT, Database

pytestmark = pytest.mark.one_postgres

DELIVERY = Delivery(
    tenant_id="acme", ticket_id="1", correlation_id="c", traceparent="t", payload=b"{}", signature="s"
)  # fmt: skip
TAKEN_OVER = "UPDATE leases SET owner = 'another'"


@contextlib.asynccontextmanager
async def connected(database: Database) -> AsyncIterator[AsyncConnection]:
    """Yield a connection whose statements wait for three seconds at most."""
    engine = engines.create_engine(database.url, "test", 1, 3.0)
    try:
        async with engines.connection(engine) as connection:
            yield connection
    finally:
        await engine.dispose()


def run(database: Database, act: Any) -> Any:  # noqa: ANN401
    """Return what `act` returns, which gets two connections."""

    async def on_connections() -> Any:  # noqa: ANN401
        async with connected(database) as one, connected(database) as other:
            return await act(one, other)

    work: Coroutine[Any, Any, Any] = on_connections()
    return asyncio.run(work)


def test_one_owner_at_a_time_who_is_named_to_the_others(database: Database) -> None:
    async def act(one: AsyncConnection, other: AsyncConnection) -> None:
        owners = leases.Owners()
        async with leases.held(one, "x", owners) as lease:
            assert owners.has == {lease.owner}
            with pytest.raises(leases.HeldError, match=rf"process {os.getpid()} on .*, since .* until .* UTC"):
                async with leases.held(other, "x", owners):
                    pass
            async with leases.held(other, "y", owners):
                assert [row["name"] for row in database.query("SELECT name FROM leases ORDER BY 1")] == ["x", "y"]
        assert (owners.has, owners.ended, database.value("SELECT count(*) FROM leases")) == (set(), set(), 0)
        async with leases.held(other, "x", owners):
            pass

    run(database, act)


@pytest.mark.parametrize(
    ("age", "session", "is_free"),
    [(leases.LASTS + 1, "lives", True), (leases.SILENT_AFTER + 1, "ended", True), (leases.SILENT_AFTER + 0.3, "lives", False),
     (leases.SILENT_AFTER + 1, "is another", True), (leases.SILENT_AFTER - 3, "ended", False)],
)  # fmt: skip
def test_it_is_free_when_it_has_expired_or_is_silent_and_its_sessions_have_ended(
    database: Database, age: float, session: str, *, is_free: bool
) -> None:
    """A process that was frozen keeps its sessions; Postgres ends those of a process that was killed.

    A session that connected after the last renewal has got the process id of one that ended.
    """

    async def act(one: AsyncConnection, _other: AsyncConnection) -> bool:
        try:
            async with leases.held(one, "x", leases.Owners()):
                return True
        except leases.HeldError:
            return False

    with psycopg.connect(database.url, autocommit=True) as renewing:
        if not is_free and session == "lives":
            time.sleep(age)  # since it renewed the lease, which nothing but time can show
        renewing.execute(
            "INSERT INTO leases (name, owner, expires_at, sessions)"
            " VALUES ('x', 'old', now() + make_interval(secs => %s), ARRAY[pg_backend_pid()])",
            [leases.LASTS - age],
        )
        pid = renewing.info.backend_pid
        if session == "ended":
            renewing.close()
            gone = f"SELECT count(*) FROM pg_stat_activity WHERE pid = {pid}"
            database.wait_for(gone, 0, within=10)
        assert run(database, act) == is_free


def test_nobody_waits_for_a_row_that_a_statement_holds(database: Database) -> None:
    """The heartbeat renews it the next time; who wants it finds it taken."""

    async def act(one: AsyncConnection, other: AsyncConnection) -> None:
        owners = leases.Owners()
        async with leases.held(one, "x", owners) as lease:
            database.query("UPDATE leases SET expires_at = now() - interval '1 h'")
            with psycopg.connect(database.url) as statement:
                statement.execute("SELECT FROM leases FOR UPDATE")
                with pytest.raises(leases.HeldError):
                    async with leases.held(other, "x", owners):
                        pass
                beat(database, [lease.owner])
            beat(database, [lease.owner])
            assert database.value("SELECT expires_at > now() FROM leases WHERE name = 'x'")

    run(database, act)


def beat(database: Database, has: list[str]) -> None:
    given = {"worker_id": 1, "owner": "the worker", "has": has, "ended": []}
    with psycopg.connect(database.url, autocommit=True) as session:
        session.execute("SET statement_timeout = '3s'")
        session.execute(workers.BEAT, given)


def test_who_lost_it_appends_nothing(database: Database) -> None:
    async def act(one: AsyncConnection, _other: AsyncConnection) -> None:
        async with leases.held(one, "x", leases.Owners()) as lease:
            database.query("UPDATE leases SET expires_at = now() - interval '1 h'")
            assert await inbox.append(one, [DELIVERY], lease=lease, allowed=ANY_TENANT) == [1]
            assert database.value("SELECT expires_at > now() FROM leases"), "an append renews it"
            database.query(TAKEN_OVER)
            with pytest.raises(leases.LostError):
                await inbox.append(one, [DELIVERY], lease=lease, allowed=ANY_TENANT)
            with pytest.raises(leases.LostError):
                await leases.confirm(one, lease)
        assert database.value("SELECT owner FROM leases") == "another"

    run(database, act)
    assert (
        database.value("SELECT count(*) FROM inbox") == database.value("SELECT count(*) FROM procrastinate_jobs") == 1
    )


def test_a_command_renews_its_lease_and_gives_it_back_though_its_session_was_killed(database: Database) -> None:
    async def act(one: AsyncConnection, _other: AsyncConnection) -> None:
        async with lease_keeper.held(database.url, one, "x"):
            database.query("UPDATE leases SET expires_at = now() - interval '1 h'")
            renewed = "SELECT expires_at > now() AND cardinality(sessions) = 2 FROM leases"
            await asyncio.to_thread(database.wait_for, renewed, wanted=True, within=10)
            database.query("SELECT pg_terminate_backend(sessions[2]) FROM leases")
            assert database.value("SELECT count(*) FROM leases") == 1
        assert database.value("SELECT count(*) FROM leases") == 0

    run(database, act)


def test_rows_of_processes_that_died_long_ago_are_deleted(database: Database) -> None:
    database.query(
        "INSERT INTO leases (name, owner, expires_at)"
        " VALUES ('old', 'o', now() - interval '2 h'), ('new', 'o', now() - interval '1 minute')"
    )
    run(database, lambda one, _other: leases.forget_old(one))
    assert database.query("SELECT name FROM leases") == [{"name": "new"}]
