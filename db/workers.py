"""Which worker is alive, and which jobs did a dead one leave behind?

Statements on Procrastinate's tables for psycopg, which Procrastinate's own connector runs.
"""

from db.queue import PRUNE, SWEEP

HEARTBEAT = 1.0  # seconds between two of a worker's
SILENT_AFTER = 5.0  # seconds without one; more than HEARTBEAT and the longest wait for a connection (jobs.POOL_TIMEOUT)
DEAD_AFTER = 20.0  # seconds without one after which a worker is dead even where Postgres still has sessions of its

# A heartbeat, after which its session holds a lock of the worker's. Each comes by another session of the pool's, so all
# of them soon do, and Postgres frees the lock with the last: at once when the process is killed, and not before.
WORKER_LOCK = 7105302  # no more than a number that nobody else uses
BEAT = f"""
SELECT procrastinate_update_heartbeat_v1(%(worker_id)s),
       pg_advisory_lock_shared({WORKER_LOCK}, CAST(mod(%(worker_id)s, 2147483648) AS integer))
"""

# One that is silent but has sessions is frozen or busy; one that has none but is not silent lost them a moment ago.
FORGET_DEAD = f"""
DELETE FROM procrastinate_workers
WHERE id IN (
  SELECT id FROM procrastinate_workers AS worker
  WHERE last_heartbeat < now() - interval '{SILENT_AFTER} seconds'
    AND NOT EXISTS (SELECT FROM pg_locks
                    WHERE locktype = 'advisory' AND classid = {WORKER_LOCK} AND objsubid = 2
                      AND CAST(objid AS bigint) = mod(worker.id, 2147483648)
                      AND database = (SELECT oid FROM pg_database WHERE datname = current_database()))
  FOR UPDATE SKIP LOCKED
)
RETURNING id
"""  # noqa: S608  (composed of constants)

# A job is lost whose worker was forgotten (its row is gone) or is dead, and one whose end its worker could not write:
# that very try of it. Its promotion may have been committed, and then finds nothing pending. Of what may wait only
# once, and does already, there is no other. MATERIALIZED, so that a row is locked before it is changed.
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
