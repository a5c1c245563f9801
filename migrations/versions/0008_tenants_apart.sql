-- Nothing of ticket_history may be in use meanwhile: its policies change, and ANALYZE must not collect between the
-- two halves of the last part.
LOCK TABLE ticket_history IN ACCESS EXCLUSIVE MODE;

-- Only the owner reads it. A reader's policy asks a function for the tenant of the row `id`, so that neither the policy
-- nor the function, which every role can see, names a tenant or a role.
CREATE TABLE tenant_readers (
    id bigint GENERATED ALWAYS AS IDENTITY CONSTRAINT tenant_readers_pkey PRIMARY KEY,
    role_name text NOT NULL,
    tenant_id text NOT NULL
);

-- The policies that `roles reader` of the versions before made. One of another shape stays as it is.
DO $do$
DECLARE
    found record;
    literal text;
    tenant text;
    reader bigint;
BEGIN
    FOR found IN SELECT polname, pg_get_expr(polqual, polrelid) AS condition, rolname
                 FROM pg_policy JOIN pg_roles ON pg_roles.oid = polroles[1]
                 WHERE polrelid = 'ticket_history'::regclass AND polpermissive AND polcmd = 'r'
                   AND cardinality(polroles) = 1
                 ORDER BY pg_policy.oid LOOP
        literal := substring(found.condition FROM $re$^\(tenant_id = ('(?:[^']|'')*')::text\)$$re$);
        CONTINUE WHEN literal IS NULL;
        EXECUTE 'SELECT ' || literal INTO tenant;
        INSERT INTO tenant_readers (role_name, tenant_id) VALUES (found.rolname, tenant) RETURNING id INTO reader;
        EXECUTE format(
            'CREATE FUNCTION reader_tenant_%s() RETURNS text LANGUAGE sql STABLE PARALLEL SAFE SECURITY DEFINER '
            'SET search_path = pg_catalog, pg_temp '
            'BEGIN ATOMIC SELECT tenant_id FROM tenant_readers WHERE id = %s; END', reader, reader);
        EXECUTE format('REVOKE ALL ON FUNCTION reader_tenant_%s() FROM PUBLIC', reader);
        EXECUTE format('GRANT EXECUTE ON FUNCTION reader_tenant_%s() TO %I', reader, found.rolname);
        -- The subscript keeps conditions of the reader's from being checked first (db/readers.py).
        EXECUTE format(
            'ALTER POLICY %1$I ON ticket_history USING ('
            '(SELECT jsonb_build_object(coalesce(reader_tenant_%2$s(), %3$L), true))[tenant_id] IS NOT NULL '
            'AND tenant_id = (SELECT reader_tenant_%2$s()))', found.polname, reader, '');
    END LOOP;
END;
$do$;

-- The planner's estimates follow statistics over all tenants, and a reader can ask for estimates. So none are kept, of
-- any column, nor of what an index computes. What was collected goes: by a function from Postgres 18 on; a superuser
-- may delete it; else a column whose type is set again loses it, together with the indexes that compute something of
-- the column, which are made anew. A policy that names the column is in the way of that, and is made anew too. So is a
-- view: then the statistics stay, and `roles make` warns of them.
DO $do$
DECLARE
    history CONSTANT regclass := 'ticket_history';
    namespace CONSTANT name := (SELECT nspname FROM pg_namespace JOIN pg_class ON relnamespace = pg_namespace.oid
                                WHERE pg_class.oid = history);
    relations CONSTANT name[] := ARRAY(SELECT relname FROM pg_class
                                       WHERE oid = history OR oid IN (SELECT indexrelid FROM pg_index
                                                                      WHERE indrelid = history));
    policies text[];
    found record;
    statement text;
BEGIN
    FOR found IN SELECT attname FROM pg_attribute
                 WHERE attrelid = history AND attnum > 0 AND NOT attisdropped LOOP
        EXECUTE format('ALTER TABLE ticket_history ALTER COLUMN %I SET STATISTICS 0', found.attname);
    END LOOP;

    IF to_regprocedure('pg_clear_attribute_stats(text, text, text, boolean)') IS NOT NULL THEN
        FOR found IN SELECT schemaname, tablename, attname FROM pg_stats
                     WHERE schemaname = namespace AND tablename = ANY (relations) LOOP
            PERFORM pg_clear_attribute_stats(found.schemaname, found.tablename, found.attname, false);
        END LOOP;
    ELSIF current_setting('is_superuser') = 'on' THEN
        DELETE FROM pg_statistic
        WHERE starelid = history OR starelid IN (SELECT indexrelid FROM pg_index WHERE indrelid = history);
    ELSIF EXISTS (SELECT FROM pg_stats
                  WHERE schemaname = namespace AND tablename = ANY (relations)) THEN
        SELECT array_agg(format(
            'CREATE POLICY %I ON ticket_history AS %s FOR %s TO %s%s%s', policyname, permissive, cmd,
            (SELECT string_agg(quote_ident(role), ', ') FROM unnest(roles) AS role),
            ' USING (' || qual || ')', ' WITH CHECK (' || with_check || ')'))
        INTO policies
        FROM pg_policies WHERE schemaname = namespace AND tablename = 'ticket_history';
        FOR found IN SELECT polname FROM pg_policy WHERE polrelid = history LOOP
            EXECUTE format('DROP POLICY %I ON ticket_history', found.polname);
        END LOOP;
        FOR found IN SELECT attname, format_type(atttypid, atttypmod) AS type FROM pg_attribute AS attribute
                     WHERE attrelid = history AND attnum > 0 AND NOT attisdropped
                       AND EXISTS (SELECT FROM pg_stats AS collected
                                   WHERE schemaname = namespace
                                     AND (tablename = 'ticket_history' AND collected.attname = attribute.attname
                                          OR tablename IN (SELECT relname FROM pg_depend
                                                           JOIN pg_class ON pg_class.oid = objid
                                                           WHERE classid = 'pg_class'::regclass AND relkind = 'i'
                                                             AND refobjid = history AND refobjsubid = attnum))) LOOP
            BEGIN
                EXECUTE format('ALTER TABLE ticket_history ALTER COLUMN %I TYPE %s', found.attname, found.type);
            EXCEPTION WHEN feature_not_supported THEN
                RAISE WARNING 'statistics of ticket_history.% stay: %', found.attname, SQLERRM;
            END;
        END LOOP;
        FOREACH statement IN ARRAY coalesce(policies, '{}') LOOP
            EXECUTE statement;
        END LOOP;
    END IF;

    FOR found IN SELECT indexrelid::regclass AS index, attnum
                 FROM pg_index JOIN pg_attribute ON attrelid = indexrelid
                 WHERE indrelid = history AND indkey[attnum - 1] = 0 LOOP
        EXECUTE format('ALTER INDEX %s ALTER COLUMN %s SET STATISTICS 0', found.index, found.attnum);
    END LOOP;
END;
$do$;
