"""ticket-inbox import: how are tickets imported that were resolved before the first webhook?"""

import contextlib
import os
import sys
from collections.abc import Iterator
from datetime import timedelta
from io import BufferedReader
from typing import TYPE_CHECKING, Self

import click

from app import hints
from app import settings as environment
from app.commands import sdp, terminal
from app.commands.options import CENTURY, Duration
from app.commands.progress import Ticker
from app.settings import uses

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncConnection

    from app.importing.append import ImportedFile, Tally
    from app.importing.ticket_file import Line, Lines
    from app.settings import Settings
    from db.inbox import Delivery

STATEMENT = 60.0  # seconds that one may take: Postgres may be busy, and no sender waits for an answer


@click.command(name="import")
@click.option("--tenant", "tenant_id", metavar="ID", required=True, help="The tenant that the tickets belong to.")
@click.option("--file", type=click.File("rb"), help="JSON lines or CSV, in UTF-8; `-` reads standard input.")
@click.option(
    "--since",
    type=Duration(days=CENTURY),
    help="Instead of a file: how far back to import from ServiceDesk Plus, by last update, such as 2y.",
)
@click.option("--format", "form", type=click.Choice(["jsonl", "csv"]), help="Unless the file's name says it.")
@click.option(
    "--max-errors", metavar="N", type=click.IntRange(min=0), help="Stop when more than N lines are bad, not at the end."
)
@click.option("--dry-run", is_flag=True, help="Only report which lines are bad; asks no database.")
@click.option("--again", is_flag=True, help="Append every line, also those of this file that the inbox has already.")
@click.option(
    "--no-wait", is_flag=True, help="Do not wait when promotion falls behind, nor for another import of this file."
)
def import_(  # noqa: PLR0913  (one for each option)
    *,
    tenant_id: str,
    file: BufferedReader | None,
    since: timedelta | None,
    form: str | None,
    max_errors: int | None,
    dry_run: bool,
    again: bool,
    no_wait: bool,
) -> None:
    """Import tickets from a file, or from ServiceDesk Plus' API, through the inbox; webhooks go first.

    A bad line is reported and skipped, and makes the command exit 1. If it is interrupted, run the same command again:
    it appends what is not there. One import of a file runs at a time. docs/bulk-import.md shows both formats.
    """
    from app.event.rules import Rules  # noqa: PLC0415
    from app.importing import append, ticket_file  # noqa: PLC0415

    if since is not None:
        if any((file, form, max_errors is not None, dry_run, again, no_wait)):
            raise click.UsageError("--since takes no other option but --tenant")
        sdp.import_since(tenant_id, since)
        return
    if file is None:
        raise click.UsageError("give --file, or --since")
    if not (form := form or ticket_file.format_of(file.name)):
        raise click.UsageError("the file's name does not end in .jsonl, .ndjson or .csv: give --format")
    settings = environment.load_or_exit(uses.EVENTS | {"max_body_bytes"} | (frozenset() if dry_run else uses.DATABASE))
    tally = append.Tally(most_skipped=max_errors)
    with _errors_in_one_line(tally):
        where = append.imported_file(tenant_id, None if dry_run else ticket_file.fingerprint(file))
        lines = ticket_file.Lines(file, settings.max_body_bytes)
        found = ticket_file.payloads(lines, form, tenant_id, settings.max_body_bytes)
        with Progress(file, lines, tally, "good" if dry_run else "appended") as progress:
            given = append.batches(found, where, tally, Rules.of(settings), progress.report_bad_line)
            if dry_run:
                tally.appended = sum(len(batch) for batch in progress.shown(given))
            else:
                _append(where, progress, given, again=again, waits=not no_wait)
    _conclude(tally, dry_run=dry_run)


def _append(
    where: "ImportedFile", progress: "Progress", given: "Iterator[list[Delivery]]", *, again: bool, waits: bool
) -> None:
    from app.commands import on_database  # noqa: PLC0415
    from app.importing import append  # noqa: PLC0415

    on_held, on_stuck = (progress.report_held, progress.report_stuck) if waits else (None, None)

    async def act(connection: "AsyncConnection", settings: "Settings") -> None:
        async with append.turn(settings.database_url, connection, where, on_held) as lease:
            is_known = await append.is_known(connection, where) and not again
            if is_known:
                progress.print_line("the inbox has lines of this file: they are passed over (unless --again)")
            await append.append(connection, progress.shown(given), progress.tally, on_stuck, lease, is_known=is_known)

    on_database.run(act, STATEMENT)


