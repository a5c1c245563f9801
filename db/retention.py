"""What is past its retention, and up to which id is there anything to look for? The statements of `prune`."""

from datetime import timedelta

import msgspec
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection


class Window(msgspec.Struct, frozen=True):
    """The rows that `prune` looks at in one commit end at `until_id`; `is_recent` if all are within the retention."""

    until_id: int
    is_recent: bool


# What `prune` looks at next: a number of rows, not of ids, so that a gap costs nothing. Ids follow the order of
# arrival, so no row after a recent window is old. Where clocks or commits broke that order, a row is kept until the
# window before it is old too, at most for the retention once more. A row from the future is not recent: after a clock
# that was wrong once, every walk would end there for years.
NEXT_ROWS = sa.text(
    """
    SELECT max(id) AS until_id, bool_and(received_at BETWEEN now() - CAST(:age AS interval) AND now()) AS is_recent
    FROM (SELECT id, received_at FROM inbox WHERE id > :after_id ORDER BY id LIMIT :rows) AS next
    """
)

DELETE_ROWS = sa.text(
    """
    DELETE FROM inbox
    WHERE id IN (
      SELECT id FROM inbox
      WHERE id > :after_id AND id <= :until_id AND status = 'promoted' AND received_at < now() - CAST(:age AS interval)
      FOR UPDATE SKIP LOCKED
    )
    """
)


# What `prune` looks at next, as NEXT_ROWS. Jobs do not finish in the order of their ids: an old one may still
# wait. But they were deferred in that order, and a job that was deferred within the age cannot have finished before.
# Its first event says when that was; a job without events is not recent.
NEXT_JOBS = sa.text(
    """
    SELECT max(id) AS until_id,
           bool_and(coalesce(deferred_at BETWEEN now() - CAST(:age AS interval) AND now(), false)) AS is_recent
    FROM (
      SELECT id, (SELECT min(at) FROM procrastinate_events AS event
                  WHERE event.job_id = job.id AND event.type IS DISTINCT FROM 'scheduled') AS deferred_at
      FROM procrastinate_jobs AS job
      WHERE id > :after_id
      ORDER BY id
      LIMIT :rows
    ) AS next
    """
)

# Procrastinate writes an event for every change of a job, so the last event says when the job finished. `scheduled` is
# no change: its time is when the job is due, so a job that was cancelled might be kept for years. A job that a session
# has locked, as an operator's may, is left to the next time.
DELETE_JOBS = sa.text(
    """
    DELETE FROM procrastinate_jobs
    WHERE id IN (
      SELECT id FROM procrastinate_jobs AS job
      WHERE id > :after_id AND id <= :until_id AND status IN ('succeeded', 'failed', 'cancelled', 'aborted')
        AND NOT EXISTS (SELECT FROM procrastinate_events AS event
                        WHERE event.job_id = job.id AND event.type IS DISTINCT FROM 'scheduled'
                          AND event.at > now() - CAST(:age AS interval))
      FOR UPDATE SKIP LOCKED
    )
    """
)


async def next_rows(connection: AsyncConnection, age: timedelta, after_id: int, rows: int) -> Window | None:
    """Return the window of the next `rows` rows after `after_id`, or None if there is none.

    The window is recent if all of its rows were received within `age`.
    """
    found = (await connection.execute(NEXT_ROWS, {"age": age, "after_id": after_id, "rows": rows})).one()
    return None if found.until_id is None else Window(found.until_id, found.is_recent)


async def delete_rows(connection: AsyncConnection, age: timedelta, after_id: int, until_id: int) -> int:
    """Delete the promoted rows after `after_id`, up to `until_id`, received over `age` ago; return how many."""
    within = {"age": age, "after_id": after_id, "until_id": until_id}
    return (await connection.execute(DELETE_ROWS, within)).rowcount


async def next_jobs(connection: AsyncConnection, age: timedelta, after_id: int, jobs: int) -> Window | None:
    """Return the window of the next `jobs` jobs after `after_id`, or None if there is none.

    The window is recent if all of its jobs were deferred within `age`, whatever became of them.
    """
    found = (await connection.execute(NEXT_JOBS, {"age": age, "after_id": after_id, "rows": jobs})).one()
    return None if found.until_id is None else Window(found.until_id, found.is_recent)


async def delete_jobs(connection: AsyncConnection, age: timedelta, after_id: int, until_id: int) -> int:
    """Delete the jobs after `after_id`, up to `until_id`, that finished over `age` ago; return how many."""
    within = {"age": age, "after_id": after_id, "until_id": until_id}
    return (await connection.execute(DELETE_JOBS, within)).rowcount
