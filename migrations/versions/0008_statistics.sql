-- What was collected of ticket_history and its indexes goes: by a function from Postgres 18 on; a superuser
-- may delete it; else a column whose type is set again loses it, together with the indexes that compute something of
-- the column, which are made anew. A policy that names the column is in the way of that, and is made anew too. So is a
-- view: then the statistics stay, `migrate` and `roles make` say so, and the latter runs this again once it is gone.
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
