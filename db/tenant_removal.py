"""How is all that is stored of a tenant deleted, while servers and workers go on?

First no statement appends for the tenant any more, then what was under way by then ends. With the inbox rows goes all
that could be promoted: a job that has claimed one holds its lock until it commits. So the tickets go after them. Each
step can be repeated: a removal that was killed is finished by the next one (docs/decisions/0046).
"""

import asyncio
import math
import time
from collections import Counter
from collections.abc import AsyncIterator
from typing import Protocol

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from db import removal_statements as statements
from db import rights, schema, tenant_rows
from db.tenant_rows import Stored

IN_FORCE_WITHIN = 10.0  # seconds, in which every running server has read which tenants are disabled
LOOK_EVERY = 0.1  # seconds
SAY_EVERY = 10.0  # seconds
GIVE_UP_AFTER = 600.0  # seconds that a transaction may keep its place in the inbox; longer needs a person
WINDOW = 1_000  # rows that one statement deletes, or looks at in the inbox
BREATH = 1  # times a statement's duration is the pause after it, so that webhooks have the disk half of the time
# What the rows of a table are to an operator; those of any other are not worth a word.
NAMES = {"inbox": "deliveries", "ticket_history": "tickets", "procrastinate_jobs": "jobs", "tenant_readers": "readers"}


class RemovalError(Exception):
    """The tenant cannot be removed, or not now; the message says why and what to do."""


class Watcher(Protocol):
    """Hears how far a removal has come."""

    def print_line(self, words: str) -> None:
        """Show what the removal does or waits for."""

    def show(self, done: int) -> None:
        """Show that `done` tickets and deliveries are deleted by now."""


async def look(connection: AsyncConnection, tenant_id: str) -> Stored:
    """Return what is stored of a tenant. Raises RemovalError where this login or version cannot remove it."""
    owners, binds = (await connection.execute(statements.LOGIN, {"tables": list(rights.TABLES)})).one()
    if owners:
        raise RemovalError(f"the tables belong to {owners}: set DATABASE_URL to log in as that role")
    found = await schema.current(connection)
    if trouble := schema.trouble(found):
        raise RemovalError(trouble)
    if newer := schema.newer(found):  # it may have tables that only the newer version knows
        raise RemovalError(f"{newer}: let the newer version do this")
    if binds:
        raise RemovalError(
            "row-level security hides tickets from their owner too: `ALTER TABLE ticket_history NO FORCE ROW LEVEL "
            "SECURITY`, then run this again"
        )
    await _refuse_restricting(connection, tenant_id)
    return await tenant_rows.read(connection, tenant_id)


async def _refuse_restricting(connection: AsyncConnection, tenant_id: str) -> None:
    """Raise RemovalError for a policy that lets roles read this tenant alone: without it they would read others."""
    for policy in await tenant_rows.policies(connection, tenant_id):
        if policy.restricts:
            names = " and ".join(policy.roles)
            raise RemovalError(
                f"policy {policy.name} on ticket_history restricts {names} to this tenant, and without it other "
                "tenants' tickets could be read: drop the policies that it restricts, then this one, and run this again"
            )


async def remove(connection: AsyncConnection, tenant_id: str, watcher: Watcher) -> Counter[str]:
    """Delete all that is stored of a tenant, or what an earlier removal left; return how many rows of each kind.

    The id may then be added anew. Raises RemovalError or a database error; the next call goes on.
    """
    counts: Counter[str] = Counter()
    began_at = await connection.scalar(statements.BEGIN, {"tenant_id": tenant_id})
    of = {"tenant_id": tenant_id, "began_at": began_at}
    while await connection.scalar(statements.STANDS, of):
        await _disable(connection, of, watcher)
        await _wait_for_appends(connection, watcher)
        counts["readers"] += await _end_readers(connection, tenant_id, watcher)
        while await _delete_what_is_there(connection, of, counts, watcher):
            pass
        await connection.execute(statements.END, of)  # does nothing where the tenant was enabled meanwhile
    return counts


async def _disable(connection: AsyncConnection, of: dict[str, object], watcher: Watcher) -> None:
    """Disable the tenant, and wait until that is in force in every running server."""
    since = await connection.scalar(statements.DISABLE, of)
    seconds = IN_FORCE_WITHIN - max(float(since or 0), 0.0)
    if seconds > 0:
        watcher.print_line(
            f"It is disabled. Waiting {math.ceil(seconds)} s, until no server takes its webhooks any more."
        )
        await asyncio.sleep(seconds)


