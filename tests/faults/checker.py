"""Was any promise broken? Compares the requests and their answers with the rows that Postgres has in the end."""

import contextlib
import os
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec

from db.ticket_history import has_text
from tests.faults.traffic import Sent
from tests.faults.world import World
from tests.support.system import Database

ACCEPTS_WITHIN = 5.0  # seconds after the faults ended
AFTER = {"sessions are left read-only": 15.0}  # a pool tries a new session every 10 seconds
STORED_WITHIN = 60.0
MOST_MEMORY = 60.0  # MB by which a process's memory may have grown
KEPT = (202, 422)  # the answers that promise a row
ROWS = """
SELECT id, tenant_id, ticket_id, correlation_id, payload, signature, status, error, received_at FROM inbox ORDER BY id
"""
TICKETS = "SELECT tenant_id, ticket_id, resolution, resolved_date, inbox_id, description, source FROM ticket_history"
OPEN_JOBS = "SELECT count(*) FROM procrastinate_jobs WHERE task_name = 'promote' AND status IN ('todo', 'doing')"
LEFT_OPEN = """
SELECT application_name, state, query FROM pg_stat_activity
WHERE application_name LIKE 'ticket-inbox%%' AND state LIKE 'idle in transaction%%' AND state_change < now() - interval '5 s'
"""
HELD = """
SELECT application_name, locktype, mode, query FROM pg_locks JOIN pg_stat_activity USING (pid)
WHERE application_name LIKE 'ticket-inbox%%' AND locktype = 'relation' AND state_change < now() - interval '5 s'
"""


class Event(msgspec.Struct):
    """The members of a payload that decide which event stands."""

    ticket_id: str
    resolved_date: str
    resolution: str


def broken_promises(sent: Sequence[Sent], database: Database) -> Iterator[str]:
    """Yield each request that is not stored as it must be, and each row that must not be there."""
    rows = {row["correlation_id"]: row for row in database.query(ROWS)}
    if len(rows) != database.value("SELECT count(*) FROM inbox"):
        yield "a request has several rows"
    by_id = {one.correlation_id: one for one in sent}
    for one in sent:
        yield from _kept(one, rows.get(one.correlation_id))
    for correlation_id in rows.keys() - by_id.keys():
        yield f"{correlation_id} was never sent"
    yield from _tickets(list(rows.values()), database.query(TICKETS))


def _kept(one: Sent, row: dict[str, Any] | None) -> Iterator[str]:
    """A request answered 202 or 422 has its row; any other has a whole row or none; a forged one never has a row."""
    if row is None:
        if one.status in KEPT:
            yield f"{one.correlation_id} was answered {one.status} and is lost"
        return
    if one.kind == "forged" or one.status in (400, 401, 413, 415, 429):
        yield f"{one.correlation_id} ({one.kind}) was answered {one.status} and is kept"
    wanted = (one.tenant_id, one.body, one.signature)
    if (row["tenant_id"], bytes(row["payload"]), row["signature"]) != wanted:
        yield f"{one.correlation_id} is not what was sent"
    status = "rejected" if one.kind == "broken" else "promoted"
    if row["status"] != status:
        yield f"{one.correlation_id} is {row['status']} and not {status}: {row['error']}"


def _tickets(rows: Sequence[dict[str, Any]], tickets: Sequence[dict[str, Any]]) -> Iterator[str]:
    """Every ticket has the values of its newest event, and there are no other tickets."""
    events: dict[tuple[str, str], list[tuple[str, bool, int, Event]]] = {}
    for row in rows:
        if row["status"] == "promoted":
            event = msgspec.json.decode(bytes(row["payload"]), type=Event)
            known = events.setdefault((row["tenant_id"], event.ticket_id), [])
            known.append((event.resolved_date, has_text(event.resolution), row["id"], event))
    found = {(ticket["tenant_id"], ticket["ticket_id"]): ticket for ticket in tickets}
    for key in events.keys() ^ found.keys():
        yield f"{key} is in {'ticket_history' if key in found else 'the inbox'} alone"
    for key in events.keys() & found.keys():
        _, _, inbox_id, newest = max(events[key], key=lambda one: one[:3])
        if (found[key]["inbox_id"], found[key]["resolution"]) != (inbox_id, newest.resolution):
            yield f"{key} has the values of {found[key]['inbox_id']} and not of {inbox_id}"


class Ease:
    """The files and memory that a world holds at the start, to compare with the end."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._before = {part.log: _held(part.process_id) for part in world.parts}

    def left_over(self) -> Iterator[str]:
        """Yield what the faults left behind: dead processes, locks, transactions, files, memory."""
        for part in self._world.parts:
            if not part.lives():
                yield f"{part.log.name}: its process has ended"
                continue
            (files, memory), (files_before, memory_before) = _held(part.process_id), self._before[part.log]
            if files > files_before + 15:  # its connection pools may have grown
                yield f"{part.log.name}: {files} files are open, and {files_before} were"
            if memory > memory_before + MOST_MEMORY:
                yield f"{part.log.name}: {memory:.0f} MB are held, and {memory_before:.0f} were"
        for row in self._world.database.query(LEFT_OPEN) + self._world.database.query(HELD):
            yield f"a session has been left: {row}"


def _held(process_id: int) -> tuple[int, float]:
    """Count open files, and memory in MB."""
    pages = int(Path(f"/proc/{process_id}/statm").read_text().split()[1])
    return len(list(Path(f"/proc/{process_id}/fd").iterdir())), pages * os.sysconf("SC_PAGE_SIZE") / 1024**2


def wait_until_drained(world: World, within: float = STORED_WITHIN) -> Iterator[str]:
    """Wait until no row is pending and no job waits; yield an error if that takes too long."""
    deadline = time.monotonic() + within
    while pending := world.database.value("SELECT count(*) FROM inbox WHERE status = 'pending'"):
        if time.monotonic() > deadline:
            yield f"{pending} rows are pending after {within:.0f} s"
            return
        time.sleep(0.1)
    with contextlib.suppress(AssertionError):
        world.database.wait_for(OPEN_JOBS, 0, within=10)
        return
    yield f"{world.database.value(OPEN_JOBS)} jobs are left"
