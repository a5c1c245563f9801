"""How does a command defer `reprocess`, follow its job, and read what became of the rows?

No statement here reads a ticket's text or a secret, so a role that may see neither can run them.
"""

from collections.abc import Mapping, Sequence

import msgspec
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from db import heartbeats
from db.queue import REPROCESS, REPROCESS_PRIORITY

ENDED = ("succeeded", "failed", "cancelled", "aborted")


class JobSeen(msgspec.Struct, frozen=True, kw_only=True):
    """How far a `reprocess` job has come; its `status` is None if there is no such job any more.

    `outcomes` counts the `rows` that it has found by what became of them: their action, or `failed`, or `rejected`.
    `outcome` says in words what a job did that promoted nothing, such as one whose arguments were wrong.
    """

    status: str | None
    rows: int
    outcomes: Mapping[str, int]
    outcome: str | None
    workers_alive: int


class Reason(msgspec.Struct, frozen=True):
    """How many rows ended with a status for the same reason."""

    status: str
    error: str | None
    rows: int


class NotPromoted(msgspec.Struct, frozen=True):
    """A row that a job could not promote, by what `trace` finds it."""

    tenant_id: str
    ticket_id: str | None
    correlation_id: str


DEFER = sa.text(
    f"""
    SELECT (procrastinate_defer_jobs_v1(ARRAY[
      ROW('{REPROCESS}', '{REPROCESS}', {REPROCESS_PRIORITY}, NULL, NULL, CAST(:arguments AS jsonb), NULL)
      ::procrastinate_job_to_defer_v1]))[1]
    """
)

JOB = sa.text(
    f"""
    SELECT CAST(status AS text) AS status, CAST(coalesce(args->'progress'->>'rows', '0') AS bigint) AS rows,
           CAST(coalesce(args->'progress'->'outcomes', '{{}}') AS text) AS outcomes, args->>'outcome' AS outcome,
           {heartbeats.COUNT_ALIVE} AS workers_alive
    FROM (SELECT) AS one LEFT JOIN procrastinate_jobs ON id = :job_id
    """  # noqa: S608  (composed of constants)
)

CANCEL = sa.text(
    f"""
    SELECT procrastinate_cancel_job_v1(id, true, false) FROM procrastinate_jobs
    WHERE id = :job_id AND task_name = '{REPROCESS}' AND status IN ('todo', 'doing')
    """  # noqa: S608  (composed of constants)
)

# Rows that are not promoted have an index of their own.
REASONS = sa.text(
    """
    SELECT status, error, count(*) AS rows FROM inbox
    WHERE status IN ('failed', 'rejected') AND job_id = :job_id
    GROUP BY status, error
    ORDER BY rows DESC, status, error
    LIMIT :most
    """
)

NOT_PROMOTED = sa.text(
    """
    SELECT tenant_id, ticket_id, correlation_id FROM inbox
    WHERE status IN ('failed', 'rejected') AND job_id = :job_id
    ORDER BY status, id
    LIMIT :most
    """
)


async def defer(connection: AsyncConnection, arguments: Mapping[str, object]) -> int:
    """Defer a `reprocess` job with the priority that such jobs have, and return its id."""
    text = msgspec.json.encode(arguments).decode()
    return int((await connection.execute(DEFER, {"arguments": text})).scalar_one())


async def cancel(connection: AsyncConnection, job_id: int) -> bool:
    """Have a `reprocess` job stop after its present chunk; return False if none of that id waits or runs."""
    return (await connection.execute(CANCEL, {"job_id": job_id})).first() is not None


async def read_job(connection: AsyncConnection, job_id: int) -> JobSeen:
    """Return how far a job has come, and how many workers are alive."""
    row = (await connection.execute(JOB, {"job_id": job_id, "dead_after": heartbeats.DEAD_AFTER})).mappings().one()
    return JobSeen(**{**row, "outcomes": msgspec.json.decode(row["outcomes"], type=dict[str, int])})


async def read_reasons(connection: AsyncConnection, job_id: int, most: int) -> Sequence[Reason]:
    """Return why a job could not promote rows, the commonest reason first."""
    return [Reason(*row) for row in await connection.execute(REASONS, {"job_id": job_id, "most": most})]


async def read_not_promoted(connection: AsyncConnection, job_id: int, most: int) -> Sequence[NotPromoted]:
    """Return the first `most` rows that a job could not promote: those that failed, then those that it rejected."""
    return [NotPromoted(*row) for row in await connection.execute(NOT_PROMOTED, {"job_id": job_id, "most": most})]
