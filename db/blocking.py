"""Which session holds up others? Read for `status`: a frozen process, or one whose network is dumb, keeps its locks."""

import msgspec

from db.statement import Session, Statement


class BlockingSession(msgspec.Struct, frozen=True, kw_only=True):
    """A session with a lock that `waiting` others wait for, while it waits for none itself.

    `seconds` is how long it has been in its `state`. Postgres shows state and program to superusers, members of
    pg_read_all_stats and the session's own role alone; else they are None.
    """

    pid: int
    application_name: str | None
    role: str | None
    state: str | None
    seconds: float | None
    waiting: int


# pg_blocking_pids takes Postgres' lock table for a moment, so it is asked only about sessions that wait for a lock.
# A prepared transaction has the pid 0, and no session.
BLOCKING = Statement(
    """
    WITH held_up AS MATERIALIZED (
      SELECT pid, pg_blocking_pids(pid) AS behind FROM pg_stat_activity
      WHERE datname = current_database() AND pid IN (SELECT pid FROM pg_locks WHERE NOT granted)
    )
    SELECT blocking.pid, nullif(session.application_name, '') AS application_name,
           CAST(session.usename AS text) AS role, session.state,
           CAST(extract(epoch FROM clock_timestamp() - session.state_change) AS double precision) AS seconds,
           count(DISTINCT held_up.pid) AS waiting
    FROM held_up
    CROSS JOIN unnest(behind) AS blocking (pid)
    LEFT JOIN pg_stat_activity AS session ON session.pid = blocking.pid
    WHERE blocking.pid NOT IN (SELECT pid FROM held_up)
    GROUP BY 1, 2, 3, 4, 5
    ORDER BY waiting DESC, blocking.pid
    """
)


async def read_blocking(session: Session) -> list[BlockingSession]:
    """Return the sessions that hold up others of this database, the one with most behind it first."""
    return [BlockingSession(**row) for row in await BLOCKING.rows(session)]
