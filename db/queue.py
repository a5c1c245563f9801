"""Which of Procrastinate's tables and functions do we touch ourselves?

They are versioned but internal, so Procrastinate is pinned, and tests run these statements on its real schema.
"""

PROMOTE = "promote"  # the task's name, and its queue's

# Defers one promote job for those rows of a CTE `appended(id, status)` that are pending; a part of inbox.APPEND.
# A job in the statement that writes its rows: both commit, or neither.
DEFER_PROMOTE = f"""
SELECT procrastinate_defer_jobs_v1(ARRAY[
         ROW('{PROMOTE}', '{PROMOTE}', 0, NULL, NULL,
             jsonb_build_object('inbox_ids', jsonb_agg(id ORDER BY id)), NULL)::procrastinate_job_to_defer_v1
       ]) AS job_ids
FROM appended
WHERE status = 'pending'
HAVING count(*) > 0
"""  # noqa: S608  (composed of constants)