async def _wait_for_appends(connection: AsyncConnection, watcher: Watcher) -> None:
    """Wait until every transaction has ended that writes to the inbox now: it may not have seen the tenant disabled.

    Each later one has: a statement locks its tables first, and reads what is committed after that. Raises RemovalError.
    """
    before, began = await _writers(connection), time.monotonic()
    said = began
    while before:
        await asyncio.sleep(LOOK_EVERY)
        now = await _writers(connection)
        before = {one: name for one, name in before.items() if one in now}
        names = " and ".join(sorted(before.values()))
        if before and time.monotonic() - began > GIVE_UP_AFTER:
            raise RemovalError(f"{names} has written to the inbox, and has not committed for ten minutes: end it")
        if before and time.monotonic() - said > SAY_EVERY:
            watcher.print_line(f"Waiting for {names}, which has written to the inbox and not committed.")
            said = time.monotonic()


async def _writers(connection: AsyncConnection) -> dict[str, str]:
    """Return the transactions that have written to the inbox, each with its session in words."""
    found = await connection.execute(statements.WRITERS)
    return {row.transaction: f"process {row.pid} ({row.program or 'without a name'})" for row in found}


async def _end_readers(connection: AsyncConnection, tenant_id: str, watcher: Watcher) -> int:
    """Drop the policies by which roles read the tenant's tickets; return how many name it. Raises RemovalError.

    The others ask for a row of tenant_readers, which goes: what cannot be dropped now shows nothing.
    """
    policies = await tenant_rows.policies(connection, tenant_id)
    for policy in policies:
        watcher.print_line(f"Policy {policy.name} on ticket_history goes.")
        if not await tenant_rows.drop_policy(connection, policy.name):
            trouble = "a statement that takes long uses ticket_history, so"
            if policy.names_tenant:
                raise RemovalError(
                    f"{trouble} the policies of the tenant's readers cannot go: "
                    "`ticket-inbox status` names the session; end it, or try again later"
                )
            how = " and ".join(f"`ticket-inbox roles revoke {role}`" for role in policy.roles)
            watcher.print_line(f"{trouble} policy {policy.name} stays. It shows no ticket, and {how} drops it.")
    await tenant_rows.drop_functions(connection, tenant_id)
    return sum(policy.names_tenant for policy in policies)


async def _delete_what_is_there(
    connection: AsyncConnection, of: dict[str, object], counts: Counter[str], watcher: Watcher
) -> int:
    """Delete all rows of the tenant that there are, add them to `counts`, and return how many they were."""
    deleted = 0
    async for table, rows in _delete(connection, of):
        counts[NAMES.get(table, "rest")] += rows
        deleted += rows
        if table in ("inbox", "ticket_history"):
            watcher.show(counts["deliveries"] + counts["tickets"])
    return deleted


async def _delete(connection: AsyncConnection, of: dict[str, object]) -> AsyncIterator[tuple[str, int]]:
    """Delete batch after batch, each in a commit of its own, and yield the table and the number of rows of each."""
    yield "procrastinate_jobs", await _execute(connection, statements.DELETE_FINISHED_JOBS, of)
    async for rows in _delete_deliveries(connection, of):
        yield "inbox", rows
    yield "procrastinate_jobs", await _execute(connection, statements.DELETE_WAITING_JOBS, of)
    yield "search_indexes", await _execute(connection, statements.LET_GO_INDEXES, of)
    async for rows in _until_none(connection, statements.DELETE_TICKETS, of):
        yield "ticket_history", rows
    await _delete_words(connection)
    for table in await tenant_rows.other_tables(connection):
        async for rows in _until_none(connection, statements.delete_from(table), of):
            yield table, rows
    yield "leases", await _execute(connection, statements.DELETE_LEASES, of)


async def _delete_words(connection: AsyncConnection) -> None:
    """Delete the words of indexes that are nobody's, or wait until the job that does so has ended."""
    while await connection.scalar(statements.HAS_WORDS):
        started = time.monotonic()
        await connection.execute(statements.DELETE_WORDS, {"rows": WINDOW})
        await asyncio.sleep(max(LOOK_EVERY, BREATH * (time.monotonic() - started)))


async def _delete_deliveries(connection: AsyncConnection, of: dict[str, object]) -> AsyncIterator[int]:
    """Delete the tenant's inbox rows window by window: no index finds them. Yield the number of rows of each."""
    after_id = 0
    while until_id := await connection.scalar(statements.NEXT_WINDOW, {"after_id": after_id, "rows": WINDOW}):
        window = {"after_id": after_id, "until_id": until_id}
        yield await _execute(connection, statements.DELETE_DELIVERIES, {**of, **window})
        after_id = until_id


async def _until_none(
    connection: AsyncConnection, statement: sa.TextClause, of: dict[str, object]
) -> AsyncIterator[int]:
    """Execute a statement that deletes WINDOW rows at most until it finds none, and yield how many it deleted."""
    while rows := await _execute(connection, statement, {**of, "rows": WINDOW}):
        yield rows


async def _execute(connection: AsyncConnection, statement: sa.TextClause, values: dict[str, object]) -> int:
    """Execute a statement, pause after it, and return how many rows it deleted."""
    started = time.monotonic()
    rows = (await connection.execute(statement, values)).rowcount
    if rows:
        await asyncio.sleep(BREATH * (time.monotonic() - started))
    return rows
