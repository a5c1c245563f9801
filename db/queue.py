"""Which of Procrastinate's tables and functions do we touch ourselves?

They are versioned but internal, so Procrastinate is pinned, and tests run these statements on its real schema.
"""

from datetime import timedelta

import msgspec
import psycopg
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

# Each task's name, and its queue's.
PROMOTE, REPROCESS, SWEEP, PRUNE, RECONCILE = "promote", "reprocess", "sweep", "prune", "reconcile"

# Which of the waiting jobs a worker takes next: the highest. A webhook's own `promote` has 0, and -1 where its tenant
# sends much more than the others; who is alone is so too, hence the bulk import's own.
SWEEP_PRIORITY, OVER_SHARE_PRIORITY, BULK_PRIORITY, REPROCESS_PRIORITY, PRUNE_PRIORITY = 10, -1, -2, -10, -20

JOBS_AT_ONCE = 16  # waiting promote jobs that another one takes over
JOB_BYTES = 8 * 1024 * 1024  # most payload that one takes over
JOB_ROWS = 500  # most inbox rows of one job


class TakeOverCursor(msgspec.Struct):
    """How far a running promote job has taken over those of its `priority` that wait: up to the job with id `after`."""

    after: int
    priority: int = 0
    taken: int = 0  # inbox rows, the last time


# Defers one promote job for those rows of a CTE `appended(id, status, tenant_id)` that are pending, and a second one
# where some are of tenants :over_share; a part of inbox.APPEND. In the statement that writes the rows: all or nothing.
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

# A row is attended to by a promote job that waits for its turn or was begun a moment ago. No other counts, whatever
# its status says: one in an hour, one in a queue of its own, one `doing` for minutes (a batch takes milliseconds).
# Jobs may hold anything that somebody deferred by hand, hence the path query and numeric.
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

# A job that promotes takes over the rows of others that wait: fetching and finishing a job costs as much as promoting
# thirty rows. In the transaction that promotes them, so that they are back where they were if that fails. Jobs that
# somebody deferred by hand may hold anything, and are left alone unless they hold what ours do. Beginning after an id
# steps over the jobs that are gone: while a transaction is open anywhere, each of them leaves a dead row to look at.
# And none is taken where one of a higher priority waits: it is its turn.
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

# Nobody waits for ever: however much of the others' comes, so many jobs of those over their share go with it.
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

# A job that makes room for others, or is to be tried again, and was cancelled meanwhile: Procrastinate would call it
# failed. Locked first, so that who cancels it comes before this or after it.
RETRY_UNLESS_CANCELLED = """
SELECT CASE WHEN (SELECT abort_requested FROM procrastinate_jobs WHERE id = %(job_id)s AND status = 'doing' FOR UPDATE)
            THEN procrastinate_finish_job_v1(%(job_id)s, 'aborted', false)
            ELSE procrastinate_retry_job_v2(%(job_id)s, %(retry_at)s, %(priority)s, %(queue)s, %(lock)s) END
"""

# One sweep at a time; the key is no more than a number that nobody else uses.
TRY_SWEEP_LOCK = sa.text("SELECT pg_try_advisory_xact_lock(7105301)")

NOTE = sa.text(
    "UPDATE procrastinate_jobs SET args = args || jsonb_build_object(CAST(:name AS text), CAST(:value AS jsonb)) "
    "WHERE id = :job_id"
)

JOB_BOUNDS = sa.text("SELECT coalesce(min(id), 0), coalesce(max(id), 0) FROM procrastinate_jobs")

# A job has an event for every change, so its last one says when it finished.
DELETE_FINISHED = sa.text(
    """
    DELETE FROM procrastinate_jobs AS job
    WHERE id > :after_id AND id <= :until_id AND status IN ('succeeded', 'failed', 'cancelled', 'aborted')
      AND NOT EXISTS (SELECT FROM procrastinate_events AS event WHERE event.job_id = job.id AND event.at > now() - :age)
    """
).bindparams(sa.bindparam("age", type_=sa.Interval))


async def probe(conninfo: str) -> None:
    """See whether Postgres answers and has a schema. Raises psycopg.Error."""
    async with await psycopg.AsyncConnection.connect(conninfo, connect_timeout=5) as connection:
        await connection.execute("SELECT 'procrastinate_jobs'::regclass, 'inbox'::regclass")


async def defer_unattended(connection: AsyncConnection, limit: int) -> tuple[int, list[int]]:
    """Defer jobs for those of the `limit` oldest pending rows that no job attends to.

    Gives how many rows that were, and the ids of their jobs.
    """
    found = (await connection.execute(DEFER_UNATTENDED, {"limit": limit})).one()
    return int(found.rows), list(found.job_ids or [])


async def take_over(connection: AsyncConnection, cursor: TakeOverCursor, rows: int) -> list[int]:
    """Delete promote jobs that wait, as many as hold at most `rows` inbox rows, and return the ids of those rows."""
    bounds = {"after": cursor.after, "priority": cursor.priority, "rows": rows}
    taken = (await connection.execute(TAKE_OVER, bounds)).all()
    cursor.taken = len(taken)
    cursor.after = max((row.job_id for row in taken), default=cursor.after)
    return [row.inbox_id for row in taken]


async def raise_waiting(connection: AsyncConnection) -> None:
    """Let the promote jobs of tenants over their share that have waited longest go with the others'."""
    await connection.execute(RAISE_WAITING)


async def try_sweep_lock(connection: AsyncConnection) -> bool:
    """Take the lock that only one sweep holds, until the transaction ends; tell whether it was free."""
    return bool(await connection.scalar(TRY_SWEEP_LOCK))


async def note(connection: AsyncConnection, job_id: int | None, name: str, value: str) -> None:
    """Write the JSON `value` into a job's arguments as `name`, for the next try and for who lists the jobs."""
    await connection.execute(NOTE, {"job_id": job_id, "name": name, "value": value})


async def job_bounds(connection: AsyncConnection) -> tuple[int, int]:
    """Give the lowest and the highest id of a job; 0 and 0 where there is none."""
    lowest, highest = (await connection.execute(JOB_BOUNDS)).one()
    return lowest, highest


async def delete_finished(connection: AsyncConnection, age: timedelta, after_id: int, until_id: int) -> int:
    """Delete the jobs after `after_id`, up to `until_id`, that finished longer than `age` ago; give how many."""
    within = {"age": age, "after_id": after_id, "until_id": until_id}
    return (await connection.execute(DELETE_FINISHED, within)).rowcount
