LOCK TABLE ticket_history IN ACCESS EXCLUSIVE MODE;

-- `roles make` narrows by policies which jobs a role may defer. The version before has no such policies.
DO $do$
DECLARE
    found record;
BEGIN
    FOR found IN SELECT polname FROM pg_policy WHERE polrelid = 'procrastinate_jobs'::regclass LOOP
        EXECUTE format('DROP POLICY %I ON procrastinate_jobs', found.polname);
    END LOOP;
    ALTER TABLE procrastinate_jobs DISABLE ROW LEVEL SECURITY;
END;
$do$;

-- A reader whose tenant is gone has no policy any more, and sees nothing as before.
DO $do$
DECLARE
    found record;
BEGIN
    FOR found IN SELECT polname, pg_proc.oid::regprocedure AS function, tenant_id
                 FROM pg_policy
                 JOIN pg_depend ON classid = 'pg_policy'::regclass AND objid = pg_policy.oid
                   AND refclassid = 'pg_proc'::regclass
                 JOIN pg_proc ON pg_proc.oid = refobjid
                 LEFT JOIN tenant_readers ON proname = 'reader_tenant_' || id
                 WHERE polrelid = 'ticket_history'::regclass AND proname LIKE 'reader\_tenant\_%' LOOP
        IF found.tenant_id IS NULL THEN
            EXECUTE format('DROP POLICY %I ON ticket_history', found.polname);
        ELSE
            EXECUTE format('ALTER POLICY %I ON ticket_history USING (tenant_id = %L)', found.polname, found.tenant_id);
        END IF;
    END LOOP;
    FOR found IN SELECT oid::regprocedure AS function FROM pg_proc
                 WHERE pronamespace = current_schema()::regnamespace AND proname LIKE 'reader\_tenant\_%' LOOP
        EXECUTE format('DROP FUNCTION %s', found.function);
    END LOOP;
    FOR found IN SELECT attname FROM pg_attribute
                 WHERE attrelid = 'ticket_history'::regclass AND attnum > 0 AND NOT attisdropped LOOP
        EXECUTE format('ALTER TABLE ticket_history ALTER COLUMN %I SET STATISTICS -1', found.attname);
    END LOOP;
    FOR found IN SELECT indexrelid::regclass AS index, attnum
                 FROM pg_index JOIN pg_attribute ON attrelid = indexrelid
                 WHERE indrelid = 'ticket_history'::regclass AND indkey[attnum - 1] = 0 LOOP
        EXECUTE format('ALTER INDEX %s ALTER COLUMN %s SET STATISTICS -1', found.index, found.attnum);
    END LOOP;
END;
$do$;
DROP TABLE tenant_readers;
