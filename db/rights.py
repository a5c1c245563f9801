"""Which rights on our tables does each kind of role have?

The columns are those of the structs that our statements read and write; Postgres refuses all others.
"""

import msgspec
import psycopg
from psycopg import sql

from db.inbox import ClaimedRow, Delivery
from db.sdp import Config, Cursor
from db.ticket_history import Winner

APP, WORKER, READER, OPERATOR = KINDS = ("app", "worker", "reader", "operator")
ALL = "SELECT, INSERT, UPDATE, DELETE"
SIGNATURES = "absent, malformed, untimely, wrong, last_failed_at, last_verified_at, last_previous_at"


def _of(kind: type[msgspec.Struct]) -> str:
    return f"({', '.join(kind.__struct_fields__)})"


# What an operator reads of tables that hold text of tickets or secrets. Each column is named, so that a new one is not
# shown before somebody has thought of it.
OPERATORS_INBOX = (
    "id, source, tenant_id, ticket_id, display_id, correlation_id, traceparent, received_at, status, action, attempts, "
    "error, promoted_at, job_id"
)
OPERATORS_HISTORY = (
    "id, tenant_id, ticket_id, display_id, resolved_date, source, inbox_id, ingested_at, created_at, updated_at"
)
OPERATORS_INDEXES = "id, tenant_id, configuration, is_ready, tickets, created_at, ready_at"

DEFER = (
    "INSERT (queue_name, task_name, priority, lock, queueing_lock, args, scheduled_at)"  # db/policies.py: which jobs
)

# A test fails for a table that is missing here. Procrastinate's functions run with the caller's rights, so the caller
# needs rights on all that they touch; those that write events run as the owner (db/policies.py). Foreign keys need
# none: Postgres checks them as the tables' owner. An upsert needs SELECT on the columns that it compares.
TABLES = {
    "alembic_version": {APP: "SELECT", WORKER: "SELECT", OPERATOR: "SELECT"},
    "tenant_configs": {
        APP: "SELECT (tenant_id, secret, previous_secret, previous_secret_ends_at, enabled)",
        WORKER: "SELECT (tenant_id, enabled)",
        OPERATOR: "SELECT (tenant_id, enabled, previous_secret_ends_at, created_at, updated_at)",
    },
    "sdp_configs": {
        WORKER: f"SELECT {_of(Config)}",
        OPERATOR: "SELECT (tenant_id, edition, base_url, created_at, updated_at)",
    },
    "sdp_cursors": {
        WORKER: f"SELECT, INSERT (tenant_id, {_of(Cursor)[1:]}, UPDATE {_of(Cursor)}",
        OPERATOR: "SELECT",
    },
    "sdp_access": {WORKER: "SELECT, INSERT, UPDATE", OPERATOR: "SELECT (tenant_id, paused_until, pause_reason)"},
    "inbox": {
        APP: f"INSERT {_of(Delivery)}, SELECT (id, tenant_id, status, received_at)",
        WORKER: f"INSERT {_of(Delivery)}, SELECT {_of(ClaimedRow)}, SELECT (display_id), DELETE, "
        "UPDATE (status, ticket_id, display_id, action, error, attempts, job_id, promoted_at)",
        OPERATOR: f"SELECT ({OPERATORS_INBOX})",
    },
    "ticket_history": {
        WORKER: f"INSERT {_of(Winner)}, "
        "SELECT (id, tenant_id, ticket_id, display_id, resolution, resolved_date, source, inbox_id, xmax), "
        "UPDATE (resolution, resolved_date, source, inbox_id, display_id, ingested_at, updated_at)",
        READER: "SELECT",
        OPERATOR: f"SELECT ({OPERATORS_HISTORY})",
    },
    "leases": {WORKER: "SELECT, INSERT, DELETE, UPDATE (owner, taken_at, expires_at, sessions)", OPERATOR: "SELECT"},
    "signature_counts": {
        APP: f"SELECT, INSERT, UPDATE ({SIGNATURES})",
        WORKER: "SELECT (tenant_id, hour, last_verified_at), DELETE",
        OPERATOR: "SELECT",
    },
    "read_tokens": {
        APP: "SELECT (id, tenant_id, token_hash, last_used_at, revoked_at), UPDATE (last_used_at)",
        OPERATOR: "SELECT (id, tenant_id, name, made_at, last_used_at, revoked_at)",
    },
    "tenant_readers": {},
    # What is in the index of words, the owner's functions alone read and write.
    "search_indexes": {OPERATOR: f"SELECT ({OPERATORS_INDEXES})"},
    "search_words": {},
    "search_postings": {},
    "search_tickets": {},
    "search_due": {
        APP: "SELECT (id, noted_at)",
        WORKER: "SELECT (id, noted_at)",
        OPERATOR: "SELECT (id, tickets, noted_at)",
    },
    "tenant_removals": {WORKER: "SELECT (tenant_id)", OPERATOR: "SELECT"},
    "procrastinate_jobs": {
        APP: f"{DEFER}, SELECT (id)",
        WORKER: ALL,
        OPERATOR: f"{DEFER}, SELECT, UPDATE (status, abort_requested)",  # an update cancels
    },
    "procrastinate_events": {WORKER: "SELECT, INSERT", OPERATOR: "SELECT"},
    "procrastinate_periodic_defers": {WORKER: ALL},
    "procrastinate_workers": {APP: "SELECT (last_heartbeat)", WORKER: ALL, OPERATOR: "SELECT"},
}
# Sequences of the ids that are not identity columns; an identity column needs no right on its sequence.
SEQUENCES = {
    "procrastinate_jobs_id_seq": (APP, WORKER, OPERATOR),
    "procrastinate_events_id_seq": (WORKER,),
    "procrastinate_periodic_defers_id_seq": (WORKER,),
}
# Every role may call Procrastinate's functions, unless an administrator revoked that from PUBLIC; search's, none may.
FUNCTIONS = {
    APP: "^(procrastinate_defer_jobs_v1|similar_answer)$",
    WORKER: "^(procrastinate_.*|search_index_batch)$",
    READER: "^similar_tickets$",
    OPERATOR: "^procrastinate_(defer_jobs|cancel_job)_v1$",
}

