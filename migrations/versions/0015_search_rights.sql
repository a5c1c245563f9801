-- Nobody but the owner may run any of these; `roles make` lets each kind of role run one.
DO $do$
DECLARE
    function regprocedure;
BEGIN
    FOR function IN SELECT oid FROM pg_proc
                    WHERE pronamespace = '@schema@'::regnamespace AND proname ~ '^(search|similar)_' LOOP
        EXECUTE format('REVOKE ALL ON FUNCTION %s FROM PUBLIC', function);
    END LOOP;
END;
$do$;
