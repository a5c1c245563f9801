"""How does a command wait for its `reprocess` job, and what does it print of its end?"""

import asyncio
import shlex
import time
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import click
from sqlalchemy.ext.asyncio import AsyncEngine

from app import hints
from app.commands import on_database, terminal
from db import engine as database
from db import failures, reprocessing
from db.reprocessing import JobSeen, NotPromoted, Reason

PATIENCE = 60.0  # seconds without a worker, or without Postgres, after which the command ends; the job does not
SHORTEST, LONGEST = 0.1, 1.0  # seconds between two looks at the job
TIMEOUT = 10.0  # seconds for one of them
MOST = 10  # reasons, and rows, that are printed
WORDS = {
    "inserted": "promoted (inserted)",
    "updated": "promoted (updated)",
    "stale": "promoted (stale: something newer is stored)",
}
LAST = ("failed", "rejected")


class Ended(NamedTuple):
    """A job that has ended, and what is to be said of the rows that it could not promote."""

    job: JobSeen
    reasons: Sequence[Reason] = ()
    rows: Sequence[NotPromoted] = ()


def wait(job_id: int, rows: int) -> None:
    """Wait until the job has ended, show meanwhile how far of `rows` it is, and print what became of them.

    Raises ClickException if some were not promoted, if there is no worker, or none of Postgres, for PATIENCE seconds,
    and Interrupted at Ctrl-C; the job goes on then.
    """
    try:
        with terminal.Progress("reprocessed", rows) as progress:
            ended = on_database.run_long(lambda engine: _Follower(engine, job_id, progress).follow(), TIMEOUT)
    except KeyboardInterrupt:
        raise terminal.Interrupted(f"interrupted, but job {job_id} goes on; {_cure(job_id)}") from None
    terminal.echo(*_lines(ended, rows))
    if trouble := _trouble(ended, job_id):
        raise click.ClickException(trouble)


class _Follower:
    """Looks at a job until it ends."""

    def __init__(self, engine: AsyncEngine, job_id: int, progress: terminal.Progress) -> None:
        self._engine, self._job_id, self._progress = engine, job_id, progress
        self._alone_since: float | None = None  # when no worker was alive
        self._away_since: float | None = None  # when Postgres did not answer

    async def follow(self) -> Ended:
        pause = SHORTEST
        while True:
            if (job := await self._look()) and (job.status is None or job.status in reprocessing.ENDED):
                return await self._conclude(job)
            await asyncio.sleep(pause)
            pause = min(2 * pause, LONGEST)

    async def _look(self) -> JobSeen | None:
        """Return how far the job is, and show it; None while Postgres is away. Raises ClickException past PATIENCE."""
        try:
            async with database.connection(self._engine) as connection:
                job = await reprocessing.read_job(connection, self._job_id)
        except failures.DatabaseError as error:
            self._is_away(failures.explain(error))
            return None
        self._away_since = None
        self._progress.show(job.rows)
        self._look_for_workers(job)
        return job

    async def _conclude(self, job: JobSeen) -> Ended:
        if not any(job.outcomes.get(status) for status in LAST):
            return Ended(job)
        async with database.connection(self._engine) as connection:
            reasons = await reprocessing.read_reasons(connection, self._job_id, MOST)
            return Ended(job, reasons, await reprocessing.read_not_promoted(connection, self._job_id, MOST))

    def _is_away(self, why: str) -> None:
        if self._away_since is None:
            self._away_since = time.monotonic()
            self._progress.print_line(hints.as_typed(f"Warning: {why}"))
        elif time.monotonic() - self._away_since > PATIENCE:
            raise click.ClickException(f"{why} Job {self._job_id} goes on when Postgres does; {_cure(self._job_id)}")

    def _look_for_workers(self, job: JobSeen) -> None:
        if job.workers_alive or job.status in reprocessing.ENDED:
            self._alone_since = None
        elif self._alone_since is None:
            self._alone_since = time.monotonic()
            words = f"no worker is alive: start `ticket-inbox worker`; job {self._job_id} waits for one"
            self._progress.print_line(hints.as_typed(f"Warning: {words}, this command for {PATIENCE:.0f} s"))
        elif time.monotonic() - self._alone_since > PATIENCE:
            words = (
                f"no worker was alive for {PATIENCE:.0f} s: start `ticket-inbox worker`, which does job {self._job_id}"
            )
            raise click.ClickException(f"{words}; {_cure(self._job_id)}")


def _cure(job_id: int) -> str:
    return f"`ticket-inbox reprocess --cancel {job_id}` stops it"


def _lines(ended: Ended, rows: int) -> Iterator[str]:
    outcomes = ended.job.outcomes
    for name in sorted(outcomes, key=lambda one: (one in LAST, one)):
        yield f"{outcomes[name]:>12,}  {WORDS.get(name, name)}"
    if ended.job.status == "succeeded" and (others := max(rows, ended.job.rows) - sum(outcomes.values())) > 0:
        yield f"{others:>12,}  were not there any more, or are another job's"
    for reason in ended.reasons:
        yield f"{reason.status}, {reason.rows:,} of them: {reason.error or 'no reason is known'}"
    for row in ended.rows:
        yield f"  {_trace_command(row)}"
    if (more := sum(outcomes.get(status, 0) for status in LAST) - len(ended.rows)) > 0 and ended.rows:
        yield f"  and {more:,} more"


def _trace_command(row: NotPromoted) -> str:
    """Return what to type to see the row's life; an id that a terminal cannot show is left out."""
    ticket_id = row.ticket_id or ""
    if not (ticket_id.isprintable() and row.tenant_id.isprintable() and ticket_id.strip()):
        return f"{hints.command()} trace {row.correlation_id}"
    ends_options = "-- " if ticket_id.startswith("-") else ""
    return f"{hints.command()} trace --tenant {shlex.quote(row.tenant_id)} {ends_options}{shlex.quote(ticket_id)}"


def _trouble(ended: Ended, job_id: int) -> str | None:
    """Return in one line what went wrong; None if every row was promoted."""
    job = ended.job
    if job.status is None:
        return f"job {job_id} is gone, and nobody knows what it did: see `ticket-inbox status`"
    if job.status == "failed":
        return f"job {job_id} failed: {job.outcome or 'see what the workers log'}"
    if job.status != "succeeded":
        return f"job {job_id} was cancelled after {job.rows:,} rows; what it has promoted stays"
    if count := sum(job.outcomes.get(status, 0) for status in LAST):
        rows = "row was" if count == 1 else "rows were"
        return f"{count:,} {rows} not promoted: mend what the reasons name, then reprocess again"
    return None