FUNCTIONS_NAMED = """
SELECT CAST(CAST(oid AS regprocedure) AS text) FROM pg_proc
WHERE proname ~ %s
  AND pronamespace = (SELECT relnamespace FROM pg_class WHERE oid = CAST('procrastinate_jobs' AS regclass))
"""


def revoke(connection: psycopg.Connection, role: str) -> None:
    """Revoke every right of `role` on our tables and sequences."""
    tables = sql.SQL(", ").join(map(sql.Identifier, TABLES))
    sequences = sql.SQL(", ").join(map(sql.Identifier, SEQUENCES))
    for what in (tables, sql.SQL("SEQUENCE {}").format(sequences)):
        connection.execute(sql.SQL("REVOKE ALL ON {} FROM {}").format(what, sql.Identifier(role)))


def grant(connection: psycopg.Connection, kind: str, role: str, database: str, namespace: str) -> None:
    """Grant `role` the rights of its `kind`."""
    functions = connection.execute(FUNCTIONS_NAMED, [FUNCTIONS[kind]]).fetchall() if kind in FUNCTIONS else []
    rights = [
        sql.SQL("CONNECT ON DATABASE {}").format(sql.Identifier(database)),
        sql.SQL("USAGE ON SCHEMA {}").format(sql.Identifier(namespace)),
        *[sql.SQL(f"{kinds[kind]} ON {table}") for table, kinds in TABLES.items() if kind in kinds],
        *[sql.SQL(f"USAGE ON SEQUENCE {sequence}") for sequence, kinds in SEQUENCES.items() if kind in kinds],
        *[sql.SQL(f"EXECUTE ON FUNCTION {signature}") for (signature,) in functions],
    ]
    for right in rights:
        connection.execute(sql.SQL("GRANT {} TO {}").format(right, sql.Identifier(role)))
