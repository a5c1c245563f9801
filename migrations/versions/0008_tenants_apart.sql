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
-- any column, nor (in the file that comes next) of what an index computes. Those of tenant_readers could not be cleared
-- later: the functions name its columns.
DO $do$
DECLARE
    found record;
BEGIN
    FOR found IN SELECT attrelid::regclass AS relation, attname FROM pg_attribute
                 WHERE attrelid IN ('ticket_history'::regclass, 'tenant_readers'::regclass)
                   AND attnum > 0 AND NOT attisdropped LOOP
        EXECUTE format('ALTER TABLE %s ALTER COLUMN %I SET STATISTICS 0', found.relation, found.attname);
    END LOOP;
END;
$do$;
