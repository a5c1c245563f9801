"""Which workers are alive, and which jobs did dead ones leave behind?

Procrastinate's own connector runs these statements on its tables, so their parameters are written for psycopg.
"""

from db import heartbeats, leases
from db.advisory_locks import WORKER
from db.queue import PRUNE, SWEEP

HEARTBEAT = leases.RENEWED_EVERY  # seconds between two heartbeats of a worker
# Seconds without one; more than HEARTBEAT + the longest wait for a connection (jobs.POOL_TIMEOUT).
SILENT_AFTER = leases.SILENT_AFTER
DEAD_AFTER = heartbeats.DEAD_AFTER

# Writes a heartbeat, renews the worker's lease and those that its jobs have, and notes the session that runs it.
# The pool's sessions take turns, so soon each of them is noted. For the version before, which looks for the worker's
# advisory lock, it tries to share that; it waits for no lock but that of the worker's own row.
BEAT = f"""
WITH lease AS (
  INSERT INTO leases (name, owner, expires_at, sessions)
  SELECT 'worker:' || id, %(owner)s, {leases.EXPIRY}, ARRAY[pg_backend_pid()]
  FROM procrastinate_workers WHERE id = %(worker_id)s
  ON CONFLICT (name) DO UPDATE
  SET owner = excluded.owner, expires_at = excluded.expires_at, sessions = {leases.RENEWED_SESSIONS}
), of_its_jobs AS (
  UPDATE leases SET expires_at = {leases.EXPIRY}
  WHERE name IN (SELECT name FROM leases WHERE owner = ANY(CAST(%(has)s AS text[])) FOR UPDATE SKIP LOCKED)
), of_ended_jobs AS (
  DELETE FROM leases
  WHERE name IN (SELECT name FROM leases WHERE owner = ANY(CAST(%(ended)s AS text[])) FOR UPDATE SKIP LOCKED)
)
SELECT procrastinate_update_heartbeat_v1(%(worker_id)s),
       EXISTS (SELECT FROM procrastinate_workers WHERE id = %(worker_id)s) AS is_known,
       pg_try_advisory_lock_shared({WORKER}, CAST(mod(%(worker_id)s, 2147483648) AS integer)) AS is_shared
"""  # noqa: S608  (composed of constants)

# Deletes silent workers that have no session any more. A silent worker that has one is frozen or busy; one without a
# session that is not silent has just lost its sessions. Only a worker of the version before has no lease: its sessions
# hold its advisory lock.
FORGET_DEAD = f"""
WITH dead AS (
  DELETE FROM procrastinate_workers
  WHERE id IN (
    SELECT id FROM procrastinate_workers AS worker
    WHERE last_heartbeat < now() - interval '{SILENT_AFTER} seconds'
      AND NOT EXISTS (SELECT FROM leases WHERE name = 'worker:' || worker.id AND {leases.HAS_SESSION})
      AND (EXISTS (SELECT FROM leases WHERE name = 'worker:' || worker.id)
           OR NOT EXISTS (SELECT FROM pg_locks
                          WHERE locktype = 'advisory' AND classid = {WORKER} AND objsubid = 2
                            AND CAST(objid AS bigint) = mod(worker.id, 2147483648)
                            AND database = (SELECT oid FROM pg_database WHERE datname = current_database())))
    FOR UPDATE SKIP LOCKED
  )
  RETURNING id
), their_leases AS (
  DELETE FROM leases WHERE name IN (SELECT 'worker:' || id FROM dead)
)
SELECT id FROM dead
"""  # noqa: S608  (composed of constants)

RELEASE = "DELETE FROM leases WHERE name = 'worker:' || CAST(%(worker_id)s AS bigint)"

# A `doing` job is lost if its worker was forgotten (its row is gone) or is dead, or if its worker could not write the
# end of this very try. If the promotion was committed after all, the next try finds nothing pending. A sweep or a prune
# is aborted instead, and so is a job if another one with its queueing lock waits or is requeued here. MATERIALIZED, so
# that a row is locked before it changes.
REQUEUE_LOST = f"""
WITH lost AS MATERIALIZED (
  SELECT id, task_name, queueing_lock FROM procrastinate_jobs
  WHERE status = 'doing' AND id IS DISTINCT FROM CAST(%(but)s AS bigint)
    AND (worker_id IS NULL
         OR worker_id IN (SELECT worker.id FROM procrastinate_workers AS worker
                          WHERE last_heartbeat < now() - interval '{DEAD_AFTER} seconds')
         OR (id, attempts) IN (SELECT * FROM unnest(CAST(%(unwritten)s AS bigint[]), CAST(%(attempts)s AS integer[]))))
  FOR UPDATE SKIP LOCKED
)
SELECT id, task_name,
       CASE WHEN task_name IN ('{SWEEP}', '{PRUNE}')
                 OR queueing_lock IN (SELECT queueing_lock FROM procrastinate_jobs WHERE status = 'todo')
                 OR queueing_lock IS NOT NULL AND row_number() OVER (PARTITION BY queueing_lock ORDER BY id) > 1
            THEN procrastinate_finish_job_v1(id, 'aborted', true)
            ELSE procrastinate_retry_job_v2(id, now(), NULL, NULL, NULL) END
FROM lost
"""  # noqa: S608  (composed of constants)

# The end of a job is written for the try that the worker ran, and for no other: a worker that was frozen, or whose
# sessions were dumb, finds that another worker has the job by now. Procrastinate's own functions know the job alone.
# The row is locked first, so that a cancellation, or a requeueing, comes either before or after this.
OWN = """
(SELECT id, abort_requested, queueing_lock FROM procrastinate_jobs
 WHERE id = %(job_id)s AND attempts = %(attempts)s AND status = 'doing' FOR UPDATE) AS own
"""
FINISH_OWN = f"""
SELECT id, procrastinate_finish_job_v1(id, CAST(%(status)s AS procrastinate_job_status), %(delete_job)s) FROM {OWN}
"""  # noqa: S608  (composed of constants)

# For a job that makes room for others, or is to be retried: if an operator cancelled it meanwhile, Procrastinate would
# mark it failed; this aborts it. Where another job waits under its queueing lock, that one is the retry: two may not
# wait, and Postgres would refuse.
RETRY_OWN = f"""
SELECT id, CASE WHEN abort_requested THEN procrastinate_finish_job_v1(id, 'aborted', false)
                WHEN queueing_lock IN (SELECT queueing_lock FROM procrastinate_jobs WHERE status = 'todo')
                THEN procrastinate_finish_job_v1(id, 'aborted', true)
                ELSE procrastinate_retry_job_v2(id, %(retry_at)s, %(priority)s, %(queue)s, %(lock)s) END
FROM {OWN}
"""  # noqa: S608  (composed of constants)
