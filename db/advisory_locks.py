"""Which advisory locks have our numbers, and may their holders hold us up?

Any role that may connect can take any advisory lock. So one counts only if its holder's role may do the work that the
lock is for: it may be a process of the version before this one, which takes these in place of leases (db/leases.py).
This version shares them, so that the version before waits; the next version drops all but that of the migrations.
"""

from collections.abc import Sequence
from datetime import UTC, datetime

import msgspec
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

# Just numbers that no other lock uses.
SWEEP, WORKER, RUN, MIGRATION = 7105301, 7105302, 7105303, 7430113
WORDS = {
    SWEEP: "sweep",
    WORKER: "a worker's life",
    RUN: "reconciliation, or an import from ServiceDesk Plus",
    MIGRATION: "migrations and roles",
}
MOST = 20  # holders that are read

# A role's name, database and application are visible to everybody; since when its session is there, to few. A lock
# has one number of 64 bits, or two of 32. A prepared transaction has no session, and no process of ours prepares one.
HOLDERS = """
SELECT number, pid, CAST(session.usename AS text) AS role, session.application_name AS application,
       session.backend_start AS since,
       coalesce((SELECT bool_or(
                   CASE WHEN number <> {migration} THEN has_table_privilege(role.oid, workers, 'UPDATE')
                        WHEN versions IS NULL THEN has_schema_privilege(role.oid, current_schema(), 'CREATE')
                        ELSE role.oid = (SELECT relowner FROM pg_class WHERE oid = versions) END)
                 FROM pg_roles AS role WHERE pg_has_role(session.usesysid, role.oid, 'MEMBER')), false) AS may_do_it,
       coalesce(bool_or(mode = 'ExclusiveLock') FILTER (WHERE granted), false) AS is_exclusive,
       count(*) FILTER (WHERE granted) AS locks
FROM (SELECT CAST(CASE objsubid WHEN 2 THEN classid ELSE objid END AS bigint) AS number, pid, mode, granted,
             CASE objsubid WHEN 2 THEN CAST(objid AS bigint) END AS key
      FROM pg_locks
      WHERE locktype = 'advisory'
        AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
        AND (objsubid = 2 AND classid IN ({worker}, {run})
             OR objsubid = 1 AND classid = 0 AND objid IN ({sweep}, {migration}))) AS lock
CROSS JOIN (SELECT to_regclass('procrastinate_workers'), to_regclass('alembic_version')) AS ours (workers, versions)
LEFT JOIN pg_stat_activity AS session USING (pid)
WHERE {wanted}
GROUP BY 1, 2, 3, 4, 5, 6
ORDER BY may_do_it, number, pid
LIMIT {most}
"""


class Lock(msgspec.Struct, frozen=True):
    """An advisory lock of the version before: its number, and for a RUN whose it is, such as `api_fallback acme`."""

    number: int
    run: str | None = None


class Holder(msgspec.Struct, frozen=True):
    """A session that has `locks` with one of our numbers, or waits for one; `may_do_it` if it may be a process of ours.

    One that waits is in our way like one that has it: Postgres grants no lock past it. What is None is hidden from our
    role. A prepared transaction has neither a session nor a `pid`.
    """

    number: int
    pid: int | None
    role: str | None
    application: str | None
    since: datetime | None
    may_do_it: bool
    is_exclusive: bool
    locks: int

    def __str__(self) -> str:
        if not self.pid:
            return "a prepared transaction (see pg_prepared_xacts)"
        known = [f"application {self.application}" if self.application else None, f"role {self.role}"]
        if self.since:
            known.append(f"connected since {self.since.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC")
        return f"process {self.pid} in Postgres ({', '.join(one for one in known if one)})"

    @property
    def has(self) -> str:
        """What it does with the lock, in words."""
        return "has" if self.locks else "waits for"

    @property
    def is_in_the_way(self) -> bool:
        """Whether it is a stranger, or has alone what processes of this version share."""
        return self.is_exclusive or not self.may_do_it


def holders(wanted: str = "true") -> str:
    """Return the statement that reads the Holders of our numbers where the condition `wanted` is true.

    It has no parameters, so either driver runs it. A condition may name `number`, `key` and `granted`.
    """
    return HOLDERS.format(
        sweep=SWEEP, worker=WORKER, run=RUN, migration=MIGRATION, wanted=wanted, most=MOST
    )  # fmt: skip


async def read_all(connection: AsyncConnection) -> list[Holder]:
    """Return who has locks with our numbers, strangers first. Shares of this version's own processes are left out."""
    found = [Holder(*row) for row in await connection.execute(sa.text(holders()))]
    return [one for one in found if one.is_in_the_way]


async def share(connection: AsyncConnection, lock: Lock) -> Sequence[Holder]:
    """Take a share of `lock` if it is free, until the session ends; else return who is in the way. Never waits."""
    taken, key = (await connection.execute(*_call("pg_try_advisory_lock_shared", lock))).one()
    if taken:
        return ()
    found = await connection.execute(sa.text(holders(f"number = {lock.number} AND coalesce(key, 0) = {key}")))
    return [one for one in (Holder(*row) for row in found) if one.is_in_the_way]


async def unshare(connection: AsyncConnection, lock: Lock) -> None:
    """Give up a share of `lock`; Postgres warns, and does no harm, if the session has none."""
    await connection.execute(*_call("pg_advisory_unlock_shared", lock))


def _call(function: str, lock: Lock) -> tuple[sa.TextClause, dict[str, str]]:
    """Return the statement that calls `function` for `lock`, and returns the second number as pg_locks has it, too."""
    if lock.run is None:
        return sa.text(f"SELECT {function}(CAST({lock.number} AS bigint)), 0"), {}
    unsigned = "CAST(hashtext(:run) AS bigint) & 4294967295"
    return sa.text(f"SELECT {function}({lock.number}, hashtext(:run)), {unsigned}"), {"run": lock.run}
