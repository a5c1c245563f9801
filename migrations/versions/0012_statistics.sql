-- What was collected goes, of each column of our tables and each expression of their indexes of which no more is
-- collected: by a function from Postgres 18 on; a superuser may delete it; else a column whose type is set again loses it,
-- for which its table is locked. A policy that names the column is in the way of that, and is made anew. So is a view:
-- then the statistics stay, `migrate` and `roles make` say so, and the latter runs this again once it is gone.
DO $do$
DECLARE
    inbox CONSTANT pg_class := (SELECT pg_class FROM pg_class WHERE oid = 'inbox'::regclass);
    old CONSTANT text := format($query$
        SELECT nspname AS namespace, relation.relname AS name, attribute.attname AS column, attnum, attrelid,
               coalesce(indrelid, attrelid)::regclass AS on
        FROM pg_attribute AS attribute JOIN pg_class AS relation ON relation.oid = attrelid
        JOIN pg_namespace ON pg_namespace.oid = relnamespace LEFT JOIN pg_index ON indexrelid = attrelid
        WHERE relnamespace = %s AND relowner = %s AND coalesce(attstattarget, -1) = 0
          AND EXISTS (SELECT FROM pg_stats AS collected WHERE schemaname = nspname AND tablename = relation.relname
                        AND collected.attname = attribute.attname)
        $query$, inbox.relnamespace, inbox.relowner);
    tables regclass[];
    policies text[];
    found record;
    statement text;
BEGIN
    IF to_regprocedure('pg_clear_attribute_stats(text, text, text, boolean)') IS NOT NULL THEN
        FOR found IN EXECUTE old LOOP
            PERFORM pg_clear_attribute_stats(found.namespace, found.name, found.column, false);
        END LOOP;
        RETURN;
    ELSIF current_setting('is_superuser') = 'on' THEN
        EXECUTE format('DELETE FROM pg_statistic USING (%s) AS old WHERE starelid = attrelid AND staattnum = attnum', old);
        RETURN;
    END IF;

    -- In the order in which a webhook's statement locks them.
    EXECUTE format($query$
        SELECT array_agg(one ORDER BY array_position(ARRAY['inbox', 'signature_counts', 'tenant_configs'], one::text), one)
        FROM (SELECT DISTINCT old.on AS one FROM (%s) AS old) AS each $query$, old) INTO tables;
    FOR found IN SELECT one FROM unnest(tables) AS one LOOP
        EXECUTE format('LOCK TABLE %s IN ACCESS EXCLUSIVE MODE', found.one);
    END LOOP;
    FOR found IN SELECT polname, polrelid::regclass AS on,
                        format('CREATE POLICY %I ON %s AS %s FOR %s TO %s%s%s', polname, polrelid::regclass, permissive, cmd,
                               (SELECT string_agg(quote_ident(role), ', ') FROM unnest(roles) AS role),
                               ' USING (' || qual || ')', ' WITH CHECK (' || with_check || ')') AS makes,
                        format('COMMENT ON POLICY %I ON %s IS %L', polname, polrelid::regclass,
                               obj_description(pg_policy.oid, 'pg_policy')) AS comments
                 FROM pg_policy JOIN pg_class ON pg_class.oid = polrelid
                 JOIN pg_policies ON policyname = polname AND tablename = relname
                   AND schemaname = relnamespace::regnamespace::text
                 WHERE polrelid = ANY (tables) LOOP
        policies := policies || ARRAY[found.makes, found.comments];
        EXECUTE format('DROP POLICY %I ON %s', found.polname, found.on);
    END LOOP;
    FOR found IN EXECUTE format($query$
        SELECT DISTINCT old.on, pg_attribute.attname, format_type(atttypid, atttypmod) AS type
        FROM (%s) AS old JOIN pg_attribute ON pg_attribute.attrelid = old.on
        WHERE CASE WHEN old.attrelid = old.on THEN pg_attribute.attnum = old.attnum
              ELSE pg_attribute.attnum IN (SELECT refobjsubid FROM pg_depend
                                           WHERE classid = 'pg_class'::regclass AND objid = old.attrelid
                                             AND refobjid = old.on) END $query$, old) LOOP
        BEGIN
            EXECUTE format('ALTER TABLE %s ALTER COLUMN %I TYPE %s', found.on, found.attname, found.type);
        EXCEPTION WHEN feature_not_supported THEN
            RAISE WARNING 'statistics of %.% stay: %', found.on, found.attname, SQLERRM;
        END;
    END LOOP;
    FOREACH statement IN ARRAY coalesce(policies, '{}') LOOP
        EXECUTE statement;
    END LOOP;
    FOR found IN SELECT indexrelid::regclass AS index, attnum
                 FROM pg_index JOIN pg_attribute ON attrelid = indexrelid
                 WHERE indrelid = ANY (tables) AND indkey[attnum - 1] = 0 AND coalesce(attstattarget, -1) <> 0 LOOP
        EXECUTE format('ALTER INDEX %s ALTER COLUMN %s SET STATISTICS 0', found.index, found.attnum);
    END LOOP;
END;
$do$;