class Progress:
    """Shows on standard error how far an import has come: by a bar on a terminal, else by a line every ten seconds."""

    def __init__(self, file: BufferedReader, lines: "Lines", tally: "Tally", done: str) -> None:
        self.tally, self._lines, self._shown = tally, lines, 0
        is_drawn = sys.stderr.isatty() and file.seekable()
        size = os.fstat(file.fileno()).st_size if is_drawn else 0
        self._bar = click.progressbar(length=size, label="import", file=sys.stderr) if is_drawn else None
        self._ticker = Ticker(lambda: _counts(tally, done))

    def __enter__(self) -> Self:
        (self._bar or self._ticker).__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        (self._bar or self._ticker).__exit__(None, None, None)

    def shown(self, given: "Iterator[list[Delivery]]") -> "Iterator[list[Delivery]]":
        """Yield the batches, and after each show how far the import has come."""
        for batch in given:
            yield batch
            if self._bar:
                self._bar.update(self._lines.bytes_read - self._shown)
                self._shown = self._lines.bytes_read

    def print_line(self, words: str) -> None:
        """Print a line in the bar's place; the next update draws the bar again below it."""
        terminal.echo(words, err=True, over_bar=bool(self._bar))

    def report_bad_line(self, line: "Line", error: str) -> None:
        """Print which line is skipped, and why."""
        self.print_line(f"line {line.number}" + (f" to {line.last}" if line.last > line.number else "") + f": {error}")

    def report_held(self, holder: str) -> None:
        """Print that another import of the file is under way, and which process runs it."""
        self.print_line(f"another import of this file is under way, by {holder}: waiting for its end")

    def report_stuck(self, rows: int) -> None:
        """Print that promotion does not catch up, and how many rows wait."""
        see = hints.as_typed("`ticket-inbox status`")
        self.print_line(f"waiting: about {rows:,} rows are to be promoted first. Is a worker alive? See {see}")


@contextlib.contextmanager
def _errors_in_one_line(tally: "Tally") -> Iterator[None]:
    """Convert what ends an import early to a one-line ClickException, which says how to go on."""
    from app.importing import append, ticket_file  # noqa: PLC0415
    from db.leases import HeldError, LostError  # noqa: PLC0415

    how = "run the same command again, and it appends what is not there"
    try:
        yield
    except ticket_file.FileError as error:
        raise click.ClickException(str(error)) from None
    except append.UnknownTenantError:
        raise click.ClickException("there is no such tenant: see `ticket-inbox tenant list`") from None
    except HeldError as held:
        raise click.ClickException(
            f"another import of this file is under way, by {held}: wait for its end, and run this again"
        ) from None
    except LostError as lost:
        raise click.ClickException(f"{lost}; {tally.appended:,} lines were appended: {how}") from None
    except click.ClickException as error:
        raise click.ClickException(f"{error.message}; {tally.appended:,} lines were appended: {how}") from None
    except (KeyboardInterrupt, append.InterruptedImportError):
        raise terminal.Interrupted(f"interrupted; {tally.appended:,} lines were appended: {how}") from None


def _conclude(tally: "Tally", *, dry_run: bool) -> None:
    """Print the counts. Raises ClickException if a line was skipped."""
    terminal.echo(_counts(tally, "good" if dry_run else "appended"))
    if tally.is_stopped:
        raise click.ClickException(f"stopped: more than {tally.most_skipped:,} lines are bad (--max-errors)")
    if tally.skipped:
        raise click.ClickException("bad lines were skipped: mend them, and import them again, or the whole file")


def _counts(tally: "Tally", done: str) -> str:
    before = f"{tally.before:,} there before, " if tally.before else ""
    return f"{tally.read:,} lines read: {before}{tally.appended:,} {done}, {tally.skipped:,} skipped"
