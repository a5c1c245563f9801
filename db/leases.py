"""Who does what only one process may do at a time, and until when? Table `leases`, in place of advisory locks.

Any role that may connect can take an advisory lock, and nobody else can write here. One statement takes a lease, its
process renews it every second, and deletes it at the end. Times are Postgres' own: docs/decisions/0039-leases.md.
"""

import asyncio
import contextlib
import os
import secrets
import socket
from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime

import msgspec
import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import ARRAY, TIMESTAMP
from sqlalchemy.ext.asyncio import AsyncConnection

from db import advisory_locks, failures, heartbeats, metadata
from db.advisory_locks import Holder, Lock

RENEWED_EVERY = 1.0  # seconds
SILENT_AFTER = 5.0  # seconds without a renewal, after which a lease is free if its sessions have ended, too
LASTS = heartbeats.DEAD_AFTER  # seconds without a renewal, after which a lease is free
SESSIONS = 16  # most that are remembered of an owner, the last ones that renewed
RELEASED_WITHIN = 2.0  # seconds; then the process's other session does it
FORGOTTEN_AFTER = 3600.0  # seconds; then a row that no process took over is deleted
SWEEP, INDEX = "sweep", "index"

leases = sa.Table(
    "leases",
    metadata,
    sa.Column("name", sa.Text, primary_key=True),
    sa.Column("owner", sa.Text, nullable=False),  # of one taking: the same process takes it as another owner next time
    sa.Column("taken_at", TIMESTAMP(timezone=True), nullable=False, server_default=sa.func.now()),
    sa.Column("expires_at", TIMESTAMP(timezone=True), nullable=False),
    sa.Column("sessions", ARRAY(sa.Integer), nullable=False, server_default="{}"),  # process ids, in Postgres
)

# The parts of statements of either driver.
EXPIRY = f"now() + interval '{LASTS} seconds'"
RENEWED_SESSIONS = f"(pg_backend_pid() || array_remove(leases.sessions, pg_backend_pid()))[1:{SESSIONS}]"
# Another session may have got the process id since: of a role that could not renew the lease, or one that connected
# after the lease was last renewed (which Postgres shows to the session's own role alone).
HAS_SESSION = f"""
EXISTS (SELECT FROM pg_stat_activity
        WHERE pid = ANY(leases.sessions) AND datname = current_database()
          AND has_table_privilege(usesysid, CAST('leases' AS regclass), 'UPDATE')
          AND coalesce(backend_start <= leases.expires_at - interval '{LASTS} seconds', true))
"""
# A killed process has no session any more, so its lease is free sooner than that of a frozen one. Behind a pooler it
# lasts until it expires.
IS_FREE = f"""
(leases.expires_at < now()
 OR leases.expires_at < now() + interval '{LASTS - SILENT_AFTER} seconds' AND NOT {HAS_SESSION})
"""

# SKIP LOCKED: a statement that is under way holds the row, and its lease; nobody waits for it.
TAKE = sa.text(
    f"""
    WITH free AS (
      SELECT name FROM leases WHERE name = :name AND {IS_FREE} FOR UPDATE SKIP LOCKED
    ), taken_over AS (
      UPDATE leases
      SET owner = :owner, taken_at = now(), expires_at = {EXPIRY}, sessions = ARRAY[pg_backend_pid()]
      FROM free WHERE leases.name = free.name
      RETURNING leases.name
    ), made AS (
      INSERT INTO leases (name, owner, expires_at, sessions) VALUES (:name, :owner, {EXPIRY}, ARRAY[pg_backend_pid()])
      ON CONFLICT (name) DO NOTHING
      RETURNING name
    )
    SELECT EXISTS (SELECT FROM taken_over UNION ALL SELECT FROM made)
    """  # noqa: S608  (composed of constants)
)
RELEASE = sa.text("DELETE FROM leases WHERE name = :name AND owner = :owner")
FORGET_OLD = sa.text(
    f"""
    DELETE FROM leases WHERE name IN (SELECT name FROM leases
                                      WHERE expires_at < now() - interval '{FORGOTTEN_AFTER} seconds'
                                      FOR UPDATE SKIP LOCKED)
    """  # noqa: S608  (composed of constants)
)

