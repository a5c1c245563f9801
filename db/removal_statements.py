"""Which statements delete what is stored of a tenant? Each is short, and may be run again.

Each deletes only while this very removal stands: of two at once the slower must not touch a tenant that was added anew
after the faster one's end.
"""

import functools

import sqlalchemy as sa

STANDING = "EXISTS (SELECT FROM tenant_removals WHERE tenant_id = :tenant_id AND began_at = :began_at)"

# Who owns the tables, if not the login or a role of its; and whether row-level security binds it: then it would delete
# no ticket, and Postgres would not say so.
LOGIN = sa.text(
    """
    SELECT (SELECT string_agg(DISTINCT CAST(pg_get_userbyid(relowner) AS text), ', ') FROM pg_class
            WHERE relname = ANY(CAST(:tables AS text[])) AND NOT pg_has_role(relowner, 'USAGE')
              AND relnamespace = CAST(current_schema() AS regnamespace)),
           coalesce(row_security_active(CAST(to_regclass('ticket_history') AS oid)), false)
    """
)

BEGIN = sa.text(
    """
    INSERT INTO tenant_removals AS removal (tenant_id) VALUES (:tenant_id)
    ON CONFLICT (tenant_id) DO UPDATE SET began_at = removal.began_at
    RETURNING began_at
    """
)

STANDS = sa.text(f"SELECT {STANDING}")

# Returns for how many seconds the tenant has been disabled; where it has no config any more, since the removal began.
# The time is taken after the config's lock, for which the statement may wait. Without the credentials no run goes on.
DISABLE = sa.text(
    f"""
    WITH disabled AS (
      UPDATE tenant_configs SET enabled = false, updated_at = now()
      WHERE tenant_id = :tenant_id AND enabled AND {STANDING}
      RETURNING tenant_id
    ), before AS (
      SELECT updated_at FROM tenant_configs WHERE tenant_id = :tenant_id AND NOT enabled
    ), forgotten AS (
      DELETE FROM sdp_configs WHERE tenant_id = :tenant_id AND {STANDING}
    )
    UPDATE tenant_removals
    SET disabled_at = CASE WHEN EXISTS (SELECT FROM disabled) THEN clock_timestamp()
                           ELSE least(disabled_at, (SELECT updated_at FROM before)) END
    WHERE tenant_id = :tenant_id AND began_at = :began_at
    RETURNING CAST(extract(epoch FROM clock_timestamp() - disabled_at) AS double precision) AS since
    """  # noqa: S608  (composed of constants)
)

# An INSERT takes its table's lock before it reads what is committed, and keeps it until its transaction has ended.
# Everybody may read pg_locks as a whole. A prepared transaction has no process.
WRITERS = sa.text(
    """
    SELECT DISTINCT virtualtransaction AS transaction, pid,
           (SELECT nullif(application_name, '') FROM pg_stat_activity AS one WHERE one.pid = held.pid) AS program
    FROM pg_locks AS held
    WHERE locktype = 'relation' AND relation = CAST('inbox' AS regclass) AND mode = 'RowExclusiveLock' AND granted
      AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
      AND pid IS DISTINCT FROM pg_backend_pid()
    """
)

NEXT_WINDOW = sa.text("SELECT max(id) FROM (SELECT id FROM inbox WHERE id > :after_id ORDER BY id LIMIT :rows) AS next")

# Waits for the jobs that have claimed any of these rows.
DELETE_DELIVERIES = sa.text(
    f"""
    DELETE FROM inbox
    WHERE id IN (SELECT id FROM inbox WHERE id > :after_id AND id <= :until_id AND tenant_id = :tenant_id AND {STANDING}
                 ORDER BY id FOR UPDATE)
    """  # noqa: S608  (composed of constants)
)

DELETE_TICKETS = sa.text(
    f"""
    DELETE FROM ticket_history
    WHERE id IN (SELECT id FROM ticket_history WHERE tenant_id = :tenant_id AND {STANDING}
                 ORDER BY ticket_id LIMIT :rows FOR UPDATE)
    """  # noqa: S608  (composed of constants)
)

