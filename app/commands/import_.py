"""ticket-inbox import: what was resolved before the first webhook."""

import contextlib
import os
import sys
import time
from collections.abc import Iterator
from datetime import timedelta
from io import BufferedReader
from typing import TYPE_CHECKING, Self

import click

from app import settings as environment
from app.commands import sdp
from app.commands.options import CENTURY, Duration

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncConnection

    from app.importing.append import ImportedFile, Tally
    from app.importing.ticket_file import Line, Lines
    from app.settings import Settings
    from db.inbox import Delivery

STATEMENT = 60.0  # seconds that one may take: Postgres may be busy, and nobody waits for an answer
TOLD_EVERY = 60.0  # seconds, where there is no terminal to draw a bar on
CLEAR = "\r\x1b[K"  # what a bar left on the terminal's line


@click.command(name="import")
@click.option("--tenant", "tenant_id", metavar="ID", required=True, help="Whose tickets these are.")
@click.option("--file", type=click.File("rb"), help="JSON lines or CSV, in UTF-8; `-` reads standard input.")
@click.option(
    "--since",
    type=Duration(days=CENTURY),
    help="Instead of a file: what ServiceDesk Plus itself has updated since so long ago, such as 2y.",
)
@click.option("--format", "form", type=click.Choice(["jsonl", "csv"]), help="Unless the file's name tells it.")
@click.option(
    "--max-errors", metavar="N", type=click.IntRange(min=0), help="Stop when more than N lines are bad, not at the end."
)
@click.option("--dry-run", is_flag=True, help="Only tell which lines are bad; asks no database.")
@click.option("--again", is_flag=True, help="Append every line, also those that the inbox has of this file.")
@click.option("--no-wait", is_flag=True, help="Do not wait where promotion falls behind.")
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
    """Bring tickets of a file, or of ServiceDesk Plus' API, into ticket_history, through the inbox; webhooks go first.

    A bad line is told and skipped, and makes it exit 1. After it was interrupted, run the same command again: it
    appends what is not there. docs/bulk-import.md shows both formats.
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
    settings = environment.load_or_exit(secrets_key=not dry_run)
    tally = append.Tally(most_skipped=max_errors)
    with _told(tally):
        where = append.imported_file(tenant_id, None if dry_run else ticket_file.fingerprint(file))
        lines = ticket_file.Lines(file, settings.max_body_bytes)
        found = ticket_file.payloads(lines, form, tenant_id, settings.max_body_bytes)
        with Progress(file, lines, tally) as progress:
            given = append.batches(found, where, tally, Rules.of(settings), progress.tell_bad)
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

    async def act(connection: "AsyncConnection", _settings: "Settings") -> None:
        is_known = await append.is_known(connection, where) and not again
        if is_known:
            progress.tell("the inbox has lines of this file: they are passed over (unless --again)")
        tell_stuck = progress.tell_stuck if waits else None
        await append.append(connection, progress.shown(given), progress.tally, tell_stuck, is_known=is_known)

    on_database.run(act, STATEMENT)


class Progress:
    """What is seen of an import while it runs, on standard error: a bar on a terminal, else now and then a line."""

    def __init__(self, file: BufferedReader, lines: "Lines", tally: "Tally") -> None:
        self.tally, self._lines, self._shown, self._told_at = tally, lines, 0, time.monotonic()
        is_drawn = sys.stderr.isatty() and file.seekable()
        size = os.fstat(file.fileno()).st_size if is_drawn else 0
        self._bar = click.progressbar(length=size, label="import", file=sys.stderr) if is_drawn else None

    def __enter__(self) -> Self:
        if self._bar:
            self._bar.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar:
            self._bar.__exit__(None, None, None)

    def shown(self, given: "Iterator[list[Delivery]]") -> "Iterator[list[Delivery]]":
        """Give the batches, and show how far they have come."""
        for batch in given:
            yield batch
            if self._bar:
                self._bar.update(self._lines.bytes_read - self._shown)
                self._shown = self._lines.bytes_read
            elif time.monotonic() - self._told_at > TOLD_EVERY:
                self.tell(_counts(self.tally))
                self._told_at = time.monotonic()

    def tell(self, words: str) -> None:
        """Write a line; what is left of a bar is drawn anew below it."""
        click.echo(f"{CLEAR if self._bar else ''}{words}", err=True)

    def tell_bad(self, line: "Line", error: str) -> None:
        """Tell a line that is skipped, and why."""
        self.tell(f"line {line.number}" + (f" to {line.last}" if line.last > line.number else "") + f": {error}")

    def tell_stuck(self, rows: int) -> None:
        """Tell that promotion does not catch up."""
        self.tell(
            f"waiting: about {rows:,} rows are to be promoted first. Is a worker alive? See `ticket-inbox status`"
        )


@contextlib.contextmanager
def _told(tally: "Tally") -> Iterator[None]:
    """Turn what ends an import early into a click error of one line, which says how it goes on."""
    from app.importing import append, ticket_file  # noqa: PLC0415

    how = "run the same command again, and it appends what is not there"
    try:
        yield
    except ticket_file.FileError as error:
        raise click.ClickException(str(error)) from None
    except append.UnknownTenantError:
        raise click.ClickException("there is no such tenant: see `ticket-inbox tenant list`") from None
    except click.ClickException as error:
        raise click.ClickException(f"{error.message}; {tally.appended:,} lines were appended: {how}") from None
    except (KeyboardInterrupt, append.InterruptedImportError):
        raise click.ClickException(f"interrupted; {tally.appended:,} lines were appended: {how}") from None


def _conclude(tally: "Tally", *, dry_run: bool) -> None:
    """Sum up. Raises click's error where a line was skipped."""
    click.echo(_counts(tally, "good" if dry_run else "appended"))
    if tally.is_stopped:
        raise click.ClickException(f"stopped: more than {tally.most_skipped:,} lines are bad (--max-errors)")
    if tally.skipped:
        raise click.ClickException("bad lines were skipped: mend them, and import them again, or the whole file")


def _counts(tally: "Tally", done: str = "appended") -> str:
    before = f"{tally.before:,} there before, " if tally.before else ""
    return f"{tally.read:,} lines read: {before}{tally.appended:,} {done}, {tally.skipped:,} skipped"
