"""What is in the inbox, and which workers are alive? Reads for `status`, `trace`, `doctor` and the gauges."""

from collections.abc import Sequence
from datetime import datetime

import msgspec

from db import heartbeats, search_state
from db.blocking import BlockingSession, read_blocking
from db.search_state import SearchState
from db.statement import Session, Statement


class Trouble(msgspec.Struct, frozen=True):
    """How many of a tenant's rows are `failed` or `rejected`, and the commonest reason among them."""

    tenant_id: str
    status: str
    rows: int
    commonest_reason: str | None


class Status(msgspec.Struct, frozen=True, kw_only=True):
    """Counts of the inbox, its jobs (by task and status) and its workers, and the sessions that hold up others.

    Without a pending row the age is None; so is `search` where this role may not read it.
    """

    pending: int
    promoted: int
    failed: int
    rejected: int
    oldest_pending_seconds: float | None
    workers_alive: int
    jobs: dict[str, dict[str, int]]
    trouble: list[Trouble]
    blocking: list[BlockingSession]
    search: SearchState | None


class Delivery(msgspec.Struct, frozen=True, kw_only=True):
    """The life of one delivery; `stands` is True if ticket_history holds its values.

    `display_id` is its ticket's: as the delivery has it, or ticket_history.
    `span_id` is the request's span, or its sender's where the server exports none. `is_sampled` is False if no span of
    it was ever exported. `stands_until` is its resolved_date where it stands and that was more than a day ahead: until
    then no delivery with a right date is newer.
    """

    inbox_id: int
    tenant_id: str
    ticket_id: str | None
    display_id: str | None
    correlation_id: str
    trace_id: str | None
    span_id: str | None
    is_sampled: bool
    source: str
    received_at: datetime
    status: str
    action: str | None
    attempts: int
    job_id: int | None
    promoted_at: datetime | None
    error: str | None
    stands: bool
    stands_until: datetime | None


class Recent(msgspec.Struct, frozen=True, kw_only=True):
    """A tenant's webhooks among the inbox's last rows, and its rejected and failed rows among all.

    Each reason is the newest of that status; None if there is no such row.
    """

    webhooks: int
    newest_webhook_seconds: float | None
    rejected: int
    failed: int
    rejected_reason: str | None
    failed_reason: str | None


# inbox_open_idx holds every row that is not promoted; the number of promoted rows is the rest.
COUNTS = Statement(
    f"""
    WITH open AS (SELECT status, count(*) AS rows FROM inbox WHERE status <> 'promoted' GROUP BY status)
    SELECT (SELECT rows FROM open WHERE status = 'pending') AS pending,
           (SELECT rows FROM open WHERE status = 'failed') AS failed,
           (SELECT rows FROM open WHERE status = 'rejected') AS rejected,
           (SELECT count(*) FROM inbox) - coalesce((SELECT sum(rows) FROM open), 0) AS promoted,
           (SELECT extract(epoch FROM now() - min(received_at)) FROM inbox WHERE status = 'pending') AS oldest,
           {heartbeats.COUNT_ALIVE} AS workers
    """  # noqa: S608  (composed of constants)
)

MOST = 100_000

GAUGES = Statement(
    f"""
    SELECT (SELECT count(*) FROM (SELECT FROM inbox WHERE status = 'pending' LIMIT :most) AS counted) AS pending,
           (SELECT count(*) FROM (SELECT FROM inbox WHERE status = 'failed' LIMIT :most) AS counted) AS failed,
           (SELECT count(*) FROM (SELECT FROM inbox WHERE status = 'rejected' LIMIT :most) AS counted) AS rejected,
           coalesce((SELECT extract(epoch FROM now() - received_at) FROM inbox WHERE status = 'pending'
                     ORDER BY id LIMIT 1), 0) AS oldest_pending_seconds,
           {heartbeats.COUNT_ALIVE} AS workers_alive
    """  # noqa: S608  (composed of constants)
)

JOBS = Statement(
    "SELECT task_name, CAST(status AS text) AS status, count(*) AS jobs FROM procrastinate_jobs GROUP BY 1, 2"
)

TROUBLE = Statement(
    """
    SELECT tenant_id, status, count(*) AS rows, mode() WITHIN GROUP (ORDER BY error) AS commonest_reason
    FROM inbox
    WHERE status IN ('failed', 'rejected')
    GROUP BY tenant_id, status
    ORDER BY rows DESC, tenant_id, status
    """
)

