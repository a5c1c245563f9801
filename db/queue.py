"""Which statements do we run on Procrastinate's tables and functions ourselves?

The tables are versioned but internal, so Procrastinate is pinned, and tests run these statements on its real schema.
"""

from typing import TYPE_CHECKING, Any

import msgspec
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

if TYPE_CHECKING:
    import psycopg

# Each task's name, which is its queue's name too.
PROMOTE, REPROCESS, SWEEP, PRUNE, RECONCILE = "promote", "reprocess", "sweep", "prune", "reconcile"
INDEX = "index"

# A worker takes the waiting job with the highest priority next. A webhook's `promote` has 0, or -1 where its tenant
# sends more than its fair share. A tenant that sends alone is over its share too; so a bulk import needs one below.
SWEEP_PRIORITY, OVER_SHARE_PRIORITY, BULK_PRIORITY, REPROCESS_PRIORITY, PRUNE_PRIORITY = 10, -1, -2, -10, -20
INDEX_PRIORITY = -5

JOBS_AT_ONCE = 16  # most waiting promote jobs that a running one takes over in one statement
JOB_BYTES = 8 * 1024 * 1024  # most payload that it takes over in one statement
JOB_ROWS = 500  # most inbox rows of one job


class TakeOverCursor(msgspec.Struct):
    """How far a running promote job has taken over waiting jobs of its `priority`: up to the job id `after`."""

    after: int
    priority: int = 0
    taken: int = 0  # inbox rows that the last take-over brought


# Defers one promote job for the pending rows of a CTE `appended(id, status, tenant_id)`, and a second one for those of
# the tenants :over_share. It is a part of inbox.APPEND: the same statement writes the rows, so it is all or nothing.
DEFER_PROMOTE = f"""
SELECT procrastinate_defer_jobs_v1(array_agg(job)) AS job_ids
FROM (
  SELECT ROW('{PROMOTE}', '{PROMOTE}',
             CASE WHEN :is_bulk THEN {BULK_PRIORITY} WHEN over_share THEN {OVER_SHARE_PRIORITY} ELSE 0 END, NULL, NULL,
             jsonb_build_object('inbox_ids', jsonb_agg(id ORDER BY id)), NULL)::procrastinate_job_to_defer_v1 AS job
  FROM (SELECT id, tenant_id = ANY(CAST(:over_share AS text[])) AS over_share FROM appended WHERE status = 'pending')
    AS pending
  GROUP BY over_share
) AS jobs
"""  # noqa: S608  (composed of constants)

# A promote job attends to its rows if it is due within two minutes or began less than two minutes ago. Other jobs do
# not count, such as one due in an hour, one in another queue, or one `doing` for minutes (a batch takes milliseconds).
# Operators may defer jobs with any arguments, hence the path query and numeric.
DEFER_UNATTENDED = sa.text(
    f"""
    WITH waiting AS (
      SELECT id FROM inbox WHERE status = 'pending' ORDER BY id LIMIT :limit
    ), attended AS (
      SELECT CAST(number AS numeric) AS id
      FROM procrastinate_jobs AS job,
           jsonb_path_query(job.args, '$.inbox_ids[*] ? (@.type() == "number")') AS number
      WHERE job.task_name = '{PROMOTE}' AND job.queue_name = '{PROMOTE}' AND job.lock IS NULL
        AND (job.status = 'todo' AND coalesce(job.scheduled_at, now()) < now() + interval '2 minutes'
             OR job.status = 'doing' AND EXISTS (
               SELECT FROM procrastinate_events AS event
               WHERE event.job_id = job.id AND event.type = 'started' AND event.at > now() - interval '2 minutes'))
    ), unattended AS (
      SELECT id, (row_number() OVER (ORDER BY id) - 1) / {JOB_ROWS} AS batch
      FROM waiting
      WHERE NOT EXISTS (SELECT FROM attended WHERE attended.id = CAST(waiting.id AS numeric))
    ), jobs AS (
      SELECT count(*) AS rows,
             ROW('{PROMOTE}', '{PROMOTE}', 0, NULL, NULL,
                 jsonb_build_object('inbox_ids', jsonb_agg(id ORDER BY id)), NULL)::procrastinate_job_to_defer_v1 AS job
      FROM unattended
      GROUP BY batch
    )
    SELECT coalesce(sum(rows), 0) AS rows, procrastinate_defer_jobs_v1(array_agg(job)) AS job_ids FROM jobs
    """  # noqa: S608  (composed of constants)
)

