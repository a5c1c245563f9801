"""ticket-inbox reprocess: which inbox rows go back to work, and what became of them?"""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import click

from app import hints
from app.commands import terminal

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncConnection

    from db.selection import Selection

STATUSES = ("pending", "promoted", "failed", "rejected")  # those of db/selection.py, which --help has no time to import
TIMEOUT = 60.0  # seconds for one statement; a window takes milliseconds
HIGHEST_ID = 2**63 - 1


class Moment(click.ParamType[datetime]):
    """An ISO 8601 date and time with its zone, such as 2026-01-31T10:30:00Z."""

    name = "time"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> datetime:
        """Return the time in UTC. Raises a usage error if it is none, or has no zone."""
        try:
            read = datetime.fromisoformat(str(value))
            in_utc = read.astimezone(UTC)
        except (ValueError, OverflowError):
            self.fail(f"{value!r} is no time like 2026-01-31T10:30:00Z or 2026-01-31T10:30+01:00", param, ctx)
        if read.tzinfo is None:
            self.fail(f"{value!r} has no zone: {read.isoformat()}Z is that time in UTC", param, ctx)
        return in_utc


@click.command()
@click.option(
    "--id",
    "ids",
    metavar="ID",
    type=click.IntRange(1, HIGHEST_ID),
    multiple=True,
    help="An inbox row, by the number that `trace` begins its line with; may be repeated.",
)
@click.option("--status", type=click.Choice(STATUSES), help="Rows of this status.")
@click.option("--tenant", "tenant_id", metavar="ID", help="Rows of this tenant.")
@click.option(
    "--ticket", "ticket_id", metavar="ID", help="Rows of this ticket, by its id or its display id; needs --tenant."
)
@click.option("--after", metavar="TIME", type=Moment(), help="Received at this time, which has a zone, or later.")
@click.option("--before", metavar="TIME", type=Moment(), help="Received before this time.")
@click.option("--dry-run", is_flag=True, help="Only count the rows.")
@click.option("--no-wait", is_flag=True, help="Print the job's id, and do not wait for it.")
@click.option(
    "--cancel",
    "cancelled",
    metavar="JOB",
    type=click.IntRange(1, HIGHEST_ID),
    help="Instead: stop this job after its present chunk. What it has promoted stays.",
)
def reprocess(  # noqa: PLR0913  (one for each option)
    *,
    ids: Sequence[int],
    status: str | None,
    tenant_id: str | None,
    ticket_id: str | None,
    after: datetime | None,
    before: datetime | None,
    dry_run: bool,
    no_wait: bool,
    cancelled: int | None,
) -> None:
    """Put inbox rows back to work: those that match all filters, at least one.

    Each is promoted as if it had just come in; one that was rejected is validated again. A worker does it; this
    command waits, and prints what became of the rows. Exits 1 if some failed, or were rejected, again.
    """
    from db.selection import Selection  # noqa: PLC0415

    chosen = Selection(
        inbox_ids=sorted(set(ids)) or None,
        status=status,
        tenant_id=tenant_id,
        ticket_id=ticket_id,
        received_after=after,
        received_before=before,
    )
    if cancelled is not None:
        _cancel(cancelled, takes_more=chosen != Selection() or dry_run or no_wait)
        return
    _refuse(chosen, is_empty=chosen == Selection())
    rows = _matching(chosen)
    if dry_run or not rows:
        terminal.echo("Nothing was changed.")
        return
    _reprocess(chosen, rows, waits=not no_wait)


def _refuse(chosen: "Selection", *, is_empty: bool) -> None:
    """Raise a usage error for filters that cannot be meant."""
    if is_empty:
        raise click.UsageError("say which rows, by at least one of --id, --status, --tenant, --after and --before")
    if chosen.ticket_id is not None and chosen.tenant_id is None:
        raise click.UsageError("--ticket needs --tenant: another tenant's ticket may have the same id or display id")
    if chosen.received_after and chosen.received_before and chosen.received_after >= chosen.received_before:
        raise click.UsageError("--after is not before --before, so nothing was received between them")


def _matching(chosen: "Selection") -> int:
    """Print how many rows match, by status, and return the sum. Raises a usage error for an unknown tenant."""
    from app.commands import on_database  # noqa: PLC0415

    counts = on_database.run(lambda connection, _settings: _count(connection, chosen), TIMEOUT)
    rows = sum(counts.values())
    by_status = ", ".join(f"{counts[status]:,} {status}" for status in STATUSES if counts.get(status))
    terminal.echo(f"{rows:,} inbox {'row matches' if rows == 1 else 'rows match'}{by_status and f': {by_status}'}")
    return rows


async def _count(connection: "AsyncConnection", chosen: "Selection") -> Mapping[str, int]:
    from db import selection, tenants  # noqa: PLC0415

    if chosen.tenant_id is not None and not await tenants.is_known(connection, chosen.tenant_id):
        raise click.UsageError(f"there is no tenant {chosen.tenant_id!r}: see `ticket-inbox tenant list`")
    if chosen.tenant_id is not None and chosen.ticket_id is not None:
        await _name(connection, chosen.tenant_id, chosen.ticket_id)
    counts: dict[str, int] = {}
    with terminal.Progress("counting, %", 100) as progress:
        async for within, share in selection.windows(connection, chosen):
            for status, rows in (await selection.count(connection, chosen, within)).items():
                counts[status] = counts.get(status, 0) + rows
            if share < 1:  # nothing is shown where one look was enough
                progress.show(int(100 * share))
    return counts


async def _name(connection: "AsyncConnection", tenant_id: str, given: str) -> None:
    """Print which tickets people know by the number that was given, where their ids are others."""
    from db import display_ids, inbox  # noqa: PLC0415

    found = (await display_ids.tickets(connection, tenant_id, [given])).get(given, ())
    others = [one for one in found if one != given]
    if others:
        also = " also" if await inbox.has_ticket(connection, tenant_id, given) else ""
        tickets = "ticket" if len(others) == 1 else "tickets"
        terminal.echo(f"{given} is{also} the display id of {tickets} {' and '.join(others)}.")


def _reprocess(chosen: "Selection", rows: int, *, waits: bool) -> None:
    from app.commands import on_database, reprocess_job  # noqa: PLC0415
    from db import reprocessing  # noqa: PLC0415

    arguments = {**_as_arguments(chosen), "keep": True}
    job_id = on_database.run(lambda connection, _settings: reprocessing.defer(connection, arguments))
    terminal.echo(f"Job {job_id} reprocesses {'it' if rows == 1 else 'them'}.")
    if waits:
        reprocess_job.wait(job_id, rows)
    elif not on_database.run(lambda connection, _settings: reprocessing.read_job(connection, job_id)).workers_alive:
        terminal.echo(hints.as_typed("Warning: no worker is alive: start `ticket-inbox worker`"), err=True)


def _as_arguments(chosen: "Selection") -> dict[str, object]:
    """Return a selection as the task takes it (docs/operations.md)."""
    given = {name: getattr(chosen, name) for name in chosen.__struct_fields__}
    return {name: value for name, value in given.items() if value is not None}


def _cancel(job_id: int, *, takes_more: bool) -> None:
    from app.commands import on_database  # noqa: PLC0415
    from db import reprocessing  # noqa: PLC0415

    if takes_more:
        raise click.UsageError("--cancel takes no other option")
    if not on_database.run(lambda connection, _settings: reprocessing.cancel(connection, job_id)):
        raise click.ClickException(f"no reprocess job {job_id} waits or runs: it has ended, or there is none")
    terminal.echo(f"Job {job_id} stops after its present chunk; what it has promoted stays.")