# An index of words without a tenant is nobody's; it is deleted in batches, here or by the job `index`. While a removal
# stands, that job makes no new one.
LET_GO_INDEXES = sa.text(f"UPDATE search_indexes SET tenant_id = NULL WHERE tenant_id = :tenant_id AND {STANDING}")  # noqa: S608
DELETE_WORDS = sa.text("SELECT search_delete_replaced(:rows)")
HAS_WORDS = sa.text("SELECT EXISTS (SELECT FROM search_indexes WHERE tenant_id IS NULL)")

# The inbox rows that a job names. Operators may defer jobs with any arguments, hence the path query.
ROWS = """
    SELECT inbox.tenant_id FROM jsonb_path_query(job.args, 'lax $.inbox_ids[*] ? (@.type() == "number")') AS number
    JOIN inbox ON inbox.id = CASE WHEN CAST(number AS numeric) BETWEEN 1 AND 9e18 THEN CAST(number AS bigint) END
"""

# Jobs that name the tenant, and those that ended and whose rows are the tenant's alone. One that runs may end itself.
DELETE_FINISHED_JOBS = sa.text(
    f"""
    DELETE FROM procrastinate_jobs AS job
    WHERE status <> 'doing' AND {STANDING}
      AND (args->>'tenant_id' = :tenant_id
           OR (status <> 'todo' AND EXISTS (SELECT FROM ({ROWS}) AS one WHERE tenant_id = :tenant_id)
               AND NOT EXISTS (SELECT FROM ({ROWS}) AS one WHERE tenant_id <> :tenant_id)))
    """  # noqa: S608  (composed of constants)
)

# Jobs that wait and have nothing left to do, once the tenant's rows are gone; any other would make none as well. Before
# that, a sweep would put the rows back to work.
DELETE_WAITING_JOBS = sa.text(
    f"""
    DELETE FROM procrastinate_jobs AS job
    WHERE status = 'todo' AND {STANDING}
      AND (args->>'tenant_id' = :tenant_id
           OR (jsonb_typeof(args->'inbox_ids') = 'array' AND NOT EXISTS ({ROWS})))
    """  # noqa: S608  (composed of constants)
)

# Of a run, and of the import of a file: the file's fingerprint ends its name.
DELETE_LEASES = sa.text(
    f"""
    DELETE FROM leases
    WHERE {STANDING}
      AND (name IN ('reconcile:' || CAST(:tenant_id AS text), 'import:' || CAST(:tenant_id AS text))
           OR starts_with(name, 'import:' || CAST(:tenant_id AS text) || ':')
              AND substr(name, length('import:' || CAST(:tenant_id AS text) || ':') + 1) ~ '^[0-9a-f]+$')
    """  # noqa: S608  (composed of constants)
)

# Nothing is left but the config. It stays where the tenant was enabled meanwhile, and so does the removal.
END = sa.text(
    f"""
    WITH gone AS (
      DELETE FROM tenant_configs WHERE tenant_id = :tenant_id AND NOT enabled AND {STANDING} RETURNING tenant_id
    )
    DELETE FROM tenant_removals
    WHERE tenant_id = :tenant_id AND began_at = :began_at
      AND (EXISTS (SELECT FROM gone) OR NOT EXISTS (SELECT FROM tenant_configs WHERE tenant_id = :tenant_id))
    """  # noqa: S608  (composed of constants)
)


@functools.cache
def delete_from(table: str) -> sa.TextClause:
    """Return the statement that deletes up to :rows rows of the tenant from one of our tables; `table` is quoted."""
    return sa.text(
        f"""
        DELETE FROM {table}
        WHERE ctid = ANY (ARRAY(SELECT ctid FROM {table} WHERE tenant_id = :tenant_id AND {STANDING} LIMIT :rows))
        """  # noqa: S608  (the table's name is from the catalog)
    )