DELIVERIES = Statement(
    """
    SELECT inbox.id AS inbox_id, inbox.tenant_id, inbox.ticket_id,
           coalesce(inbox.display_id, history.display_id) AS display_id, correlation_id,
           split_part(traceparent, '-', 2) AS trace_id, split_part(traceparent, '-', 3) AS span_id,
           coalesce(traceparent ~ '-[0-9a-f][13579bdf]$', false) AS is_sampled, inbox.source, received_at, status,
           action, attempts, job_id, promoted_at, error, coalesce(history.inbox_id = inbox.id, false) AS stands,
           CASE WHEN history.inbox_id = inbox.id AND resolved_date > received_at + interval '24 hours'
                THEN resolved_date END AS stands_until
    FROM inbox
    LEFT JOIN ticket_history AS history ON history.tenant_id = inbox.tenant_id AND history.ticket_id = inbox.ticket_id
    WHERE inbox.id = ANY(CAST(:ids AS bigint[]))
    ORDER BY inbox.tenant_id, inbox.ticket_id, inbox.id
    """
)


RECENT = Statement(
    """
    WITH recent AS (
      SELECT received_at FROM inbox
      WHERE id > (SELECT max(id) FROM inbox) - :most AND tenant_id = :tenant_id AND source = 'webhook_resolved'
    ), refused AS (
      SELECT id, status, error FROM inbox WHERE status IN ('failed', 'rejected') AND tenant_id = :tenant_id
    )
    SELECT (SELECT count(*) FROM recent) AS webhooks,
           (SELECT extract(epoch FROM now() - max(received_at)) FROM recent) AS newest_webhook_seconds,
           (SELECT count(*) FROM refused WHERE status = 'rejected') AS rejected,
           (SELECT count(*) FROM refused WHERE status = 'failed') AS failed,
           (SELECT error FROM refused WHERE status = 'rejected' ORDER BY id DESC LIMIT 1) AS rejected_reason,
           (SELECT error FROM refused WHERE status = 'failed' ORDER BY id DESC LIMIT 1) AS failed_reason
    """
)

# Row-level security shows these roles no row and refuses them nothing. A superuser, a role with BYPASSRLS and a member
# of the owner see every row; a worker, or a reader with a tenant, has a policy.
BLIND_ROLES = Statement(
    """
    SELECT CAST(role.rolname AS text) AS role
    FROM pg_roles AS role, pg_class AS history
    WHERE history.oid = CAST('ticket_history' AS regclass) AND history.relrowsecurity
      AND role.rolcanlogin AND NOT role.rolsuper AND NOT role.rolbypassrls
      AND has_database_privilege(role.oid, current_database(), 'CONNECT')
      AND has_any_column_privilege(role.oid, history.oid, 'SELECT')
      AND NOT pg_has_role(role.oid, history.relowner, 'USAGE')
      AND NOT EXISTS (SELECT FROM pg_policy, unnest(polroles) AS given
                      WHERE polrelid = history.oid AND polcmd IN ('r', '*')
                        AND (given = 0 OR pg_has_role(role.oid, NULLIF(given, 0), 'USAGE')))
    ORDER BY role
    """
)


async def read_recent(session: Session, tenant_id: str) -> Recent:
    """Return a tenant's webhooks among the last MOST inbox rows, and its rejected and failed rows among all."""
    row = await RECENT.row(session, tenant_id=tenant_id, most=MOST)
    seconds = row["newest_webhook_seconds"]
    return Recent(**{**row, "newest_webhook_seconds": None if seconds is None else float(seconds)})


async def read_blind_roles(session: Session) -> list[str]:
    """Return the roles that may log in here and read ticket_history, and see none of its rows, by name."""
    return [row["role"] for row in await BLIND_ROLES.rows(session)]


async def read_gauges(session: Session) -> dict[str, float]:
    """Return the counts `pending`, `failed`, `rejected` and `workers_alive`, and `oldest_pending_seconds`.

    Counts of rows stop at MOST, so that a larger backlog does not take longer to count.
    """
    row = await GAUGES.row(session, dead_after=heartbeats.DEAD_AFTER, most=MOST)
    return {name: float(value) for name, value in row.items()}


async def read_status(session: Session) -> Status:
    """Return the counts of everything; costs an index scan of the inbox."""
    counts = await COUNTS.row(session, dead_after=heartbeats.DEAD_AFTER)
    jobs: dict[str, dict[str, int]] = {}
    for task, status, count in await JOBS.rows(session):
        jobs.setdefault(task, {})[status] = count
    return Status(
        pending=counts["pending"] or 0,
        promoted=int(counts["promoted"]),
        failed=counts["failed"] or 0,
        rejected=counts["rejected"] or 0,
        oldest_pending_seconds=None if counts["oldest"] is None else float(counts["oldest"]),
        workers_alive=counts["workers"],
        jobs=jobs,
        trouble=[Trouble(*row) for row in await TROUBLE.rows(session)],
        blocking=await read_blocking(session),
        search=await search_state.read(session),
    )


async def read_deliveries(session: Session, ids: Sequence[int]) -> list[Delivery]:
    """Return the deliveries of these inbox ids, by tenant and ticket, in order of arrival."""
    return [Delivery(**row) for row in await DELIVERIES.rows(session, ids=ids)]
