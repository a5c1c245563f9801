"""ticket-inbox reconcile, ticket-inbox import --since: which tickets does ServiceDesk Plus have that we lack?"""

import contextlib
import sys
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import click

from app import hints
from app import settings as environment
from app.commands import terminal
from app.commands.options import CENTURY, Duration, checked_tenant_id
from app.commands.progress import Ticker
from app.settings import uses

if TYPE_CHECKING:
    from app.sdp.summary import Summary

WORDS = {
    "seen": "resolved tickets seen",
    "already_there": "were there already",
    "appended": "appended to the inbox",
    "rejected": "appended as rejected: they break a rule, see `ticket-inbox status`",
    "gone": "deleted, or opened again, meanwhile",
    "failed": "could not be fetched",
    "named": "that were there already got their display id",
    "archived": "of those that were appended come from the archive",
}


@click.command()
@click.option(
    "--tenant", "tenant_id", metavar="ID", required=True, callback=checked_tenant_id, help="The tenant to reconcile."
)
@click.option(
    "--since",
    type=Duration(days=CENTURY),
    help="How far back to look by the time of the last update, such as 2d; the cursor stays where it is. "
    "Without it, go on where the last run ended.",
)
@click.option("--dry-run", is_flag=True, help="Only ask: append nothing, and leave the cursor where it is.")
def reconcile(tenant_id: str, since: timedelta | None, *, dry_run: bool) -> None:
    """Append the resolved tickets that ServiceDesk Plus has and ticket_history lacks or has older.

    Workers do so every five minutes. Exits 1 when it stops early.
    """
    settings = environment.load_or_exit(uses.RECONCILE)
    import asyncio  # noqa: PLC0415  (slows down --help, as everything here)

    from app.sdp import reconcile as runs  # noqa: PLC0415

    begin = datetime.now(UTC) - since if since is not None else None
    with _errors_in_one_line(), progress() as on_progress:
        summary = asyncio.run(runs.reconcile(settings, tenant_id, since=begin, is_dry=dry_run, on_progress=on_progress))
    print_summary(summary, is_dry=dry_run)


def import_since(tenant_id: str, since: timedelta) -> None:
    """Append the tickets updated in ServiceDesk Plus within the time `since`, and print how many had which outcome."""
    settings = environment.load_or_exit(uses.RECONCILE)
    import asyncio  # noqa: PLC0415

    from app.sdp import reconcile as runs  # noqa: PLC0415

    with _errors_in_one_line(), progress() as on_progress:
        begin = datetime.now(UTC) - since
        summary = asyncio.run(
            runs.import_since(settings, tenant_id, begin, on_progress=on_progress, on_pause=print_pause)
        )
    print_summary(summary)


def print_summary(summary: "Summary", *, is_dry: bool = False) -> None:
    """Print how many tickets of a run had which outcome. Raises ClickException if the run stopped early."""
    if summary.passed_over or summary.put_off:  # else each that was listed is one that was seen
        terminal.echo(f"{summary.listed:>8,}  listed: {summary.statuses()}")
    more = {"archived": summary.archived, "named": summary.named}
    counts = summary.counts() | {name: count for name, count in more.items() if count}
    for name, count in counts.items():
        words = WORDS[name].replace("appended", "would be appended") if is_dry else WORDS[name]
        terminal.echo(f"{count:>8,}  {hints.as_typed(words)}")
    for remark in map(hints.as_typed, (*summary.remarks, *summary.passed_as_done())):
        terminal.echo(f"Note: {remark}.", err=True)
    if summary.error:
        words = summary.error if summary.error.endswith("?") else f"{summary.error}."
        raise click.ClickException(f"{words} Run it again: it goes on from there")


def print_pause(reason: str, until: datetime) -> None:
    """Print on standard error why the command waits, and until when; a bar is drawn again below it."""
    terminal.echo(
        f"{reason}: waiting until {until.astimezone(UTC):%H:%M:%S} UTC, then it goes on",
        err=True,
        over_bar=sys.stderr.isatty(),
    )


@contextlib.contextmanager
def progress() -> Iterator[Callable[["Summary"], None]]:
    """Show on standard error how far a run has come: by a bar on a terminal, else by a line every ten seconds.

    Yields the callback that takes its summaries.
    """
    shown: list[Summary] = []  # the last one, to which the run adds
    is_drawn = sys.stderr.isatty()
    ticker = contextlib.nullcontext() if is_drawn else Ticker(lambda: _so_far(shown))
    with ticker, click.progressbar(length=0, label="Tickets", file=sys.stderr, hidden=not is_drawn) as bar:

        def on_progress(summary: "Summary") -> None:
            shown[:] = [summary]
            bar.length = max(summary.total, summary.listed)
            bar.update(summary.listed - bar.pos)

        yield on_progress


def _so_far(shown: "Sequence[Summary]") -> str:
    if not shown:
        return "waiting for ServiceDesk Plus"
    listed = f"{shown[0].listed:,}" + (f" of {shown[0].total:,}" if shown[0].total else "")
    return f"{listed} tickets listed, {shown[0].appended:,} appended to the inbox"


@contextlib.contextmanager
def _errors_in_one_line() -> Iterator[None]:
    """Convert known errors to a one-line ClickException."""
    from app.commands.on_database import errors_in_one_line  # noqa: PLC0415
    from app.sdp.reconcile import NotReconciledError  # noqa: PLC0415

    with errors_in_one_line():
        try:
            yield
        except NotReconciledError as error:
            raise click.ClickException(str(error)) from None