# A running promote job takes over the rows of jobs that wait, because fetching and finishing a job costs as much as
# promoting thirty rows. It does so in the transaction that promotes them: if that fails, the jobs wait as before. A job
# that an operator deferred is left alone unless its arguments look like ours. The search begins after an id, to step
# over deleted jobs: while any transaction is open, each of them leaves a dead row to scan. Nothing is taken over while
# a job of a higher priority waits: that one is next.
TAKE_OVER = sa.text(
    f"""
    WITH waiting AS (
      SELECT id, args->'inbox_ids' AS inbox_ids
      FROM procrastinate_jobs
      WHERE status = 'todo' AND task_name = '{PROMOTE}' AND queue_name = '{PROMOTE}' AND attempts = 0
        AND lock IS NULL AND queueing_lock IS NULL AND scheduled_at IS NULL AND priority = :priority AND id > :after
        AND NOT EXISTS (SELECT FROM procrastinate_jobs AS urgent
                        WHERE urgent.status = 'todo' AND urgent.priority > :priority
                          AND urgent.queue_name = '{PROMOTE}' AND urgent.scheduled_at IS NULL)
        AND jsonb_typeof(args->'inbox_ids') = 'array'
        AND NOT args @? 'strict $.inbox_ids[*] ? (!(@.type() == "number" && @ == @.floor() && @ >= 1 && @ < 9e18))'
      ORDER BY id
      LIMIT {JOBS_AT_ONCE}
      FOR UPDATE SKIP LOCKED
    ), sized AS (
      SELECT id, inbox_ids, (SELECT coalesce(sum(octet_length(payload)), 0) FROM inbox
                             WHERE inbox.id IN (SELECT CAST(number AS bigint)
                                                FROM jsonb_array_elements(inbox_ids) AS number)) AS size
      FROM waiting
    ), fitting AS (
      SELECT id, inbox_ids, sum(jsonb_array_length(inbox_ids)) OVER (ORDER BY id) AS rows,
             sum(size) OVER (ORDER BY id) AS size
      FROM sized
    ), taken AS (
      DELETE FROM procrastinate_jobs AS job USING fitting
      WHERE job.id = fitting.id AND fitting.rows <= :rows AND fitting.size <= {JOB_BYTES}
      RETURNING job.id, fitting.inbox_ids
    )
    SELECT CAST(number AS bigint) AS inbox_id, id AS job_id FROM taken, jsonb_array_elements(inbox_ids) AS number
    """  # noqa: S608  (composed of constants)
)

# No job waits for ever: however much other tenants send, each sweep raises some jobs of tenants over their share.
RAISE_WAITING = sa.text(
    f"""
    UPDATE procrastinate_jobs SET priority = 0
    WHERE id IN (SELECT id FROM procrastinate_jobs
                 WHERE status = 'todo' AND task_name = '{PROMOTE}' AND priority = {OVER_SHARE_PRIORITY}
                 ORDER BY id
                 LIMIT {JOBS_AT_ONCE}
                 FOR UPDATE SKIP LOCKED)
    """  # noqa: S608  (composed of constants)
)

NOTE = sa.text(
    "UPDATE procrastinate_jobs SET args = args || jsonb_build_object(CAST(:name AS text), CAST(:value AS jsonb)) "
    "WHERE id = :job_id"
)


# Locks no row, but a session that is read-only (a standby, or out of disk) refuses to lock any.
PROBE = """
SELECT 'procrastinate_jobs'::regclass, 'inbox'::regclass, 'leases'::regclass
FROM procrastinate_workers LIMIT 0 FOR UPDATE
"""


async def probe(session: "psycopg.AsyncConnection[Any]") -> None:
    """Check that Postgres answers, has a schema, and may be written to. Raises psycopg.Error."""
    await session.execute(PROBE)


async def defer_unattended(connection: AsyncConnection, limit: int) -> tuple[int, list[int]]:
    """Defer jobs for those of the `limit` oldest pending rows that no job attends to.

    Returns the number of those rows, and the ids of the new jobs.
    """
    found = (await connection.execute(DEFER_UNATTENDED, {"limit": limit})).one()
    return int(found.rows), list(found.job_ids or [])


async def take_over(connection: AsyncConnection, cursor: TakeOverCursor, rows: int) -> list[int]:
    """Delete waiting promote jobs that together hold at most `rows` inbox rows, and return the ids of those rows.

    Moves `cursor` behind the deleted jobs.
    """
    bounds = {"after": cursor.after, "priority": cursor.priority, "rows": rows}
    taken = (await connection.execute(TAKE_OVER, bounds)).all()
    cursor.taken = len(taken)
    cursor.after = max((row.job_id for row in taken), default=cursor.after)
    return [row.inbox_id for row in taken]


async def raise_waiting(connection: AsyncConnection) -> None:
    """Raise the longest-waiting promote jobs of tenants over their share to the priority of the other tenants' jobs."""
    await connection.execute(RAISE_WAITING)


async def note(connection: AsyncConnection, job_id: int | None, name: str, value: str) -> None:
    """Write the JSON `value` into a job's arguments as `name`, for its next try and for operators who list jobs."""
    await connection.execute(NOTE, {"job_id": job_id, "name": name, "value": value})