# Alone, or as the part of a statement that only the owner may run: it locks the lease until that has committed.
FENCE = f"""
UPDATE leases SET expires_at = {EXPIRY} WHERE name = :lease AND owner = :owner RETURNING name
"""  # noqa: S608  (composed of constants)


READ_ALL = sa.text(f"SELECT name, owner, taken_at, expires_at, {IS_FREE} FROM leases ORDER BY name")  # noqa: S608


class Lease(msgspec.Struct, frozen=True):
    """A lease that this process took; `ignored` are the strangers' advisory locks that it did not wait for."""

    name: str
    owner: str
    ignored: Sequence[Holder] = ()


class Owners:
    """The owners of a process's leases, for what renews those that it `has`, and deletes those that have `ended`."""

    def __init__(self) -> None:
        self.has: set[str] = set()
        self.ended: set[str] = set()  # those whose lease could not be deleted, since their session was lost


class HeldLease(msgspec.Struct, frozen=True):
    """A row of the table."""

    name: str
    owner: str
    taken_at: datetime
    expires_at: datetime
    is_free: bool

    def __str__(self) -> str:
        taken, expires = (f"{moment.astimezone(UTC):%H:%M:%S}" for moment in (self.taken_at, self.expires_at))
        return f"{self.owner}, since {taken}; unless it is renewed, until {expires} UTC"


class HeldError(Exception):
    """Another process has the lease, or the lock of the version before; the message says which process."""


class LostError(Exception):
    """Another process took the lease over, because this one did not renew it in time."""

    def __init__(self) -> None:
        super().__init__(f"this process was held up for over {LASTS:.0f} s, and another one has taken over what it did")


def new_owner() -> str:
    """Return the owner of a new lease: this process, and what no other taking has."""
    return f"process {os.getpid()} on {socket.gethostname()} ({secrets.token_hex(4)})"


@contextlib.asynccontextmanager
async def held(connection: AsyncConnection, name: str, owners: Owners, old: Lock | None = None) -> AsyncIterator[Lease]:
    """Take the lease `name` for the block, as one of `owners`, whose leases the caller renews.

    With `old`, also the advisory lock that the version before takes for the same work. Raises HeldError.
    """
    lease = Lease(name, new_owner())
    if not await connection.scalar(TAKE, {"name": name, "owner": lease.owner}):
        raise HeldError(await _describe(connection, name))
    owners.has.add(lease.owner)
    try:
        ignored = await _share(connection, old) if old else ()
        yield msgspec.structs.replace(lease, ignored=ignored)
    finally:
        owners.has.discard(lease.owner)
        owners.ended.add(lease.owner)
        with contextlib.suppress(*failures.DatabaseError):
            await _release(connection, lease, old)
            owners.ended.discard(lease.owner)


async def confirm(connection: AsyncConnection, lease: Lease) -> None:
    """Renew a lease. Raises LostError if another process has it by now."""
    if await connection.scalar(sa.text(FENCE), {"lease": lease.name, "owner": lease.owner}) is None:
        raise LostError


async def read_all(connection: AsyncConnection) -> list[HeldLease]:
    """Return all leases, by name."""
    return [HeldLease(*row) for row in await connection.execute(READ_ALL)]


async def forget_old(connection: AsyncConnection) -> None:
    """Delete the rows of processes that died long ago."""
    await connection.execute(FORGET_OLD)


async def _describe(connection: AsyncConnection, name: str) -> str:
    found = {one.name: one for one in await read_all(connection)}
    return str(found.get(name, "another process"))


async def _share(connection: AsyncConnection, old: Lock) -> Sequence[Holder]:
    """Share the advisory lock with the other processes of this version; return the strangers that prevented it.

    Raises HeldError if a process of the version before has it.
    """
    holders = await advisory_locks.share(connection, old)
    if ours := [one for one in holders if one.may_do_it]:
        raise HeldError(f"{ours[0]}, which has the lock of the version before")
    return holders


async def _release(connection: AsyncConnection, lease: Lease, old: Lock | None) -> None:
    async with asyncio.timeout(RELEASED_WITHIN):
        await connection.execute(RELEASE, {"name": lease.name, "owner": lease.owner})
        if old:
            await advisory_locks.unshare(connection, old)
