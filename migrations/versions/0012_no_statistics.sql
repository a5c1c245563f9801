-- Of these columns alone ANALYZE goes on collecting: numbers that Postgres gives, and words of ours. db/exposure.py says
-- why of each. Setting a target waits for no webhook and for none that reads, and keeps ANALYZE out until the commit.
DO $do$
DECLARE
    tables CONSTANT regclass[] := ARRAY[
        'inbox', 'tenant_configs', 'sdp_configs', 'sdp_cursors', 'leases', 'signature_counts', 'tenant_readers',
        'tenant_removals', 'ticket_history', 'procrastinate_jobs', 'procrastinate_events',
        'procrastinate_periodic_defers', 'procrastinate_workers'];
    kept CONSTANT text[] := ARRAY[
        'inbox.id', 'inbox.source', 'inbox.status', 'inbox.action', 'inbox.attempts', 'inbox.job_id',
        'procrastinate_jobs.id', 'procrastinate_jobs.queue_name', 'procrastinate_jobs.task_name',
        'procrastinate_jobs.priority', 'procrastinate_jobs.status', 'procrastinate_jobs.scheduled_at',
        'procrastinate_jobs.attempts', 'procrastinate_jobs.abort_requested', 'procrastinate_jobs.worker_id',
        'procrastinate_events.id', 'procrastinate_events.job_id', 'procrastinate_events.type',
        'procrastinate_periodic_defers.id', 'procrastinate_periodic_defers.task_name',
        'procrastinate_periodic_defers.defer_timestamp', 'procrastinate_periodic_defers.job_id',
        'procrastinate_periodic_defers.periodic_id',
        'procrastinate_workers.id', 'procrastinate_workers.last_heartbeat'];
    found record;
BEGIN
    FOR found IN SELECT attrelid::regclass AS relation, attname, attnum, indexrelid IS NOT NULL AS is_index
                 FROM pg_attribute JOIN pg_class ON pg_class.oid = attrelid LEFT JOIN pg_index ON indexrelid = attrelid
                 WHERE (attrelid = ANY (tables) AND relname || '.' || attname <> ALL (kept)
                        OR indrelid = ANY (tables) AND indkey[attnum - 1] = 0)
                   AND attnum > 0 AND NOT attisdropped AND coalesce(attstattarget, -1) <> 0
                 ORDER BY array_position(tables, coalesce(indrelid, attrelid)::regclass), attnum LOOP
        IF found.is_index THEN
            EXECUTE format('ALTER INDEX %s ALTER COLUMN %s SET STATISTICS 0', found.relation, found.attnum);
        ELSE
            EXECUTE format('ALTER TABLE %s ALTER COLUMN %I SET STATISTICS 0', found.relation, found.attname);
        END IF;
    END LOOP;
END;
$do$;
