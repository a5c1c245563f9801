-- Those of ticket_history and tenant_readers are of 0008.
DO $do$
DECLARE
    found record;
BEGIN
    FOR found IN SELECT attrelid::regclass AS relation, attname FROM pg_attribute
                 WHERE attrelid = ANY (ARRAY[
                         'inbox', 'tenant_configs', 'sdp_configs', 'sdp_cursors', 'leases', 'signature_counts',
                         'tenant_removals', 'procrastinate_jobs', 'procrastinate_events']::regclass[])
                   AND attnum > 0 AND NOT attisdropped AND attstattarget = 0 LOOP
        EXECUTE format('ALTER TABLE %s ALTER COLUMN %I SET STATISTICS -1', found.relation, found.attname);
    END LOOP;
END;
$do$;
