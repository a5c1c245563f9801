"""Which rights on our tables does each kind of role have?

The columns are those of the structs that our statements read and write; Postgres refuses all others.
"""

import msgspec
import psycopg
from psycopg import sql

from db.inbox import ClaimedRow, Delivery
from db.sdp import Config, Cursor
from db.ticket_history import Winner

APP, WORKER, READER = KINDS = ("app", "worker", "reader")
ALL = "SELECT, INSERT, UPDATE, DELETE"
SIGNATURES = "absent, malformed, untimely, wrong, last_failed_at, last_verified_at, last_previous_at"


def _of(kind: type[msgspec.Struct]) -> str:
    return f"({', '.join(kind.__struct_fields__)})"


# A test fails for a table that is missing here. Procrastinate's functions run with the caller's rights, so the caller
# needs rights on all that they touch. Foreign keys need none: Postgres checks them as the tables' owner. An upsert
# needs SELECT on the columns that it compares.
TABLES = {
    "alembic_version": {APP: "SELECT", WORKER: "SELECT"},
    "tenant_configs": {
        APP: "SELECT (tenant_id, secret, previous_secret, previous_secret_ends_at, enabled)",
        WORKER: "SELECT (tenant_id, enabled)",
    },
    "sdp_configs": {WORKER: f"SELECT {_of(Config)}"},
    "sdp_cursors": {WORKER: f"SELECT, INSERT (tenant_id, {_of(Cursor)[1:]}, UPDATE {_of(Cursor)}"},
    "inbox": {
        APP: f"INSERT {_of(Delivery)}, SELECT (id, tenant_id, status, received_at)",
        WORKER: f"INSERT {_of(Delivery)}, SELECT {_of(ClaimedRow)}, DELETE, "
        "UPDATE (status, ticket_id, action, error, attempts, job_id, promoted_at)",
    },
    "ticket_history": {
        WORKER: f"INSERT {_of(Winner)}, "
        "SELECT (tenant_id, ticket_id, resolution, resolved_date, source, inbox_id, xmax), "
        "UPDATE (resolution, resolved_date, source, inbox_id, ingested_at, updated_at)",
        READER: "SELECT",
    },
    "signature_counts": {
        APP: f"SELECT, INSERT, UPDATE ({SIGNATURES})",
        WORKER: "SELECT (tenant_id, hour, last_verified_at), DELETE",
    },
    "leases": {WORKER: ALL},
    "tenant_readers": {},
    "procrastinate_jobs": {
        APP: "INSERT (queue_name, task_name, priority, lock, queueing_lock, args, scheduled_at), SELECT (id)",
        WORKER: ALL,
    },
    "procrastinate_events": {APP: "INSERT (job_id, type)", WORKER: "SELECT, INSERT"},
    "procrastinate_periodic_defers": {WORKER: ALL},
    "procrastinate_workers": {APP: "SELECT (last_heartbeat)", WORKER: ALL},
}
# Sequences of the ids that are not identity columns; an identity column needs no right on its sequence.
SEQUENCES = {
    "procrastinate_jobs_id_seq": (APP, WORKER),
    "procrastinate_events_id_seq": (APP, WORKER),
    "procrastinate_periodic_defers_id_seq": (WORKER,),
}
# Every role may call any function, unless an administrator revoked that from PUBLIC.
FUNCTIONS = {APP: "procrastinate_defer_jobs_v1", WORKER: r"procrastinate\_%"}

FUNCTIONS_LIKE = """
SELECT CAST(CAST(oid AS regprocedure) AS text) FROM pg_proc
WHERE proname LIKE %s
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
    functions = connection.execute(FUNCTIONS_LIKE, [FUNCTIONS[kind]]).fetchall() if kind in FUNCTIONS else []
    rights = [
        sql.SQL("CONNECT ON DATABASE {}").format(sql.Identifier(database)),
        sql.SQL("USAGE ON SCHEMA {}").format(sql.Identifier(namespace)),
        *[sql.SQL(f"{kinds[kind]} ON {table}") for table, kinds in TABLES.items() if kind in kinds],
        *[sql.SQL(f"USAGE ON SEQUENCE {sequence}") for sequence, kinds in SEQUENCES.items() if kind in kinds],
        *[sql.SQL(f"EXECUTE ON FUNCTION {signature}") for (signature,) in functions],
    ]
    for right in rights:
        connection.execute(sql.SQL("GRANT {} TO {}").format(right, sql.Identifier(role)))
